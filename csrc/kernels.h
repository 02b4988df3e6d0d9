// The kernels of one instruction set, as a table of functions over plain memory.
//
// Layout. A batch is cut into blocks of `lanes` rows (16 or 32); a value with F features is stored per block as
// a slab [F][lanes], so that every kernel works on rows side by side and a row never meets its neighbour. All
// slabs are 64-byte aligned. A value with leading axes is a slab of `groups` x `width` features.
//
// Arithmetic. An element of a matrix product accumulates k in order by fused multiply-add (portable builds without
// one: a product, then a sum), but where the call frees it from that (`scratch`) and the processor has matrix tiles
// (amx/product.cpp). Every other sum over n terms has 16 striped accumulators, term i into accumulator i % 16, joined
// by a fixed tree: s[j] += s[j + 8], then 4, 2, 1. Nothing depends on `lanes`, on the number of rows, or on which
// thread does what. Subnormal numbers count as 0 (float_mode.h).
#pragma once

#include <cstddef>
#include <cstdint>

namespace alexandra {

constexpr int kStripes = 16;     // accumulators of every striped sum, and floats per 64 bytes
constexpr int kPanel = 32;       // columns of a packed panel of rows

// C[m][blocks x n] = start[m] + sum over k of A[m][k] * B[k][n], or C + that sum when `accumulate`.
// One of a_m, a_k is 1. A may jump: after each `segment` steps of k it continues at a + a_segment.
struct Product {
    int m, n, k, blocks;
    const float* a;
    ptrdiff_t a_m, a_k;
    const float* b;
    ptrdiff_t b_k, b_block;
    float* c;
    ptrdiff_t c_m, c_block;
    const float* start;  // one value per m, or null for 0
    bool accumulate;
    int segment;
    ptrdiff_t a_segment;
    bool relu;          // negative results become 0
    const float* gate;  // laid out like C, or null: results become 0 where the gate is not positive
    float* scratch = nullptr;  // product_scratch floats: the order of the sum over k is free, if it is always the same
};

// How kernels with matrix tiles cut a product: rows of a tile, rows of A that are brought into tiles at a time, steps
// of k in a pass, and the floats that a step of a tile's three pieces takes.
constexpr int kTileSide = 16, kTileRows = 512, kTileSteps = 5;
constexpr size_t kTileStepFloats = 768;
constexpr size_t product_scratch(int m) {
    const int strips = ((m < kTileRows ? m : kTileRows) + 2 * kTileSide - 1) / kTileSide;
    return size_t(strips + 2) * kTileSteps * kTileStepFloats + 4 * kTileSide * kTileSide;
}

enum class Unary { relu, leaky_relu, elu, gelu, silu, sigmoid, softplus, tanh, gelu_tanh };

// A product for each lane: C[m][n] = scale * sum over k of A[m][k] * B[k][n], or C + that when `accumulate`; an
// element of a matrix is `lanes` floats, one for each row of the batch. Strides are in floats.
struct LaneProduct {
    int m, n, k, lanes;
    const float* a;
    ptrdiff_t a_m, a_k;
    const float* b;
    ptrdiff_t b_k, b_n;
    float* c;
    ptrdiff_t c_m, c_n;
    float scale;
    bool accumulate;
};

// Scaled dot-product attention of one slab: q [queries][heads * dim], k and v [keys][kv_heads * ..]. A key j is
// visible to a query i by position (causal; with a window, the window, the first `globals` positions, each
// `stride`th), and by segment. Scores become softcap * tanh(s / softcap) and get relative[bucket][head], the bucket
// being buckets[j - i + queries - 1].
struct Attention {
    int queries, keys, heads, kv_heads, dim, value_dim, lanes;
    bool causal;
    int window, globals, stride;  // window 0: all
    float scale, softcap;
    const float *q, *k, *v;
    const int32_t* segments;  // [keys][lanes], or null
    const float* relative;    // or null
    ptrdiff_t relative_stride;
    const int* buckets;
    float* y;    // [queries][heads * value_dim]
    float* lse;  // [heads][queries]: log of the sum of exponentials, for backward; may be null
    float* scratch;  // attention_scratch floats
    int first_head, last_head;  // heads first_head .. last_head - 1 are done
};

// Gradients are added to dq, dk, dv (each may be null) and drelative [bucket][head] (may be null).
struct AttentionBackward {
    Attention forward;
    const float* dy;
    float *dq, *dk, *dv, *drelative;
};

constexpr int kQueries = 12, kKeys = 32;  // a tile of scores
constexpr size_t attention_scratch(int queries, int lanes, bool training) {
    return (size_t(training ? 2 : 1) * kQueries * kKeys + 2 * kQueries + (training ? size_t(queries) : 0)) * size_t(lanes);
}

// Pairs of each head turned: y (+)= (a cos - sign b sin, b cos + sign a sin); numbers beyond the pairs are copied.
struct Rotation {
    int positions, heads, dim, pairs, lanes;
    bool interleaved;  // pairs (2i, 2i + 1), else (i, i + pairs)
    const float *cosine, *sine;  // [positions][pairs]
    float sign;
    const float* x;
    float* y;
    bool accumulate;
};

// Sums over the rows of a batch, striped by row, for features [first, last) of `units` vectors of `width`; of the
// last block `lanes` only those below `rows` count. Without dy: sums of x - mean and of its square; with it: sums of
// dy and of dy * (x - mean). Null mean is 0.
struct ChannelSums {
    int width, groups, lanes, rows;
    const float *x, *dy, *mean;
    float *first_sum, *second_sum;
    int first, last;
};

// y (+)= a[f] * dy + b[f] * (x - mean[f]) + c[f] for `units` vectors of `width` features; null dy leaves a out.
struct ChannelMap {
    int width, units, lanes;
    const float *dy, *x, *a, *b, *mean, *c;
    float* y;
    bool accumulate;
};

// One step of an LSTM over n = size * lanes numbers: gates [4][n] (i, f, g, o) hold what the inputs and the state
// before give, and become their activations.
struct LstmStep {
    size_t n;
    float* gates;
    const float* cell_before;  // null: 0
    float *cell, *tanh_cell, *h;
};

// dh is complete; dcell holds what the later step gave and becomes what the step before gets; gates' activations
// become nothing, dgates [4][n] the gradients before them.
struct LstmBackward {
    size_t n;
    const float *gates, *cell_before, *tanh_cell, *dh;
    float *dcell, *dgates;
};

// `groups` vectors of `width` features in one slab.
struct Groups {
    int groups, width, lanes;
};

// y = f(a) * b; backward: da (+)= dy * b * f'(a), db (+)= dy * f(a), each may be null.
struct GatedProduct {
    Unary kind;
    float number;
    size_t n;
    const float *a, *b;
    float* y;
    const float* dy;
    float *da, *db;
    bool accumulate_a, accumulate_b;
};

struct AdamStep {
    float beta1, one_minus_beta1, beta2, one_minus_beta2;
    float rate;          // lr / (1 - beta1^t)
    float inverse_root;  // 1 / sqrt(1 - beta2^t)
    float eps;
    float keep;          // 1 - lr * weight_decay, 1 without decoupled decay
    float l1;            // lr * l1, towards 0
    float l2;            // weight decay added to the gradient
    float scale;         // factor on the gradient: clipping
};

struct SgdStep {
    float rate, momentum, l2, scale;
};

struct Kernels {
    const char* isa;
    int vector_floats;
    bool fused;  // whether `fma` rounds once

