// Attention over sequences and what tells it positions: position, rope, sdpa.
#include "ops_parts.h"

#include <algorithm>

namespace alexandra {

namespace {

// The numbers of a node from `first` on, as the table that its kernel reads.
void keep_table(Node& node, size_t first) {
    node.table.assign(node.numbers.begin() + ptrdiff_t(first), node.numbers.end());
    node.numbers.resize(first);
}

// --- position: numbers: learned, offset; not learned: then its rows. Param [length][width] -----------------------

void position_prepare(const Plan&, Node& node) { keep_table(node, 2); }

void position_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const bool learned = y.numbers[0] != 0;
    const float* rows = learned ? pass.weight(y.params[0]) : y.table.data();
    const ptrdiff_t stride = learned ? pass.plan.params[size_t(y.params[0])].stride : y.width;
    if (learned) rows += ptrdiff_t(y.numbers[1]) * stride;
    const int lanes = pass.lanes();
    for (int unit = blocks.first * y.groups; unit < blocks.last * y.groups; ++unit)
        for (int f = 0; f < y.width; ++f) {
            const ptrdiff_t at = (ptrdiff_t(unit) * y.width + f) * lanes;
            const float add = rows[unit % y.groups * stride + f];
            const float* x = pass.value(y.inputs[0], 0) + at;
            float* out = pass.value(node, 0) + at;
            for (int lane = 0; lane < lanes; ++lane) out[lane] = x[lane] + add;
        }
}

void position_backward(const Pass& pass, int node, Blocks blocks) {
    if (float* dx = pass.gradient(node_of(pass, node).inputs[0], blocks.first))
        pass.kernels.copy(pass.slab(node) * size_t(blocks.count()), pass.gradient(node, blocks.first), dx,
                          accumulates(pass, node, 0));
}

void position_gradients(const Pass& pass, int node, Part part) {
    const Node& y = node_of(pass, node);
    if (y.params.empty()) return;
    const Param& table = pass.plan.params[size_t(y.params[0])];
    const auto [begin, end] = part.of(y.width, kStripes);
    float* out = pass.weight_gradient(y.params[0]);
    const bool accumulate = pass.flow->accumulate_params[size_t(node)][0];
    if (!accumulate)
        for (int r = 0; r < table.rows; ++r) clear(out + r * table.stride + begin, size_t(end - begin));
    for (int g = 0; g < y.groups; ++g)
        pass.kernels.row_sums({
            .width = y.width, .groups = 1, .lanes = pass.lanes(), .blocks = pass.blocks(),
            .dy = pass.gradient(node, 0) + ptrdiff_t(g) * y.width * pass.lanes(), .x = nullptr,
            .block_stride = ptrdiff_t(pass.slab(node)), .mean = nullptr, .scale = nullptr,
            .saved_group = 0, .saved_block = 0, .out = out + (g + ptrdiff_t(y.numbers[1])) * table.stride,
            .accumulate = accumulate, .first = begin, .last = end,
        });
}

// --- rope: numbers: head_dim, pairs, interleaved, then cosines and sines [positions][pairs] ----------------------

void rope_prepare(const Plan&, Node& node) { keep_table(node, 3); }

void rotate(const Units& units, float sign, const float* x, float* out, bool accumulate) {
    const Node& y = node_of(units.pass, units.node);
    const int dim = int(y.numbers[0]), pairs = int(y.numbers[1]);
    for (int done = 0; done < units.count;) {  // a block at a time
        const int position = (units.first + done) % y.groups, count = std::min(units.count - done, y.groups - position);
        const ptrdiff_t at = ptrdiff_t(done) * y.width * units.pass.lanes();
        units.pass.kernels.rotate({
            .positions = count, .heads = y.width / dim, .dim = dim, .pairs = pairs, .lanes = units.pass.lanes(),
            .interleaved = y.numbers[2] != 0, .cosine = y.table.data() + ptrdiff_t(position) * pairs,
            .sine = y.table.data() + ptrdiff_t(y.groups + position) * pairs, .sign = sign, .x = x + at, .y = out + at,
            .accumulate = accumulate,
        });
        done += count;
    }
}

void rope_forward(const Pass& pass, int node, Blocks blocks) {
    const Units units(pass, node, blocks);
    rotate(units, 1.0f, units.value(node_of(pass, node).inputs[0]), units.value(node), false);
}

void rope_backward(const Pass& pass, int node, Blocks blocks) {
    const Units units(pass, node, blocks);
    rotate(units, -1.0f, units.gradient(node), units.gradient(node_of(pass, node).inputs[0]),
           accumulates(pass, node, 0));
}

// --- sdpa: q, k, v and maybe segments; numbers: heads, kv_heads, causal, window, globals, stride, scale, softcap,
// relative_buckets, then the bucket of each distance; param [buckets][heads] -----------------------------------------

constexpr size_t kBuckets = 9;

void sdpa_prepare(const Plan&, Node& node) {
    for (size_t i = kBuckets; i < node.numbers.size(); ++i) node.index.push_back(int(node.numbers[i]));
    node.numbers.resize(kBuckets);
}

// The logarithms of the sums, then the gradient of each bucket and head.
size_t sdpa_saved(const Plan&, const Node& node, bool training) {
    if (!training) return 0;
    return size_t(node.numbers[0]) * size_t(node.groups) + size_t(node.numbers[8] * node.numbers[0]);
}

size_t sdpa_scratch(const Plan&, const Node& node, bool training, int lanes) {
    return attention_scratch(node.groups, lanes, training);
}

Attention attention_of(const Pass& pass, int node, int block, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Node &q = node_of(pass, y.inputs[0]), &k = node_of(pass, y.inputs[1]);
    const std::vector<double>& n = y.numbers;
    const int heads = int(n[0]), kv_heads = int(n[1]), shared = heads / kv_heads;
    const size_t saved = sdpa_saved(pass.plan, y, true) * size_t(pass.lanes());
    return {
        .queries = q.groups, .keys = k.groups, .heads = heads, .kv_heads = kv_heads,
        .dim = q.width / heads, .value_dim = y.width / heads, .lanes = pass.lanes(), .causal = n[2] != 0,
        .window = int(n[3]), .globals = int(n[4]), .stride = int(n[5]), .scale = float(n[6]), .softcap = float(n[7]),
        .q = pass.value(y.inputs[0], block), .k = pass.value(y.inputs[1], block),
        .v = pass.value(y.inputs[2], block),
        .segments = y.inputs.size() > 3 ? reinterpret_cast<const int32_t*>(pass.value(y.inputs[3], block)) : nullptr,
        .relative = y.params.empty() ? nullptr : pass.weight(y.params[0]),
        .relative_stride = y.params.empty() ? 0 : pass.plan.params[size_t(y.params[0])].stride,
        .buckets = y.index.data(), .y = pass.value(node, block),
        .lse = pass.training() ? pass.saved(node) + size_t(block) * saved : nullptr,
        .scratch = pass.scratch(blocks.thread), .first_head = blocks.to < 0 ? 0 : blocks.from * shared,
        .last_head = blocks.to < 0 ? heads : blocks.to * shared,
    };
}

void sdpa_forward(const Pass& pass, int node, Blocks blocks) {
    for (int block = blocks.first; block < blocks.last; ++block)
        pass.kernels.attention_forward(attention_of(pass, node, block, blocks));
}

// Vectors first .. last - 1 of every row of `width` vectors.
void clear_columns(float* x, int rows, int width, int lanes, int first, int last) {
    if (last - first == width) return clear(x, size_t(rows) * size_t(width) * size_t(lanes));
    for (int r = 0; r < rows; ++r)
        clear(x + (ptrdiff_t(r) * width + first) * lanes, size_t(last - first) * size_t(lanes));
}

void sdpa_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    for (int block = blocks.first; block < blocks.last; ++block) {
        const Attention p = attention_of(pass, node, block, blocks);
        AttentionBackward back{p, pass.gradient(node, block), pass.gradient(y.inputs[0], block),
                               pass.gradient(y.inputs[1], block), pass.gradient(y.inputs[2], block), nullptr};
        float* const gradients[] = {back.dq, back.dk, back.dv};
        for (size_t j = 0; j < 3; ++j) {
            const Node& x = node_of(pass, y.inputs[j]);
            if (gradients[j] && !accumulates(pass, node, j))
                clear_columns(gradients[j], x.groups, x.width, p.lanes, p.first_head * x.width / p.heads,
                              p.last_head * x.width / p.heads);
        }
        if (!y.params.empty()) {
            const size_t sums = size_t(y.numbers[0]) * size_t(y.groups) * size_t(pass.lanes());
            back.drelative = back.forward.lse + sums;
            clear_columns(back.drelative, int(y.numbers[8]), p.heads, p.lanes, p.first_head, p.last_head);
        }
        pass.kernels.attention_backward(back);
    }
}

