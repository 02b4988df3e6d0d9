// Norms over the last axis.
#include "ops_parts.h"

#include <utility>

namespace alexandra {

namespace {

// --- norms over the last axis; params gain and, for layernorm, bias ------------------------------------------

size_t layernorm_saved(const Plan&, const Node& node, bool) { return 2 * size_t(node.groups); }
size_t rmsnorm_saved(const Plan&, const Node& node, bool) { return size_t(node.groups); }

void layernorm_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Units units(pass, node, blocks);
    pass.kernels.layernorm_forward(units.groups(), units.value(y.inputs[0]), pass.weight(y.params[0]),
                                   pass.weight(y.params[1]), units.value(node), units.saved(2), float(y.numbers[0]));
}

void layernorm_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Units units(pass, node, blocks);
    if (float* dx = units.gradient(y.inputs[0]))
        pass.kernels.layernorm_backward(units.groups(), units.value(y.inputs[0]), pass.weight(y.params[0]),
                                        units.saved(2), units.gradient(node), dx, accumulates(pass, node, 0));
}

void rmsnorm_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Units units(pass, node, blocks);
    pass.kernels.rmsnorm_forward(units.groups(), units.value(y.inputs[0]), pass.weight(y.params[0]),
                                 units.value(node), units.saved(1), float(y.numbers[0]));
}

void rmsnorm_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Units units(pass, node, blocks);
    if (float* dx = units.gradient(y.inputs[0]))
        pass.kernels.rmsnorm_backward(units.groups(), units.value(y.inputs[0]), pass.weight(y.params[0]),
                                      units.saved(1), units.gradient(node), dx, accumulates(pass, node, 0));
}

void norm_gradients(const Pass& pass, int node, Part part) {
    const Node& y = node_of(pass, node);
    const bool centred = y.params.size() > 1;
    const int lanes = pass.lanes(), per_group = centred ? 2 : 1;
    const auto [first, last] = part.of(y.width, kStripes);
    pass.kernels.row_sums({
        .width = y.width, .groups = y.groups, .lanes = lanes, .blocks = pass.blocks(),
        .dy = pass.gradient(node, 0), .x = pass.value(y.inputs[0], 0), .block_stride = ptrdiff_t(pass.slab(node)),
        .mean = centred ? pass.saved(node) : nullptr, .scale = pass.saved(node) + (centred ? lanes : 0),
        .saved_group = per_group * lanes, .saved_block = ptrdiff_t(per_group) * y.groups * lanes,
        .out = pass.weight_gradient(y.params[0]),
        .accumulate = bool(pass.flow->accumulate_params[size_t(node)][0]), .first = first, .last = last,
    });
    if (centred) bias_gradients(pass, node, 1, {first, last});
}

constexpr Op kAll[] = {
    {"layernorm", false, layernorm_saved, layernorm_forward, layernorm_backward, norm_gradients, kInputs | kByGroup},
    {"rmsnorm", false, rmsnorm_saved, rmsnorm_forward, rmsnorm_backward, norm_gradients, kInputs | kByGroup},
};
constexpr auto kRows = of_this_build(kAll);

}  // namespace

std::span<const Op> norm_ops() { return kRows; }

}  // namespace alexandra