    void (*product)(const Product&);

    // y = f(x), and slope = f'(x) unless it is null
    void (*unary)(Unary, size_t n, const float* x, float* y, float* slope, float a);
    void (*gated_forward)(const GatedProduct&);
    void (*gated_backward)(const GatedProduct&);
    void (*relu_backward)(size_t n, const float* y, const float* dy, float* dx, bool accumulate);
    void (*copy)(size_t n, const float* x, float* y, bool accumulate);
    void (*multiply)(size_t n, const float* a, const float* b, float* y, bool accumulate);
    // y = where condition (per group, per lane) cmp value holds: a, else b. Null a or b count as 0.
    void (*select)(Groups, int comparison, float value, const float* condition, const float* a, const float* b,
                   float* y, bool accumulate);

    void (*softmax_forward)(Groups, const float* x, float* y);
    void (*softmax_backward)(Groups, const float* y, const float* dy, float* dx, bool accumulate);
    // saved: [groups][2][lanes], mean and 1 / deviation
    void (*layernorm_forward)(Groups, const float* x, const float* gain, const float* bias, float* y, float* saved,
                              float eps);
    void (*layernorm_backward)(Groups, const float* x, const float* gain, const float* saved, const float* dy,
                               float* dx, bool accumulate);
    // saved: [groups][lanes], 1 / root mean square
    void (*rmsnorm_forward)(Groups, const float* x, const float* gain, float* y, float* saved, float eps);
    void (*rmsnorm_backward)(Groups, const float* x, const float* gain, const float* saved, const float* dy,
                             float* dx, bool accumulate);
    // Sums over rows (striped by row) and groups: out[f] (+)= sum dy * (x - mean) * scale, or sum dy when x is
    // null; mean, scale: [groups] rows of `saved_stride` floats apart, per lane; null mean is 0.
    void (*row_sums)(const struct RowSums&);

