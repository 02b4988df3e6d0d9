// Kernels that work on many networks of one shape side by side: lane j of every vector is network j.
//
// Layout. A group of `lanes` networks (one vector of the instruction set) shares a plan. A value is stored as
// [rows][features][lanes], a parameter as [rows][cols][lanes]: every network does the arithmetic that it does
// alone (kernels.h), in its own lane. Elementwise kernels of kernels.h serve as they are, with rows as groups;
// here are those whose operands are scalars there and differ from network to network here.
#pragma once

#include "kernels.h"

namespace alexandra {

// C[m][n] = start[m] + sum over k, in order, of A[m][k] * B[k][n], per lane, or C + that sum when `accumulate`.
// Strides are in floats. `used` masks steps of k per lane ([k][lanes], all bits or none), or is null.
struct CrewProduct {
    int m, n, k;
    const float* a;
    ptrdiff_t a_m, a_k;
    const float* b;
    ptrdiff_t b_k, b_n;
    float* c;
    ptrdiff_t c_m, c_n;
    const float* start;  // [m][lanes], or null for 0
    bool accumulate;
    bool relu;
    const float* gate;  // laid out like C, or null
    const int32_t* used;
};

// out[f] (+)= sum over groups and rows, striped by row, of dy, or of dy * (x - mean) * scale when x is not null.
struct LaneSums {
    int rows, groups, width;
    const float* dy;
    const float* x;
    const float* mean;   // null: 0
    const float* scale;
    ptrdiff_t saved_step;  // floats between the values of one (row, group) of mean and scale and the next
    float* out;
    bool accumulate;
};

struct LaneLoss {
    int rows, groups, width;
    const float* x;
    const float* targets;   // [rows][groups * width][lanes], or int32 classes [rows][groups][lanes]
    const int32_t* used;    // [rows][lanes], or null when every lane has all rows
    float smoothing, scale_loss;
    const float* scale_grad;  // [lanes]
    float* dx;                // may be null
    bool accumulate;
    float* loss;              // [rows][lanes], added to
};

// A norm over the last axis of `vectors` = rows * groups vectors; saved as in kernels.h, [vectors][2 or 1][lanes].
struct LaneNorm {
    int vectors, width;
    const float* x;
    const float* gain;  // [width][lanes]
    const float* bias;  // null: rmsnorm
    float* saved;
    float eps;
};

// AdamStep or SgdStep per lane; `live` is a mask of the lanes that take the step, or null for all.
struct LaneStep {
    const float *beta1, *rest1, *beta2, *rest2, *rate, *inverse_root, *eps, *keep, *l2, *scale;  // [lanes] each
    const float* l1;  // null: none
    const int32_t* live;
};

struct LaneKernels {
    void (*product)(const CrewProduct&);
    void (*row_sums)(const LaneSums&);
    void (*norm_forward)(const LaneNorm&, float* y);
    void (*norm_backward)(const LaneNorm&, const float* dy, float* dx, bool accumulate);
    void (*cross_entropy)(const LaneLoss&);
    void (*binary_cross_entropy)(const LaneLoss&);
    void (*squared_error)(const LaneLoss&);
    // n parameters of each network; `beta1` of the LaneStep is SGD's momentum.
    void (*adam)(size_t n, float* w, const float* g, float* m, float* v, const LaneStep&);
    void (*sgd)(size_t n, float* w, const float* g, float* m, const LaneStep&);
    // out[row][lane] = the striped sum of squares of each row of a parameter
    void (*square_sums)(int rows, int cols, const float* g, float* out);
    // sums[lane] += loss[r][lane] over its rows, in order, in float64
    void (*add_rows)(int rows, const float* loss, const int32_t* used, double* sums);
    // dst[row][f][lane] = base[offsets[lane] + order[row][lane] * features + f]
    void (*gather)(int rows, int features, const float* base, const int32_t* offsets, const int32_t* order,
                   float* dst);
    // order ([n][lanes]) = the Fisher-Yates shuffle of rng.Stream.permutation of every lane.
    void (*shuffle)(int n, const uint64_t* keys, const uint64_t* nonces, const uint32_t* epochs, int32_t* order);
};

// The kernels of the instruction set of `kernels`; lanes are kernels.vector_floats.
const LaneKernels& lane_kernels(const Kernels& kernels);

}  // namespace alexandra
