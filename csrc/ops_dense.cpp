// Layers with a matrix: dense, embedding.
#include "ops_parts.h"

#include <algorithm>
#include <cstring>

namespace alexandra {

// One sum over rows first .. first + count - 1 of the panels.
void sum_rows(const Kernels& kernels, const WeightSum& s, ptrdiff_t capacity, int lanes, ptrdiff_t first, int count,
              std::pair<int, int> range) {
    const int padded = int(round_up(size_t(s.features), 16)), whole = padded / kPanel;
    if (count == 0 || range.first == range.second) return;
    for (const int width : {kPanel, kStripes}) {  // whole panels, then the half one that may be left
        const bool half = width == kStripes;
        if (half ? padded % kPanel == 0 : whole == 0) continue;
        const ptrdiff_t column = half ? ptrdiff_t(whole) * kPanel : 0;
        kernels.product({
            .m = range.second - range.first, .n = width, .k = count, .blocks = half ? 1 : whole,
            .a = s.dy + ptrdiff_t(range.first) * lanes, .a_m = lanes, .a_k = 1,
            .b = s.panels + column * capacity + first * width, .b_k = width, .b_block = kPanel * capacity,
            .c = s.out + range.first * s.stride + column, .c_m = s.stride, .c_block = kPanel,
            .start = nullptr, .accumulate = s.accumulate, .segment = lanes,
            .a_segment = ptrdiff_t(s.width) * lanes, .relu = false, .gate = nullptr, .scratch = s.scratch,
        });
    }
}

// Blocks of rows, in each its groups, in each its rows; a block that is not full goes group by group.
void weight_gradients(const Pass& pass, WeightSum sum, std::pair<int, int> range) {
    const int lanes = pass.lanes(), rest = sum.groups == 1 ? 0 : pass.rows % lanes;
    const int full = (pass.rows - rest) * sum.groups;
    const ptrdiff_t capacity = ptrdiff_t(pass.layout.capacity()) * sum.groups;
    sum_rows(pass.kernels, sum, capacity, lanes, 0, full, range);
    sum.dy += ptrdiff_t(full) * sum.width;
    for (int g = 0; rest && g < sum.groups; ++g) {
        sum.accumulate = sum.accumulate || full + g > 0;
        sum_rows(pass.kernels, sum, capacity, lanes, full + ptrdiff_t(g) * lanes, rest, range);
        sum.dy += ptrdiff_t(sum.width) * lanes;
    }
}

namespace {

// --- dense: y = W x + b on the last axis; params W [out][in] and maybe b ------------------------------------

size_t dense_saved(const Plan& plan, const Node& node, bool training) {
    const Node& x = plan.nodes[size_t(node.inputs[0])];
    const bool learns = plan.params[size_t(node.params[0])].learns();
    return training && learns ? size_t(node.groups) * round_up(size_t(x.width), 16) : 0;
}

// Networks that share vectors with others (backends/population.py: Shape.pays) have fewer weights than this: they keep
// the one order of sums.
constexpr int64_t kLargeProduct = 1 << 14;

bool is_large(const Plan& plan, const Node& node) {
    return int64_t(plan.nodes[size_t(node.inputs[0])].width) * node.width >= kLargeProduct;
}

size_t dense_scratch(const Plan& plan, const Node& node, bool training, int) {
    const int in = plan.nodes[size_t(node.inputs[0])].width, out = node.width;
    return is_large(plan, node) ? product_scratch(training ? std::max(in, out) : out) : 0;
}

float* product_scratch_of(const Pass& pass, int node, int thread) {
    return is_large(pass.plan, node_of(pass, node)) ? pass.scratch(thread) : nullptr;
}

void dense_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Node& x = node_of(pass, y.inputs[0]);
    const Param& w = pass.plan.params[size_t(y.params[0])];
    const int lanes = pass.lanes();
    const Units units(pass, node, blocks);
    pass.kernels.product({
        .m = y.width, .n = lanes, .k = x.width, .blocks = units.count,
        .a = pass.weight(y.params[0]), .a_m = w.stride, .a_k = 1,
        .b = units.value(y.inputs[0]), .b_k = lanes, .b_block = ptrdiff_t(x.width) * lanes,
        .c = units.value(node), .c_m = lanes, .c_block = ptrdiff_t(y.width) * lanes,
        .start = y.params.size() > 1 ? pass.weight(y.params[1]) : nullptr,
        .accumulate = false, .segment = x.width, .a_segment = 0, .relu = y.relu, .gate = nullptr,
        .scratch = product_scratch_of(pass, node, blocks.thread),
    });
}

// Also lays the input out as rows, which the weight's gradient reads; layers that read one input share them.
void dense_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Node& x = node_of(pass, y.inputs[0]);
    const Param& w = pass.plan.params[size_t(y.params[0])];
    const int lanes = pass.lanes();
    const ptrdiff_t capacity = ptrdiff_t(pass.layout.capacity()) * y.groups;
    const Units units(pass, node, blocks);
    if (pass.flow->panels[size_t(node)] == node)
        for (int unit = 0; unit < units.count; ++unit)
            pass.kernels.panels_from_slab(x.width, lanes, (units.first + unit) * lanes,
                                          units.value(y.inputs[0]) + ptrdiff_t(unit) * x.width * lanes,
                                          pass.saved(node), capacity);
    float* dx = units.gradient(y.inputs[0]);
    if (!dx) return;
    pass.kernels.product({
        .m = x.width, .n = lanes, .k = y.width, .blocks = units.count,
        .a = pass.weight(y.params[0]), .a_m = 1, .a_k = w.stride,
        .b = units.gradient(node), .b_k = lanes, .b_block = ptrdiff_t(y.width) * lanes,
        .c = dx, .c_m = lanes, .c_block = ptrdiff_t(x.width) * lanes,
        .start = nullptr, .accumulate = accumulates(pass, node, 0), .segment = y.width, .a_segment = 0,
        .relu = false, .gate = pass.flow->gated[size_t(node)] ? units.value(y.inputs[0]) : nullptr,
        .scratch = product_scratch_of(pass, node, blocks.thread),
    });
}

