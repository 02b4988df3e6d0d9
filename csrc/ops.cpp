// Every primitive on slabs: foo_forward beside foo_backward, and foo_gradients where it has parameters.
// `numbers` of a node: leaky_relu slope; elu alpha; layernorm, rmsnorm eps; dropout rate; slice start, stop;
// select comparison (== != < <= > >= as 0 .. 5), value; input 1 for int32.

#include "ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace alexandra {

namespace {

size_t saves_nothing(const Plan&, const Node&, bool) { return 0; }

const Node& node_of(const Pass& pass, int node) { return pass.plan.nodes[size_t(node)]; }

Groups groups_of(const Pass& pass, int node) {
    const Node& n = node_of(pass, node);
    return {n.groups, n.width, pass.lanes()};
}

bool accumulates(const Pass& pass, int node, size_t input) {
    return pass.flow->accumulate[size_t(node)][input];
}

void clear(float* x, size_t n) { std::memset(x, 0, n * sizeof(float)); }

void no_forward(const Pass&, int, Blocks) {}

// --- dense: y = W x + b on the last axis; params W [out][in] and maybe b ------------------------------------

size_t dense_saved(const Plan& plan, const Node& node, bool training) {
    const Node& x = plan.nodes[size_t(node.inputs[0])];
    return training ? size_t(node.groups) * round_up(size_t(x.width), 16) : 0;
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
        for (int block = blocks.first; block < blocks.last; ++block)
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

void dense_gradients(const Pass& pass, int node, Part part) {
    const Node& y = node_of(pass, node);
    const Node& x = node_of(pass, y.inputs[0]);
    const Param& w = pass.plan.params[size_t(y.params[0])];
    const int lanes = pass.lanes();
    const ptrdiff_t capacity = pass.layout.capacity();
    const auto [first, last] = part.of(y.width);
    const int padded = int(round_up(size_t(x.width), 16)), whole = padded / kPanel;
    for (int g = 0; g < y.groups; ++g)
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
    if (y.params.size() > 1) bias_gradients(pass, node, 1, part.of(y.width, kStripes));
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

// --- norms over the last axis; params gain and, for layernorm, bias ------------------------------------------

size_t layernorm_saved(const Plan&, const Node& node, bool) { return 2 * size_t(node.groups); }
size_t rmsnorm_saved(const Plan&, const Node& node, bool) { return size_t(node.groups); }

void layernorm_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    for (int block = blocks.first; block < blocks.last; ++block)
        pass.kernels.layernorm_forward(groups_of(pass, node), pass.value(y.inputs[0], block),
                                       pass.weight(y.params[0]), pass.weight(y.params[1]), pass.value(node, block),
                                       pass.saved(node) + block * 2 * y.groups * pass.lanes(), float(y.numbers[0]));
}

void layernorm_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    if (!pass.gradient(y.inputs[0], 0)) return;
    for (int block = blocks.first; block < blocks.last; ++block)
        pass.kernels.layernorm_backward(groups_of(pass, node), pass.value(y.inputs[0], block),
                                        pass.weight(y.params[0]),
                                        pass.saved(node) + block * 2 * y.groups * pass.lanes(),
                                        pass.gradient(node, block), pass.gradient(y.inputs[0], block),
                                        accumulates(pass, node, 0));
}

void rmsnorm_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    for (int block = blocks.first; block < blocks.last; ++block)
        pass.kernels.rmsnorm_forward(groups_of(pass, node), pass.value(y.inputs[0], block), pass.weight(y.params[0]),
                                     pass.value(node, block), pass.saved(node) + block * y.groups * pass.lanes(),
                                     float(y.numbers[0]));
}

