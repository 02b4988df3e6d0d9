#include "population_ops.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace alexandra {

namespace {

size_t saves_nothing(const Node&) { return 0; }

void nothing(const LanePass&, int) {}

const Node& node_of(const LanePass& pass, int node) { return pass.plan().nodes[size_t(node)]; }

Groups groups_of(const LanePass& pass, int node) {
    const Node& n = node_of(pass, node);
    return {pass.rows * n.groups, n.width, pass.lanes()};
}

bool accumulates(const LanePass& pass, int node, size_t input) {
    return pass.lane.flow.accumulate[size_t(node)][input];
}

bool accumulates_param(const LanePass& pass, int node, size_t which) {
    return pass.lane.flow.accumulate_params[size_t(node)][which];
}

void clear(float* x, size_t n) { std::memset(x, 0, n * sizeof(float)); }

// --- dense --------------------------------------------------------------------------------------------------

void dense_forward(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    const int k = node_of(pass, y.inputs[0]).width, lanes = pass.lanes();
    pass.lane.lane_kernels.product({
        .m = y.width, .n = pass.rows * y.groups, .k = k,
        .a = pass.weight(y.params[0]), .a_m = k * lanes, .a_k = lanes,
        .b = pass.value(y.inputs[0]), .b_k = lanes, .b_n = k * lanes,
        .c = pass.value(node), .c_m = lanes, .c_n = y.width * lanes,
        .start = y.params.size() > 1 ? pass.weight(y.params[1]) : nullptr,
        .accumulate = false, .relu = y.relu, .gate = nullptr, .used = nullptr,
    });
}

void dense_backward(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    float* dx = pass.gradient(y.inputs[0]);
    if (!dx) return;
    const int m = node_of(pass, y.inputs[0]).width, lanes = pass.lanes();
    pass.lane.lane_kernels.product({
        .m = m, .n = pass.rows * y.groups, .k = y.width,
        .a = pass.weight(y.params[0]), .a_m = lanes, .a_k = m * lanes,
        .b = pass.gradient(node), .b_k = lanes, .b_n = y.width * lanes,
        .c = dx, .c_m = lanes, .c_n = m * lanes,
        .start = nullptr, .accumulate = accumulates(pass, node, 0), .relu = false,
        .gate = pass.lane.flow.gated[size_t(node)] ? pass.value(y.inputs[0]) : nullptr, .used = nullptr,
    });
}

void bias_gradients(const LanePass& pass, int node, size_t which) {
    const Node& y = node_of(pass, node);
    pass.lane.lane_kernels.row_sums({
        .rows = pass.rows, .groups = y.groups, .width = y.width, .dy = pass.gradient(node), .x = nullptr,
        .mean = nullptr, .scale = nullptr, .saved_step = 0, .out = pass.weight_gradient(y.params[which]),
        .accumulate = accumulates_param(pass, node, which),
    });
}

// Blocks of 16 rows, in each its groups, in each its rows: the order of ops_dense.cpp.
void dense_gradients(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    const Node& x = node_of(pass, y.inputs[0]);
    const int lanes = pass.lanes(), block = y.groups == 1 ? pass.rows : kStripes;
    bool accumulate = accumulates_param(pass, node, 0);
    for (int row = 0; row < pass.rows; row += block)
        for (int g = 0; g < y.groups; ++g, accumulate = true)
            pass.lane.lane_kernels.product({
                .m = y.width, .n = x.width, .k = std::min(block, pass.rows - row),
                .a = pass.gradient(node) + ptrdiff_t(row * y.groups + g) * y.width * lanes,
                .a_m = lanes, .a_k = ptrdiff_t(y.features()) * lanes,
                .b = pass.value(y.inputs[0]) + ptrdiff_t(row * y.groups + g) * x.width * lanes,
                .b_k = ptrdiff_t(x.features()) * lanes, .b_n = lanes,
                .c = pass.weight_gradient(y.params[0]), .c_m = ptrdiff_t(x.width) * lanes, .c_n = lanes,
                .start = nullptr, .accumulate = accumulate, .relu = false, .gate = nullptr,
                .used = pass.used ? pass.used + row * lanes : nullptr,
            });
    if (y.params.size() > 1) bias_gradients(pass, node, 1);
}

// --- embedding ------------------------------------------------------------------------------------------------

// f(value's floats, table's floats) for every row, group and lane that is in use; both advance by `lanes` a feature.
template <typename F>
void each_entry(const LanePass& pass, int node, bool in_use, F f) {
    const Node& y = node_of(pass, node);
    const int lanes = pass.lanes();
    const float* ids = pass.value(y.inputs[0]);
    for (int row = 0; row < pass.rows; ++row)
        for (int g = 0; g < y.groups; ++g)
            for (int lane = 0; lane < lanes; ++lane) {
                if (in_use && pass.used && !pass.used[row * lanes + lane]) continue;
                int32_t id;
                std::memcpy(&id, ids + ptrdiff_t(row * y.groups + g) * lanes + lane, sizeof id);
                f(ptrdiff_t(row * y.groups + g) * y.width * lanes + lane, ptrdiff_t(id) * y.width * lanes + lane);
            }
}

void embedding_forward(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    const int lanes = pass.lanes();
    const float* table = pass.weight(y.params[0]);
    float* out = pass.value(node);
    each_entry(pass, node, false, [&](ptrdiff_t at, ptrdiff_t entry) {
        for (int f = 0; f < y.width; ++f) out[at + f * lanes] = table[entry + f * lanes];
    });
}

void embedding_gradients(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    const int lanes = pass.lanes();
    const Param& table = pass.plan().params[size_t(y.params[0])];
    float* out = pass.weight_gradient(y.params[0]);
    if (!accumulates_param(pass, node, 0)) clear(out, size_t(table.rows) * size_t(table.cols) * size_t(lanes));
    const float* dy = pass.gradient(node);
    each_entry(pass, node, true, [&](ptrdiff_t at, ptrdiff_t entry) {
        for (int f = 0; f < y.width; ++f) out[entry + f * lanes] += dy[at + f * lanes];
    });
}

// --- activations, softmax, norms --------------------------------------------------------------------------------

size_t slope_saved(const Node& node) { return size_t(node.features()); }

template <Unary kind>
void activation_forward(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    if (y.in_place) return;
    const bool keeps = pass.gradients && kind != Unary::relu;
    pass.kernels().unary(kind, pass.size(node), pass.value(y.inputs[0]), pass.value(node),
                         keeps ? pass.saved(node) : nullptr, y.numbers.empty() ? 0.0f : float(y.numbers[0]));
}

void activation_backward(const LanePass& pass, int node) {
    pass.kernels().multiply(pass.size(node), pass.gradient(node), pass.saved(node),
                            pass.gradient(node_of(pass, node).inputs[0]), accumulates(pass, node, 0));
}

void relu_backward(const LanePass& pass, int node) {
    pass.kernels().relu_backward(pass.size(node), pass.value(node), pass.gradient(node),
                                 pass.gradient(node_of(pass, node).inputs[0]), accumulates(pass, node, 0));
}

void softmax_forward(const LanePass& pass, int node) {
    pass.kernels().softmax_forward(groups_of(pass, node), pass.value(node_of(pass, node).inputs[0]),
                                   pass.value(node));
}

void softmax_backward(const LanePass& pass, int node) {
    pass.kernels().softmax_backward(groups_of(pass, node), pass.value(node), pass.gradient(node),
                                    pass.gradient(node_of(pass, node).inputs[0]), accumulates(pass, node, 0));
}

size_t layernorm_saved(const Node& node) { return 2 * size_t(node.groups); }
size_t rmsnorm_saved(const Node& node) { return size_t(node.groups); }

LaneNorm norm_of(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    return {pass.rows * y.groups, y.width, pass.value(y.inputs[0]), pass.weight(y.params[0]),
            y.params.size() > 1 ? pass.weight(y.params[1]) : nullptr, pass.saved(node), float(y.numbers[0])};
}

void norm_forward(const LanePass& pass, int node) {
    pass.lane.lane_kernels.norm_forward(norm_of(pass, node), pass.value(node));
}

void norm_backward(const LanePass& pass, int node) {
    float* dx = pass.gradient(node_of(pass, node).inputs[0]);
    if (dx)
        pass.lane.lane_kernels.norm_backward(norm_of(pass, node), pass.gradient(node), dx,
                                             accumulates(pass, node, 0));
}

void norm_gradients(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    const bool centred = y.params.size() > 1;
    const int lanes = pass.lanes();
    pass.lane.lane_kernels.row_sums({
        .rows = pass.rows, .groups = y.groups, .width = y.width, .dy = pass.gradient(node),
        .x = pass.value(y.inputs[0]), .mean = centred ? pass.saved(node) : nullptr,
        .scale = pass.saved(node) + (centred ? lanes : 0), .saved_step = (centred ? 2 : 1) * lanes,
        .out = pass.weight_gradient(y.params[0]), .accumulate = accumulates_param(pass, node, 0),
    });
    if (centred) bias_gradients(pass, node, 1);
}

// --- dropout: saved is the mask; every network draws its own words -----------------------------------------------

void dropout_forward(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    const size_t n = pass.size(node);
    const float* x = pass.value(y.inputs[0]);
    if (!pass.dropout) return pass.kernels().copy(n, x, pass.value(node), false);
    const int lanes = pass.lanes(), count = pass.rows * y.features();
    float* mask = pass.saved(node);
    float* words = pass.arena + pass.lane.words;
    const size_t stride = round_up(size_t(count), 16);
    const float* rows[kStripes];
    for (int lane = 0; lane < lanes; ++lane) {
        const Stream& stream = pass.dropout[lane][node];
        float* place = words + size_t(lane) * stride;
        pass.kernels().philox_words(stream.key, stream.nonce, pass.steps[lane], 0, size_t(count),
                                    reinterpret_cast<uint32_t*>(place));
        rows[lane] = place;
    }
    pass.kernels().slab_from_rows(count, lanes, lanes, rows, mask);
    pass.kernels().dropout_mask(n, uint32_t(std::ceil(y.numbers[0] * 16777216.0)), float(1.0 / (1.0 - y.numbers[0])),
                                mask);
    pass.kernels().multiply(n, x, mask, pass.value(node), false);
}

void dropout_backward(const LanePass& pass, int node) {
    float* dx = pass.gradient(node_of(pass, node).inputs[0]);
    if (pass.dropout)
        pass.kernels().multiply(pass.size(node), pass.gradient(node), pass.saved(node), dx,
                                accumulates(pass, node, 0));
    else
        pass.kernels().copy(pass.size(node), pass.gradient(node), dx, accumulates(pass, node, 0));
}

// --- add, mul ---------------------------------------------------------------------------------------------------

void add_forward(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    for (size_t j = 0; j < y.inputs.size(); ++j)
        pass.kernels().copy(pass.size(node), pass.value(y.inputs[j]), pass.value(node), j > 0);
}

void add_backward(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    for (size_t j = 0; j < y.inputs.size(); ++j)
        if (float* dx = pass.gradient(y.inputs[j]))
            pass.kernels().copy(pass.size(node), pass.gradient(node), dx, accumulates(pass, node, j));
}

size_t mul_saved(const Node& node) { return node.inputs.size() > 2 ? size_t(node.features()) : 0; }

void mul_forward(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    const size_t n = pass.size(node);
    float* out = pass.value(node);
    pass.kernels().multiply(n, pass.value(y.inputs[0]), pass.value(y.inputs[1]), out, false);
    for (size_t j = 2; j < y.inputs.size(); ++j) pass.kernels().multiply(n, out, pass.value(y.inputs[j]), out, false);
}

void mul_backward(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    const size_t n = pass.size(node), count = y.inputs.size();
    for (size_t j = 0; j < count; ++j) {
        float* dx = pass.gradient(y.inputs[j]);
        if (!dx) continue;
        const float* partial = pass.gradient(node);
        const size_t last = j == count - 1 ? count - 2 : count - 1;
        for (size_t k = 0; k < last; ++k) {
            if (k == j) continue;
            pass.kernels().multiply(n, partial, pass.value(y.inputs[k]), pass.saved(node), false);
            partial = pass.saved(node);
        }
        pass.kernels().multiply(n, partial, pass.value(y.inputs[last]), dx, accumulates(pass, node, j));
    }
}

// --- concat, slice, select ----------------------------------------------------------------------------------------

// Copies `width` features of every vector between values whose last axes are wider.
struct Piece {
    int vectors, width, from_width, from, to_width, to;
};

void copy_pieces(const LanePass& pass, const Piece& p, const float* src, float* dst, bool accumulate) {
    const size_t lanes = size_t(pass.lanes());
    for (int i = 0; i < p.vectors; ++i)
        pass.kernels().copy(size_t(p.width) * lanes, src + (size_t(i) * size_t(p.from_width) + size_t(p.from)) * lanes,
                            dst + (size_t(i) * size_t(p.to_width) + size_t(p.to)) * lanes, accumulate);
}

template <bool forward>
void concat(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    const int vectors = pass.rows * y.groups;
    int at = 0;
    for (size_t j = 0; j < y.inputs.size(); ++j) {
        const int width = node_of(pass, y.inputs[j]).width;
        if (forward)
            copy_pieces(pass, {vectors, width, width, 0, y.width, at}, pass.value(y.inputs[j]), pass.value(node), false);
        else if (float* dx = pass.gradient(y.inputs[j]))
            copy_pieces(pass, {vectors, width, y.width, at, width, 0}, pass.gradient(node), dx,
                        accumulates(pass, node, j));
        at += width;
    }
}

void slice_forward(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    copy_pieces(pass, {pass.rows * y.groups, y.width, node_of(pass, y.inputs[0]).width, int(y.numbers[0]), y.width, 0},
                pass.value(y.inputs[0]), pass.value(node), false);
}

void slice_backward(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    float* dx = pass.gradient(y.inputs[0]);
    const bool accumulate = accumulates(pass, node, 0);
    if (!accumulate) clear(dx, pass.size(y.inputs[0]));
    copy_pieces(pass, {pass.rows * y.groups, y.width, y.width, 0, node_of(pass, y.inputs[0]).width, int(y.numbers[0])},
                pass.gradient(node), dx, accumulate);
}

void select_forward(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    pass.kernels().select(groups_of(pass, node), int(y.numbers[0]), float(y.numbers[1]), pass.value(y.inputs[0]),
                          pass.value(y.inputs[1]), pass.value(y.inputs[2]), pass.value(node), false);
}

void select_backward(const LanePass& pass, int node) {
    const Node& y = node_of(pass, node);
    float* dcondition = pass.gradient(y.inputs[0]);
    if (dcondition && !accumulates(pass, node, 0)) clear(dcondition, pass.size(y.inputs[0]));
    for (const size_t j : {size_t(1), size_t(2)})
        if (float* dx = pass.gradient(y.inputs[j])) {
            const float* dy = pass.gradient(node);
            pass.kernels().select(groups_of(pass, node), int(y.numbers[0]), float(y.numbers[1]),
                                  pass.value(y.inputs[0]), j == 1 ? dy : nullptr, j == 2 ? dy : nullptr, dx,
                                  accumulates(pass, node, j));
        }
}

#define ALEXANDRA_ACTIVATION(name) \
    {#name, slope_saved, activation_forward<Unary::name>, activation_backward, nullptr}

const LaneOp kLaneOps[] = {
    {"input", saves_nothing, nothing, nothing, nullptr},
    {"dense", saves_nothing, dense_forward, dense_backward, dense_gradients},
    {"embedding", saves_nothing, embedding_forward, nothing, embedding_gradients},
    {"relu", saves_nothing, activation_forward<Unary::relu>, relu_backward, nullptr},
    ALEXANDRA_ACTIVATION(leaky_relu),
    ALEXANDRA_ACTIVATION(elu),
    ALEXANDRA_ACTIVATION(gelu),
    ALEXANDRA_ACTIVATION(silu),
    ALEXANDRA_ACTIVATION(sigmoid),
    ALEXANDRA_ACTIVATION(softplus),
    ALEXANDRA_ACTIVATION(tanh),
    ALEXANDRA_ACTIVATION(gelu_tanh),
    {"softmax", saves_nothing, softmax_forward, softmax_backward, nullptr},
    {"layernorm", layernorm_saved, norm_forward, norm_backward, norm_gradients},
    {"rmsnorm", rmsnorm_saved, norm_forward, norm_backward, norm_gradients},
    {"dropout", slope_saved, dropout_forward, dropout_backward, nullptr},
    {"add", saves_nothing, add_forward, add_backward, nullptr},
    {"mul", mul_saved, mul_forward, mul_backward, nullptr},
    {"concat", saves_nothing, concat<true>, concat<false>, nullptr},
    {"reshape", saves_nothing, nothing, nothing, nullptr},
    {"slice", saves_nothing, slice_forward, slice_backward, nullptr},
    {"select", saves_nothing, select_forward, select_backward, nullptr},
    {"output", saves_nothing, nothing, nothing, nullptr},
};

const LaneOp* lane_op(const std::string& name) {
    for (const LaneOp& op : kLaneOps)
        if (name == op.name) return &op;
    return nullptr;
}

}  // namespace

const LaneOp& find_lane_op(const std::string& name) {
    if (const LaneOp* op = lane_op(name)) return *op;
    throw Error(Status::unsupported, "op '" + name + "' does not run side by side");
}

bool has_lane_ops(const std::vector<NodeSpec>& nodes) {
    return std::all_of(nodes.begin(), nodes.end(), [](const NodeSpec& node) { return lane_op(node.op) != nullptr; });
}

}  // namespace alexandra