    void (*lane_product)(const LaneProduct&);
    void (*attention_forward)(const Attention&);
    void (*attention_backward)(const AttentionBackward&);
    void (*rotate)(const Rotation&);
    void (*channel_sums)(const ChannelSums&);
    void (*channel_map)(const ChannelMap&);
    void (*lstm_forward)(const LstmStep&);
    void (*lstm_backward)(const LstmBackward&);
    void (*maximum)(size_t n, const float* x, float* y);  // y = max(x, y)
    // dx += dy where x is the maximum y that nobody took before (taken 0 or 1).
    void (*take_maximum)(size_t n, const float* x, const float* y, const float* dy, float* taken, float* dx);

    // Losses: `loss` [lanes] += per row, dx (may be null) = or += gradient * scale, for lanes < rows.
    void (*cross_entropy)(const struct LossCall&);
    void (*binary_cross_entropy)(const struct LossCall&);
    void (*squared_error)(const struct LossCall&);
    void (*divergence)(const struct LossCall&);  // from a teacher's probabilities
    void (*binary_divergence)(const struct LossCall&);

    void (*adam)(size_t n, float* w, const float* g, float* m, float* v, const AdamStep&);
    void (*sgd)(size_t n, float* w, const float* g, float* m, const SgdStep&);
    float (*sum_of_squares)(size_t n, const float* x);  // n a multiple of 16, striped by index

    // Row-major rows to a slab: dst[f][lane] = rows[lane][f]; lanes >= num_rows become 0.
    void (*slab_from_rows)(int features, int lanes, int num_rows, const float* const* rows, float* dst);
    // A slab to rows row .. row + lanes - 1 of packed panels dst[panel][capacity][<= 32 features]; padding is 0.
    void (*panels_from_slab)(int features, int lanes, int row, const float* src, float* dst, ptrdiff_t capacity);
    // A slab to row-major rows.
    void (*rows_from_slab)(int features, int lanes, int num_rows, const float* src, float* dst, ptrdiff_t stride);
    // Words start .. start + count - 1 of a Philox stream.
    void (*philox_words)(uint64_t key, uint64_t nonce, uint32_t lane, uint64_t start, size_t count, uint32_t* out);

    // Random words to a mask, in place: `scale` where the word's upper 24 bits are at least threshold, else 0.
    void (*dropout_mask)(size_t n, uint32_t threshold, float scale, float* mask);

    // For tests: an elementary function by number (exp, log, tanh, expm1, normal cdf, sigmoid, softplus).
    void (*elementary)(int which, size_t n, const float* x, float* y);
    // For benchmarks: multiply-adds in registers; returns how many it did. `sink` takes 256 floats.
    uint64_t (*multiply_adds)(int rounds, float* sink);
};

struct RowSums {
    int width, groups, lanes, blocks;
    const float* dy;
    const float* x;
    ptrdiff_t block_stride;  // floats from block to block of dy and x
    const float* mean;
    const float* scale;
    ptrdiff_t saved_group, saved_block;
    float* out;
    bool accumulate;
    int first, last;  // features [first, last)
};

struct LossCall {
    Groups shape;
    int rows;               // lanes in use
    const float* x;         // logits or outputs
    const float* targets;   // values [groups * width][lanes]
    const int32_t* classes; // class indices [groups][lanes]
    const float* weights;   // a factor of each term, [groups][lanes] or [groups * width][lanes], or null
    float smoothing;
    float inverse_temperature;
    float scale_loss;       // factor of a row's loss
    float scale_grad;       // factor of its gradient
    float* dx;
    bool accumulate;
    float* loss;
};

constexpr int panel_width(int features, int panel) {
    const int padded = (features + kStripes - 1) / kStripes * kStripes;
    const int left = padded - panel * kPanel;
    return left < kPanel ? left : kPanel;
}

}  // namespace alexandra