void dense_gradients(const Pass& pass, int node, Part part) {
    const Node& y = node_of(pass, node);
    const Node& x = node_of(pass, y.inputs[0]);
    const Param& w = pass.plan.params[size_t(y.params[0])];
    if (w.learns()) weight_gradients(pass, {
        .dy = pass.gradient(node, 0), .panels = pass.saved(pass.flow->panels[size_t(node)]),
        .groups = y.groups, .width = y.width, .features = x.width, .out = pass.weight_gradient(y.params[0]),
        .stride = w.stride, .accumulate = bool(pass.flow->accumulate_params[size_t(node)][0]),
        .scratch = product_scratch_of(pass, node, part.index),
    }, part.of(y.width));
    if (y.params.size() > 1 && pass.plan.params[size_t(y.params[1])].learns())
        bias_gradients(pass, node, 1, part.of(y.width, kStripes));
}

// --- embedding: rows of a table; param [vocab][size] --------------------------------------------------------

void embedding_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Param& table = pass.plan.params[size_t(y.params[0])];
    const int lanes = pass.lanes();
    const float* rows[kPanel];
    const Units units(pass, node, blocks);
    for (int unit = units.first; unit < units.first + units.count; ++unit) {
        const float* index = pass.value(y.inputs[0], 0) + ptrdiff_t(unit) * lanes;
        for (int lane = 0; lane < lanes; ++lane) {
            int32_t id;
            std::memcpy(&id, index + lane, sizeof id);
            rows[lane] = pass.weight(y.params[0]) + ptrdiff_t(id) * table.stride;
        }
        pass.kernels.slab_from_rows(y.width, lanes, lanes, rows, pass.value(node, 0) + ptrdiff_t(unit) * y.width * lanes);
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

constexpr Op kAll[] = {
    {"dense", false, dense_saved, dense_forward, dense_backward, dense_gradients, kInputs | kLate | kByGroup,
     nullptr, dense_scratch},
    {"embedding", false, saves_nothing, embedding_forward, embedding_backward, embedding_gradients, kInputs | kByGroup},
};
constexpr auto kRows = of_this_build(kAll);

}  // namespace

std::span<const Op> dense_ops() { return kRows; }

}  // namespace alexandra