void sdpa_gradients(const Pass& pass, int node, Part part) {
    const Node& y = node_of(pass, node);
    if (y.params.empty()) return;
    const int heads = int(y.numbers[0]), buckets = int(y.numbers[8]), lanes = pass.lanes();
    const Param& relative = pass.plan.params[size_t(y.params[0])];
    const auto [begin, end] = part.of(heads, kStripes);
    const size_t sums = size_t(heads) * size_t(y.groups) * size_t(lanes);
    for (int bucket = 0; bucket < buckets; ++bucket)
        pass.kernels.row_sums({
            .width = heads, .groups = 1, .lanes = lanes, .blocks = pass.blocks(),
            .dy = pass.saved(node) + sums + ptrdiff_t(bucket) * heads * lanes, .x = nullptr,
            .block_stride = ptrdiff_t(sdpa_saved(pass.plan, y, true)) * lanes, .mean = nullptr, .scale = nullptr,
            .saved_group = 0, .saved_block = 0, .out = pass.weight_gradient(y.params[0]) + bucket * relative.stride,
            .accumulate = bool(pass.flow->accumulate_params[size_t(node)][0]), .first = begin, .last = end,
        });
}

constexpr Op kAll[] = {
    {"position", false, saves_nothing, position_forward, position_backward, position_gradients, kNothing,
     position_prepare},
    {"rope", false, saves_nothing, rope_forward, rope_backward, nullptr, kByGroup, rope_prepare},
    {"sdpa", false, sdpa_saved, sdpa_forward, sdpa_backward, sdpa_gradients, kInputs | kOutput | kByHead, sdpa_prepare,
     sdpa_scratch},
};
constexpr auto kRows = of_this_build(kAll);

}  // namespace

std::span<const Op> attention_ops() { return kRows; }

}  // namespace alexandra
