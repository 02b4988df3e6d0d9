// Layers with a matrix: dense, embedding.
#include "ops_parts.h"

#include <cstring>

namespace alexandra {

namespace {

// --- dense: y = W x + b on the last axis; params W [out][in] and maybe b ------------------------------------

size_t dense_saved(const Plan& plan, const Node& node, bool training) {
    const Node& x = plan.nodes[size_t(node.inputs[0])];
    const bool learns = plan.params[size_t(node.params[0])].learns();
    return training && learns ? size_t(node.groups) * round_up(size_t(x.width), 16) : 0;
}

void dense_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Node& x = node_of(pass, y.inputs[0]);
    const Param& w = pass.plan.params[size_t(y.params[0])];
    const int lanes = pass.lanes();
    for (int g = 0; g < y.groups; ++g)
        pass.kernels.product({
            .m = y.width, .n = lanes, .k = x.width, .blocks = blocks.count(),
            .a = pass.weight(y.params[0]), .a_m = w.stride, .a_k = 1,
            .b = pass.value(y.inputs[0], blocks.first) + ptrdiff_t(g) * x.width * lanes,
            .b_k = lanes, .b_block = ptrdiff_t(pass.slab(y.inputs[0])),
            .c = pass.value(node, blocks.first) + ptrdiff_t(g) * y.width * lanes,
            .c_m = lanes, .c_block = ptrdiff_t(pass.slab(node)),
            .start = y.params.size() > 1 ? pass.weight(y.params[1]) : nullptr,
            .accumulate = false, .segment = x.width, .a_segment = 0, .relu = y.relu, .gate = nullptr,
        });
}

// Also lays the input out as rows, which the weight's gradient reads.
void dense_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Node& x = node_of(pass, y.inputs[0]);
    const Param& w = pass.plan.params[size_t(y.params[0])];
    const int lanes = pass.lanes(), capacity = pass.layout.capacity();
    const size_t padded = round_up(size_t(x.width), 16);
    for (int g = 0; g < y.groups; ++g) {
        for (int block = blocks.first; block < blocks.last && w.learns(); ++block)
            pass.kernels.panels_from_slab(x.width, lanes, block * lanes,
                                          pass.value(y.inputs[0], block) + ptrdiff_t(g) * x.width * lanes,
                                          pass.saved(node) + size_t(g) * padded * size_t(capacity), capacity);
        float* dx = pass.gradient(y.inputs[0], blocks.first);
        if (!dx) continue;
        const float* gate = pass.value(y.inputs[0], blocks.first) + ptrdiff_t(g) * x.width * lanes;
        pass.kernels.product({
            .m = x.width, .n = lanes, .k = y.width, .blocks = blocks.count(),
            .a = pass.weight(y.params[0]), .a_m = 1, .a_k = w.stride,
            .b = pass.gradient(node, blocks.first) + ptrdiff_t(g) * y.width * lanes,
            .b_k = lanes, .b_block = ptrdiff_t(pass.slab(node)),
            .c = dx + ptrdiff_t(g) * x.width * lanes, .c_m = lanes, .c_block = ptrdiff_t(pass.slab(y.inputs[0])),
            .start = nullptr, .accumulate = accumulates(pass, node, 0), .segment = y.width, .a_segment = 0,
            .relu = false, .gate = pass.flow->gated[size_t(node)] ? gate : nullptr,
        });
    }
}

void dense_gradients(const Pass& pass, int node, Part part) {
    const Node& y = node_of(pass, node);
    const Node& x = node_of(pass, y.inputs[0]);
    const Param& w = pass.plan.params[size_t(y.params[0])];
    const int lanes = pass.lanes();
    const ptrdiff_t capacity = pass.layout.capacity();
    const auto [first, last] = part.of(y.width);
    const int padded = int(round_up(size_t(x.width), 16)), whole = padded / kPanel;
    for (int g = 0; g < y.groups && w.learns(); ++g)
        for (const int width : {kPanel, kStripes}) {  // whole panels, then the half one that may be left
            const bool half = width == kStripes;
            if (half ? padded % kPanel == 0 : whole == 0) continue;
            const ptrdiff_t column = half ? ptrdiff_t(whole) * kPanel : 0;
            pass.kernels.product({
                .m = last - first, .n = width, .k = pass.rows, .blocks = half ? 1 : whole,
                .a = pass.gradient(node, 0) + ptrdiff_t(g * y.width + first) * lanes, .a_m = lanes, .a_k = 1,
                .b = pass.saved(node) + (ptrdiff_t(g) * padded + column) * capacity,
                .b_k = width, .b_block = kPanel * capacity,
                .c = pass.weight_gradient(y.params[0]) + first * w.stride + column, .c_m = w.stride, .c_block = kPanel,
                .start = nullptr,
                .accumulate = g > 0 || pass.flow->accumulate_params[size_t(node)][0],
                .segment = lanes, .a_segment = ptrdiff_t(pass.slab(node)), .relu = false, .gate = nullptr,
            });
        }
    if (y.params.size() > 1 && pass.plan.params[size_t(y.params[1])].learns())
        bias_gradients(pass, node, 1, part.of(y.width, kStripes));
}

// --- embedding: rows of a table; param [vocab][size] --------------------------------------------------------

void embedding_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Param& table = pass.plan.params[size_t(y.params[0])];
    const int lanes = pass.lanes();
    const float* rows[kPanel];
    for (int block = blocks.first; block < blocks.last; ++block)
        for (int g = 0; g < y.groups; ++g) {
            const float* index = pass.value(y.inputs[0], block) + g * lanes;
            for (int lane = 0; lane < lanes; ++lane) {
                int32_t id;
                std::memcpy(&id, index + lane, sizeof id);
                rows[lane] = pass.weight(y.params[0]) + ptrdiff_t(id) * table.stride;
            }
            pass.kernels.slab_from_rows(y.width, lanes, lanes, rows,
                                        pass.value(node, block) + ptrdiff_t(g) * y.width * lanes);
        }
}

void embedding_backward(const Pass&, int, Blocks) {}  // whole numbers have no gradient

// Rows in order, each part a range of columns.
void embedding_gradients(const Pass& pass, int node, Part part) {
    const Node& y = node_of(pass, node);
    const Param& table = pass.plan.params[size_t(y.params[0])];
    const int lanes = pass.lanes();
    const auto [first, last] = part.of(y.width, 16);
    float* out = pass.weight_gradient(y.params[0]);
    if (!pass.flow->accumulate_params[size_t(node)][0])
        for (int r = 0; r < table.rows; ++r) clear(out + r * table.stride + first, size_t(last - first));
    for (int row = 0; row < pass.rows; ++row)
        for (int g = 0; g < y.groups; ++g) {
            int32_t id;
            std::memcpy(&id, pass.value(y.inputs[0], row / lanes) + g * lanes + row % lanes, sizeof id);
            const float* dy = pass.gradient(node, row / lanes) + ptrdiff_t(g) * y.width * lanes + row % lanes;
            for (int f = first; f < last; ++f) out[id * table.stride + f] += dy[ptrdiff_t(f) * lanes];
        }
}

const Op kRows[] = {
    {"dense", false, dense_saved, dense_forward, dense_backward, dense_gradients, kInputs | kLate},
    {"embedding", false, saves_nothing, embedding_forward, embedding_backward, embedding_gradients, kInputs},
};

}  // namespace

std::span<const Op> dense_ops() { return kRows; }

}  // namespace alexandra
