// Ops that work value by value, and softmax: activations, scale, dropout, add, mul, select.
#include "ops_parts.h"

#include <cmath>
#include <cstring>

namespace alexandra {

namespace {

// --- activations: training keeps the slope of each value, but for relu, which its result tells ------------------

size_t slope_saved(const Plan&, const Node& node, bool training) {
    return training ? size_t(node.features()) : 0;
}

template <Unary kind>
void activation_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    if (y.in_place) return;
    const bool keeps = pass.flow && kind != Unary::relu;
    pass.kernels.unary(kind, pass.slab(node) * size_t(blocks.count()), pass.value(y.inputs[0], blocks.first),
                       pass.value(node, blocks.first),
                       keeps ? pass.saved(node) + size_t(blocks.first) * pass.slab(node) : nullptr,
                       y.numbers.empty() ? 0.0f : float(y.numbers[0]));
}

void activation_backward(const Pass& pass, int node, Blocks blocks) {
    pass.kernels.multiply(pass.slab(node) * size_t(blocks.count()), pass.gradient(node, blocks.first),
                          pass.saved(node) + size_t(blocks.first) * pass.slab(node),
                          pass.gradient(node_of(pass, node).inputs[0], blocks.first), accumulates(pass, node, 0));
}

void relu_backward(const Pass& pass, int node, Blocks blocks) {
    pass.kernels.relu_backward(pass.slab(node) * size_t(blocks.count()), pass.value(node, blocks.first),
                               pass.gradient(node, blocks.first),
                               pass.gradient(node_of(pass, node).inputs[0], blocks.first), accumulates(pass, node, 0));
}

void softmax_forward(const Pass& pass, int node, Blocks blocks) {
    for (int block = blocks.first; block < blocks.last; ++block)
        pass.kernels.softmax_forward(groups_of(pass, node), pass.value(node_of(pass, node).inputs[0], block),
                                     pass.value(node, block));
}

void softmax_backward(const Pass& pass, int node, Blocks blocks) {
    for (int block = blocks.first; block < blocks.last; ++block)
        pass.kernels.softmax_backward(groups_of(pass, node), pass.value(node, block), pass.gradient(node, block),
                                      pass.gradient(node_of(pass, node).inputs[0], block),
                                      accumulates(pass, node, 0));
}

// --- scale: numbers: factor ------------------------------------------------------------------------------------

void scale_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const float *x = pass.value(y.inputs[0], blocks.first), factor = float(y.numbers[0]);
    float* out = pass.value(node, blocks.first);
    for (size_t i = 0, n = pass.slab(node) * size_t(blocks.count()); i < n; ++i) out[i] = factor * x[i];
}

void scale_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const float *dy = pass.gradient(node, blocks.first), factor = float(y.numbers[0]);
    float* dx = pass.gradient(y.inputs[0], blocks.first);
    const bool accumulate = accumulates(pass, node, 0);
    for (size_t i = 0, n = pass.slab(node) * size_t(blocks.count()); i < n; ++i)
        dx[i] = (accumulate ? dx[i] : 0.0f) + factor * dy[i];
}

// --- dropout: saved are the mask (0 or 1 / (1 - rate)) and the words that it came from ------------------------

size_t dropout_saved(const Plan&, const Node& node, bool training) {
    return training ? 2 * size_t(node.features()) : 0;
}

void dropout_mask(const Pass& pass, int node, int block, float* mask) {
    const Node& y = node_of(pass, node);
    const int lanes = pass.lanes(), features = y.features();
    const size_t count = pass.slab(node);
    float* words = mask + count;
    const Stream& stream = pass.dropout[node];
    const uint64_t start = uint64_t(pass.first_row) * uint64_t(features) + uint64_t(block) * count;
    pass.kernels.philox_words(stream.key, stream.nonce, pass.step, start, count,
                              reinterpret_cast<uint32_t*>(words));
    const float* rows[kPanel];
    for (int lane = 0; lane < lanes; ++lane) rows[lane] = words + ptrdiff_t(lane) * features;
    pass.kernels.slab_from_rows(features, lanes, lanes, rows, mask);
    pass.kernels.dropout_mask(count, uint32_t(std::ceil(y.numbers[0] * 16777216.0)),
                              float(1.0 / (1.0 - y.numbers[0])), mask);
}

void dropout_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const size_t n = pass.slab(node);
    for (int block = blocks.first; block < blocks.last; ++block) {
        const float* x = pass.value(y.inputs[0], block);
        if (!pass.dropout) {
            pass.kernels.copy(n, x, pass.value(node, block), false);
            continue;
        }
        float* mask = pass.saved(node) + size_t(block) * 2 * n;
        dropout_mask(pass, node, block, mask);
        pass.kernels.multiply(n, x, mask, pass.value(node, block), false);
    }
}