void rmsnorm_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    if (!pass.gradient(y.inputs[0], 0)) return;
    for (int block = blocks.first; block < blocks.last; ++block)
        pass.kernels.rmsnorm_backward(groups_of(pass, node), pass.value(y.inputs[0], block),
                                      pass.weight(y.params[0]), pass.saved(node) + block * y.groups * pass.lanes(),
                                      pass.gradient(node, block), pass.gradient(y.inputs[0], block),
                                      accumulates(pass, node, 0));
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
    pass.kernels.philox_words(stream.key, stream.nonce, pass.step, uint64_t(block) * count, count,
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

// --- concat, slice: pieces of the last axis -------------------------------------------------------------------

// Copies `width` features of each group between values whose last axes are wider.
struct Piece {
    int groups, width, from_width, from, to_width, to;
};

void copy_pieces(const Pass& pass, const Piece& p, const float* src, float* dst, bool accumulate) {
    const size_t lanes = size_t(pass.lanes());
    for (int g = 0; g < p.groups; ++g)
        pass.kernels.copy(size_t(p.width) * lanes, src + size_t(g * p.from_width + p.from) * lanes,
                          dst + size_t(g * p.to_width + p.to) * lanes, accumulate);
}

template <bool forward>
void concat(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    for (int block = blocks.first; block < blocks.last; ++block) {
        int at = 0;
        for (size_t j = 0; j < y.inputs.size(); ++j) {
            const int width = node_of(pass, y.inputs[j]).width;
            if (forward)
                copy_pieces(pass, {y.groups, width, width, 0, y.width, at}, pass.value(y.inputs[j], block),
                            pass.value(node, block), false);
            else if (float* dx = pass.gradient(y.inputs[j], block))
                copy_pieces(pass, {y.groups, width, y.width, at, width, 0}, pass.gradient(node, block), dx,
                            accumulates(pass, node, j));
            at += width;
        }
    }
}

void slice_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Piece piece{y.groups, y.width, node_of(pass, y.inputs[0]).width, int(y.numbers[0]), y.width, 0};
    for (int block = blocks.first; block < blocks.last; ++block)
        copy_pieces(pass, piece, pass.value(y.inputs[0], block), pass.value(node, block), false);
}

void slice_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Piece piece{y.groups, y.width, y.width, 0, node_of(pass, y.inputs[0]).width, int(y.numbers[0])};
    for (int block = blocks.first; block < blocks.last; ++block) {
        float* dx = pass.gradient(y.inputs[0], block);
        const bool accumulate = accumulates(pass, node, 0);
        if (!accumulate) clear(dx, pass.slab(y.inputs[0]));
        copy_pieces(pass, piece, pass.gradient(node, block), dx, accumulate);
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
    {#name, false, slope_saved, activation_forward<Unary::name>, activation_backward, nullptr}

const Op kOps[] = {
    {"input", false, saves_nothing, no_forward, no_forward, nullptr},
    {"dense", false, dense_saved, dense_forward, dense_backward, dense_gradients},
    {"embedding", false, saves_nothing, embedding_forward, embedding_backward, embedding_gradients},
    {"relu", false, saves_nothing, activation_forward<Unary::relu>, relu_backward, nullptr},
    ALEXANDRA_ACTIVATION(leaky_relu),
    ALEXANDRA_ACTIVATION(elu),
    ALEXANDRA_ACTIVATION(gelu),
    ALEXANDRA_ACTIVATION(silu),
    ALEXANDRA_ACTIVATION(sigmoid),
    ALEXANDRA_ACTIVATION(softplus),
    ALEXANDRA_ACTIVATION(tanh),
    {"softmax", false, saves_nothing, softmax_forward, softmax_backward, nullptr},
    {"layernorm", false, layernorm_saved, layernorm_forward, layernorm_backward, norm_gradients},
    {"rmsnorm", false, rmsnorm_saved, rmsnorm_forward, rmsnorm_backward, norm_gradients},
    {"dropout", false, dropout_saved, dropout_forward, dropout_backward, nullptr},
    {"add", false, saves_nothing, add_forward, add_backward, nullptr},
    {"mul", false, mul_saved, mul_forward, mul_backward, nullptr},
    {"concat", false, saves_nothing, concat<true>, concat<false>, nullptr},
    {"reshape", true, saves_nothing, no_forward, no_forward, nullptr},
    {"slice", false, saves_nothing, slice_forward, slice_backward, nullptr},
    {"select", false, saves_nothing, select_forward, select_backward, nullptr},
    {"output", true, saves_nothing, no_forward, no_forward, nullptr},
};

}  // namespace

const Op& find_op(const std::string& name) {
    for (const Op& op : kOps)
        if (name == op.name) return op;
    throw Error(Status::unsupported, "the native engine has no op '" + name + "'");
}

}  // namespace alexandra
