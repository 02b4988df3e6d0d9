// Ops between matrices of a row: transpose, reduce over the first axis, matmul.
#include "ops_parts.h"

#include <algorithm>

namespace alexandra {

namespace {

const Node& input_of(const Pass& pass, int node, size_t which = 0) {
    return node_of(pass, node_of(pass, node).inputs[which]);
}

// --- transpose: the last two axes -----------------------------------------------------------------------------

// y[.., c, r] (+)= x[.., r, c]
void transpose(const Kernels& kernels, const Node& x, int lanes, const float* from, float* to, bool accumulate) {
    const int columns = x.width, rows = x.shape[x.shape.size() - 2], count = x.groups / rows;
    for (int i = 0; i < count; ++i)
        for (int r = 0; r < rows; ++r)
            for (int c = 0; c < columns; ++c) {
                const ptrdiff_t at = ptrdiff_t(i) * rows * columns;
                kernels.copy(size_t(lanes), from + (at + r * columns + c) * lanes, to + (at + c * rows + r) * lanes,
                             accumulate);
            }
}

void transpose_forward(const Pass& pass, int node, Blocks blocks) {
    const int source = node_of(pass, node).inputs[0];
    for (int block = blocks.first; block < blocks.last; ++block)
        transpose(pass.kernels, input_of(pass, node), pass.lanes(), pass.value(source, block), pass.value(node, block),
                  false);
}

void transpose_backward(const Pass& pass, int node, Blocks blocks) {
    const int source = node_of(pass, node).inputs[0];
    for (int block = blocks.first; block < blocks.last; ++block)
        transpose(pass.kernels, node_of(pass, node), pass.lanes(), pass.gradient(node, block),
                  pass.gradient(source, block), accumulates(pass, node, 0));
}

// --- reduce: numbers: kind (mean, max, sum, first, last as 0 .. 4) --------------------------------------------

enum Kind { mean, max, sum, first, last };

Kind kind_of(const Node& node) { return Kind(int(node.numbers[0])); }

// Stripes of a sum; which positions gave a maximum so far.
size_t reduce_scratch(const Plan&, const Node& node, bool training, int lanes) {
    const size_t slab = size_t(node.features()) * size_t(lanes);
    if (kind_of(node) == mean || kind_of(node) == sum) return kStripes * slab;
    return kind_of(node) == max && training ? slab : 0;
}

// The sum of positions, position i into stripe i % 16.
void sum_positions(const Kernels& kernels, size_t n, int positions, const float* x, float* stripes, float* y) {
    clear(stripes, n * kStripes);
    for (int i = 0; i < positions; ++i) kernels.copy(n, x + size_t(i) * n, stripes + size_t(i % kStripes) * n, true);
    for (int half = kStripes / 2; half; half /= 2)
        for (int j = 0; j < half; ++j) kernels.copy(n, stripes + size_t(j + half) * n, stripes + size_t(j) * n, true);
    kernels.copy(n, stripes, y, false);
}

void multiply_by(size_t n, float factor, float* x) {
    for (size_t i = 0; i < n; ++i) x[i] *= factor;
}

void reduce_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const int positions = input_of(pass, node).shape[0];
    const size_t n = pass.slab(node);
    for (int block = blocks.first; block < blocks.last; ++block) {
        const float* x = pass.value(y.inputs[0], block);
        float* out = pass.value(node, block);
        switch (kind_of(y)) {
            case mean:
            case sum:
                sum_positions(pass.kernels, n, positions, x, pass.scratch(blocks.thread), out);
                if (kind_of(y) == mean) multiply_by(n, 1.0f / float(positions), out);
                break;
            case max:
                pass.kernels.copy(n, x, out, false);
                for (int i = 1; i < positions; ++i) pass.kernels.maximum(n, x + size_t(i) * n, out);
                break;
            default: pass.kernels.copy(n, kind_of(y) == first ? x : x + size_t(positions - 1) * n, out, false);
        }
    }
}

void reduce_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const int positions = input_of(pass, node).shape[0];
    const size_t n = pass.slab(node), all = pass.slab(y.inputs[0]);
    for (int block = blocks.first; block < blocks.last; ++block) {
        const float *x = pass.value(y.inputs[0], block), *out = pass.value(node, block);
        float *dx = pass.gradient(y.inputs[0], block), *dy = pass.gradient(node, block);
        if (!accumulates(pass, node, 0)) clear(dx, all);
        if (kind_of(y) == max) clear(pass.scratch(blocks.thread), n);
        if (kind_of(y) == mean) multiply_by(n, 1.0f / float(positions), dy);
        for (int i = 0; i < positions; ++i) {
            const size_t at = size_t(i) * n;
            if (kind_of(y) == max) pass.kernels.take_maximum(n, x + at, out, dy, pass.scratch(blocks.thread), dx + at);
            if (kind_of(y) == mean || kind_of(y) == sum || i == (kind_of(y) == first ? 0 : positions - 1))
                if (kind_of(y) != max) pass.kernels.copy(n, dy, dx + at, true);
        }
    }
}

