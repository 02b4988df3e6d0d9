// The table of primitives, put together from the files ops_*.cpp. There each foo_forward stands beside its
// foo_backward, and foo_gradients where it has parameters; a row says what the op needs from the plan.
// `numbers` of a node: leaky_relu slope; elu alpha; layernorm, rmsnorm eps; dropout rate; slice start, stop;
// select comparison (== != < <= > >= as 0 .. 5), value; input 1 for int32; of other ops as their file says.

#include "ops_parts.h"

namespace alexandra {

const Op& find_op(const std::string& name) {
    for (const std::span<const Op> rows :
         {dense_ops(), norm_ops(), pointwise_ops(), shape_ops(), attention_ops(), batchnorm_ops(), convolution_ops(),
          experts_ops(), gate_ops(), matrix_ops(), recurrent_ops()})
        for (const Op& op : rows)
            if (name == op.name) return op;
    throw Error(Status::unsupported, "the native engine has no op '" + name + "'");
}

void bias_gradients(const Pass& pass, int node, size_t which, std::pair<int, int> range) {
    const Node& y = node_of(pass, node);
    pass.kernels.row_sums({
        .width = y.width, .groups = y.groups, .lanes = pass.lanes(), .blocks = pass.blocks(),
        .dy = pass.gradient(node, 0), .x = nullptr, .block_stride = ptrdiff_t(pass.slab(node)),
        .mean = nullptr, .scale = nullptr, .saved_group = 0, .saved_block = 0,
        .out = pass.weight_gradient(y.params[which]),
        .accumulate = bool(pass.flow->accumulate_params[size_t(node)][which]),
        .first = range.first, .last = range.second,
    });
}

}  // namespace alexandra