void dropout_backward(const Pass& pass, int node, Blocks blocks) {
    const size_t n = pass.slab(node);
    for (int block = blocks.first; block < blocks.last; ++block) {
        float* dx = pass.gradient(node_of(pass, node).inputs[0], block);
        if (pass.dropout)
            pass.kernels.multiply(n, pass.gradient(node, block), pass.saved(node) + size_t(block) * 2 * n, dx,
                                  accumulates(pass, node, 0));
        else
            pass.kernels.copy(n, pass.gradient(node, block), dx, accumulates(pass, node, 0));
    }
}

// --- add, mul -----------------------------------------------------------------------------------------------

void add_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const size_t n = pass.slab(node) * size_t(blocks.count());
    for (size_t j = 0; j < y.inputs.size(); ++j)
        pass.kernels.copy(n, pass.value(y.inputs[j], blocks.first), pass.value(node, blocks.first), j > 0);
}

void add_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const size_t n = pass.slab(node) * size_t(blocks.count());
    for (size_t j = 0; j < y.inputs.size(); ++j)
        if (float* dx = pass.gradient(y.inputs[j], blocks.first))
            pass.kernels.copy(n, pass.gradient(node, blocks.first), dx, accumulates(pass, node, j));
}

// More than two factors need a place for partial products.
size_t mul_saved(const Plan&, const Node& node, bool training) {
    return training && node.inputs.size() > 2 ? size_t(node.features()) : 0;
}

void mul_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const size_t n = pass.slab(node) * size_t(blocks.count());
    float* out = pass.value(node, blocks.first);
    pass.kernels.multiply(n, pass.value(y.inputs[0], blocks.first), pass.value(y.inputs[1], blocks.first), out, false);
    for (size_t j = 2; j < y.inputs.size(); ++j)
        pass.kernels.multiply(n, out, pass.value(y.inputs[j], blocks.first), out, false);
}

void mul_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const size_t n = pass.slab(node) * size_t(blocks.count()), count = y.inputs.size();
    for (size_t j = 0; j < count; ++j) {
        float* dx = pass.gradient(y.inputs[j], blocks.first);
        if (!dx) continue;
        const float* partial = pass.gradient(node, blocks.first);
        const size_t last = j == count - 1 ? count - 2 : count - 1;
        for (size_t k = 0; k < last; ++k) {
            if (k == j) continue;
            float* place = pass.saved(node) + size_t(blocks.first) * pass.slab(node);
            pass.kernels.multiply(n, partial, pass.value(y.inputs[k], blocks.first), place, false);
            partial = place;
        }
        pass.kernels.multiply(n, partial, pass.value(y.inputs[last], blocks.first), dx, accumulates(pass, node, j));
    }
}

// --- select: condition, then, else ----------------------------------------------------------------------------

void select_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    for (int block = blocks.first; block < blocks.last; ++block)
        pass.kernels.select(groups_of(pass, node), int(y.numbers[0]), float(y.numbers[1]),
                            pass.value(y.inputs[0], block), pass.value(y.inputs[1], block),
                            pass.value(y.inputs[2], block), pass.value(node, block), false);
}

void select_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    for (int block = blocks.first; block < blocks.last; ++block) {
        float* dcondition = pass.gradient(y.inputs[0], block);
        if (dcondition && !accumulates(pass, node, 0)) clear(dcondition, pass.slab(y.inputs[0]));
        for (const size_t j : {size_t(1), size_t(2)})
            if (float* dx = pass.gradient(y.inputs[j], block)) {
                const float* dy = pass.gradient(node, block);
                pass.kernels.select(groups_of(pass, node), int(y.numbers[0]), float(y.numbers[1]),
                                    pass.value(y.inputs[0], block), j == 1 ? dy : nullptr, j == 2 ? dy : nullptr, dx,
                                    accumulates(pass, node, j));
            }
    }
}

#define ALEXANDRA_ACTIVATION(name) \
    {#name, false, slope_saved, activation_forward<Unary::name>, activation_backward, nullptr, kNothing}

const Op kRows[] = {
    {"relu", false, saves_nothing, activation_forward<Unary::relu>, relu_backward, nullptr, kOutput},
    ALEXANDRA_ACTIVATION(leaky_relu),
    ALEXANDRA_ACTIVATION(elu),
    ALEXANDRA_ACTIVATION(gelu),
    ALEXANDRA_ACTIVATION(silu),
    ALEXANDRA_ACTIVATION(sigmoid),
    ALEXANDRA_ACTIVATION(softplus),
    ALEXANDRA_ACTIVATION(tanh),
    ALEXANDRA_ACTIVATION(gelu_tanh),
    {"softmax", false, saves_nothing, softmax_forward, softmax_backward, nullptr, kOutput},
    {"scale", false, saves_nothing, scale_forward, scale_backward, nullptr, kNothing},
    {"dropout", false, dropout_saved, dropout_forward, dropout_backward, nullptr, kNothing},
    {"add", false, saves_nothing, add_forward, add_backward, nullptr, kNothing},
    {"mul", false, mul_saved, mul_forward, mul_backward, nullptr, kInputs | kLate},
    {"select", false, saves_nothing, select_forward, select_backward, nullptr, kInputs},
};

}  // namespace

std::span<const Op> pointwise_ops() { return kRows; }

}  // namespace alexandra