// --- matmul: numbers: whether b is given transposed, scale ----------------------------------------------------

// Sizes of one product, and how far apart elements of b lie, in vectors.
struct Shape {
    int m, n, k, count;
    ptrdiff_t b_k, b_n;
};

Shape matmul_shape(const Pass& pass, int node) {
    const Node &y = node_of(pass, node), &a = input_of(pass, node);
    const int m = y.shape[y.shape.size() - 2], n = y.width, k = a.width;
    const bool transposed = y.numbers[0] != 0;
    return {m, n, k, y.groups / m, transposed ? 1 : n, transposed ? k : 1};
}

void matmul_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Shape s = matmul_shape(pass, node);
    const ptrdiff_t lanes = pass.lanes();
    for (int block = blocks.first; block < blocks.last; ++block)
        for (ptrdiff_t i = 0; i < s.count; ++i)
            pass.kernels.lane_product({
                s.m, s.n, s.k, int(lanes),
                pass.value(y.inputs[0], block) + i * s.m * s.k * lanes, s.k * lanes, lanes,
                pass.value(y.inputs[1], block) + i * s.k * s.n * lanes, s.b_k * lanes, s.b_n * lanes,
                pass.value(node, block) + i * s.m * s.n * lanes, s.n * lanes, lanes, float(y.numbers[1]), false,
            });
}

void matmul_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Shape s = matmul_shape(pass, node);
    const ptrdiff_t lanes = pass.lanes();
    for (int block = blocks.first; block < blocks.last; ++block)
        for (ptrdiff_t i = 0; i < s.count; ++i) {
            const float* dy = pass.gradient(node, block) + i * s.m * s.n * lanes;
            const ptrdiff_t a = i * s.m * s.k * lanes, b = i * s.k * s.n * lanes;
            if (float* da = pass.gradient(y.inputs[0], block))
                pass.kernels.lane_product({
                    s.m, s.k, s.n, int(lanes), dy, s.n * lanes, lanes,
                    pass.value(y.inputs[1], block) + b, s.b_n * lanes, s.b_k * lanes,
                    da + a, s.k * lanes, lanes, float(y.numbers[1]), accumulates(pass, node, 0),
                });
            if (float* db = pass.gradient(y.inputs[1], block))
                pass.kernels.lane_product({
                    s.k, s.n, s.m, int(lanes), pass.value(y.inputs[0], block) + a, lanes, s.k * lanes,
                    dy, s.n * lanes, lanes,
                    db + b, s.b_k * lanes, s.b_n * lanes, float(y.numbers[1]), accumulates(pass, node, 1),
                });
        }
}

constexpr Op kAll[] = {
    {"transpose", false, saves_nothing, transpose_forward, transpose_backward, nullptr, kNothing},
    {"reduce", false, saves_nothing, reduce_forward, reduce_backward, nullptr, kInputs | kOutput, nullptr,
     reduce_scratch},
    {"matmul", false, saves_nothing, matmul_forward, matmul_backward, nullptr, kInputs},
};
constexpr auto kRows = of_this_build(kAll);

}  // namespace

std::span<const Op> matrix_ops() { return kRows; }

}  // namespace alexandra
