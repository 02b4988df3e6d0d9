// Ops that work value by value, and softmax: activations, scale, dropout, add, mul, select.
#include "ops_parts.h"

#include <cmath>
#include <cstring>
#include <iterator>

namespace alexandra {

namespace {

// --- activations: training keeps the slope of each value, but for relu, which its result tells ------------------

size_t slope_saved(const Plan&, const Node& node, bool training) {
    return training ? size_t(node.features()) : 0;
}

template <Unary kind>
void activation_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    if (y.in_place || y.joined) return;
    const bool keeps = pass.flow && kind != Unary::relu;
    const Units units(pass, node, blocks);
    pass.kernels.unary(kind, units.floats(), units.value(y.inputs[0]), units.value(node),
                       keeps ? units.saved(y.width) : nullptr, y.numbers.empty() ? 0.0f : float(y.numbers[0]));
}

void activation_backward(const Pass& pass, int node, Blocks blocks) {
    const Units units(pass, node, blocks);
    pass.kernels.multiply(units.floats(), units.gradient(node), units.saved(node_of(pass, node).width),
                          units.gradient(node_of(pass, node).inputs[0]), accumulates(pass, node, 0));
}

void relu_backward(const Pass& pass, int node, Blocks blocks) {
    const Units units(pass, node, blocks);
    pass.kernels.relu_backward(units.floats(), units.value(node), units.gradient(node),
                               units.gradient(node_of(pass, node).inputs[0]), accumulates(pass, node, 0));
}

void softmax_forward(const Pass& pass, int node, Blocks blocks) {
    const Units units(pass, node, blocks);
    pass.kernels.softmax_forward(units.groups(), units.value(node_of(pass, node).inputs[0]), units.value(node));
}

void softmax_backward(const Pass& pass, int node, Blocks blocks) {
    const Units units(pass, node, blocks);
    pass.kernels.softmax_backward(units.groups(), units.value(node), units.gradient(node),
                                  units.gradient(node_of(pass, node).inputs[0]), accumulates(pass, node, 0));
}

// --- scale: numbers: factor ------------------------------------------------------------------------------------

void scale_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Units units(pass, node, blocks);
    const float *x = units.value(y.inputs[0]), factor = float(y.numbers[0]);
    float* out = units.value(node);
    for (size_t i = 0, n = units.floats(); i < n; ++i) out[i] = factor * x[i];
}

void scale_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Units units(pass, node, blocks);
    const float *dy = units.gradient(node), factor = float(y.numbers[0]);
    float* dx = units.gradient(y.inputs[0]);
    const bool accumulate = accumulates(pass, node, 0);
    for (size_t i = 0, n = units.floats(); i < n; ++i) dx[i] = (accumulate ? dx[i] : 0.0f) + factor * dy[i];
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
    const Units units(pass, node, blocks);
    for (size_t j = 0; j < y.inputs.size(); ++j)
        pass.kernels.copy(units.floats(), units.value(y.inputs[j]), units.value(node), j > 0);
}

void add_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Units units(pass, node, blocks);
    for (size_t j = 0; j < y.inputs.size(); ++j)
        if (float* dx = units.gradient(y.inputs[j]))
            pass.kernels.copy(units.floats(), units.gradient(node), dx, accumulates(pass, node, j));
}

// More than two factors need a place for partial products.
size_t mul_saved(const Plan&, const Node& node, bool training) {
    return training && node.inputs.size() > 2 ? size_t(node.features()) : 0;
}

// An activation that only this product reads is done by it (Plan::join_gates).
GatedProduct gated_of(const Units& units, const Node& y) {
    const Node& active = node_of(units.pass, y.inputs[size_t(y.gate)]);
    return {.kind = Unary(unary_kind(active.op->name)),
            .number = active.numbers.empty() ? 0.0f : float(active.numbers[0]),
            .n = units.floats(),
            .a = units.value(y.inputs[size_t(y.gate)]),
            .b = units.value(y.inputs[size_t(1 - y.gate)]),
            .y = nullptr, .dy = nullptr, .da = nullptr, .db = nullptr, .accumulate_a = false, .accumulate_b = false};
}

void mul_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Units units(pass, node, blocks);
    const size_t n = units.floats();
    float* out = units.value(node);
    if (y.gate >= 0) {
        GatedProduct product = gated_of(units, y);
        product.y = out;
        return pass.kernels.gated_forward(product);
    }
    pass.kernels.multiply(n, units.value(y.inputs[0]), units.value(y.inputs[1]), out, false);
    for (size_t j = 2; j < y.inputs.size(); ++j) pass.kernels.multiply(n, out, units.value(y.inputs[j]), out, false);
}

void mul_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Units units(pass, node, blocks);
    const size_t n = units.floats(), count = y.inputs.size();
    if (y.gate >= 0) {
        const size_t a = size_t(y.gate), b = 1 - a;
        GatedProduct product = gated_of(units, y);
        product.dy = units.gradient(node);
        product.da = units.gradient(y.inputs[a]), product.db = units.gradient(y.inputs[b]);
        product.accumulate_a = accumulates(pass, node, a), product.accumulate_b = accumulates(pass, node, b);
        return pass.kernels.gated_backward(product);
    }
    for (size_t j = 0; j < count; ++j) {
        float* dx = units.gradient(y.inputs[j]);
        if (!dx) continue;
        const float* partial = units.gradient(node);
        const size_t last = j == count - 1 ? count - 2 : count - 1;
        for (size_t k = 0; k < last; ++k) {
            if (k == j) continue;
            float* place = units.saved(y.width);
            pass.kernels.multiply(n, partial, units.value(y.inputs[k]), place, false);
            partial = place;
        }
        pass.kernels.multiply(n, partial, units.value(y.inputs[last]), dx, accumulates(pass, node, j));
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
    {#name, false, slope_saved, activation_forward<Unary::name>, activation_backward, nullptr, kByGroup}

constexpr Op kAll[] = {
    {"relu", false, saves_nothing, activation_forward<Unary::relu>, relu_backward, nullptr, kOutput | kByGroup},
    ALEXANDRA_ACTIVATION(leaky_relu),
    ALEXANDRA_ACTIVATION(elu),
    ALEXANDRA_ACTIVATION(gelu),
    ALEXANDRA_ACTIVATION(silu),
    ALEXANDRA_ACTIVATION(sigmoid),
    ALEXANDRA_ACTIVATION(softplus),
    ALEXANDRA_ACTIVATION(tanh),
    ALEXANDRA_ACTIVATION(gelu_tanh),
    {"softmax", false, saves_nothing, softmax_forward, softmax_backward, nullptr, kOutput | kByGroup},
    {"scale", false, saves_nothing, scale_forward, scale_backward, nullptr, kByGroup},
    {"dropout", false, dropout_saved, dropout_forward, dropout_backward, nullptr, kNothing},
    {"add", false, saves_nothing, add_forward, add_backward, nullptr, kByGroup},
    {"mul", false, mul_saved, mul_forward, mul_backward, nullptr, kInputs | kLate | kByGroup},
    {"select", false, saves_nothing, select_forward, select_backward, nullptr, kInputs},
};
constexpr auto kRows = of_this_build(kAll);

}  // namespace

int unary_kind(std::string_view name) {
    static constexpr std::string_view names[] = {"relu",    "leaky_relu", "elu",  "gelu",     "silu",
                                                 "sigmoid", "softplus",   "tanh", "gelu_tanh"};
    for (size_t i = 0; i < std::size(names); ++i)
        if (names[i] == name) return int(i);
    return -1;
}

std::span<const Op> pointwise_ops() { return kRows; }

}  // namespace alexandra
