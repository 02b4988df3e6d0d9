// Recurrent layers over sequences [positions, inputs]: rnn, lstm, gru. The inputs' share of all gates is one product;
// then position after position adds the state's share. Params: input [gates x size][inputs], hidden [gates x size]
// [size], bias and, for gru, hidden_bias [size]. numbers: reverse, last, relu (rnn).
#include "ops_parts.h"

#include <algorithm>
#include <string_view>

namespace alexandra {

namespace {

enum Cell { rnn, lstm, gru };

// Sizes of a layer, and where each part of what it saves begins: [part][block][positions][numbers][lanes].
struct Layer {
    Cell cell;
    int positions, inputs, size, gates;
    bool reverse, last;
    bool training;

    Layer(const Plan& plan, const Node& node, bool train)
        : cell(node.op->name == std::string_view("rnn") ? rnn : node.op->name == std::string_view("lstm") ? lstm : gru),
          positions(plan.nodes[size_t(node.inputs[0])].shape[0]), inputs(plan.nodes[size_t(node.inputs[0])].width),
          size(node.width), gates((cell == rnn ? 1 : cell == lstm ? 4 : 3) * size), reverse(node.numbers[0] != 0),
          last(node.numbers[1] != 0), training(train) {}

    int step(int t) const { return reverse ? positions - 1 - t : t; }
    // Numbers a position: gates; states; cell and its tanh, or what the state gives n; gradients of gates as the inputs
    // see them, as the state sees them; inputs and states as rows.
    static constexpr size_t parts = 7;
    size_t width(size_t part) const {
        const size_t g = size_t(gates), s = size_t(size), inner = cell == lstm ? 2 * s : cell == gru ? s : 0;
        const size_t all[parts] = {g, s, inner, g, cell == gru ? g : 0, round_up(size_t(inputs), 16), round_up(s, 16)};
        return training || part < 3 ? all[part] : 0;
    }
    size_t before(size_t part) const {
        size_t sum = 0;
        for (size_t i = 0; i < part; ++i) sum += width(i);
        return sum * size_t(positions);
    }
};

enum Saved : size_t { kGates, kStates, kInner, kDGates, kDHidden, kInputRows, kStateRows };

// One block of a layer.
struct Run {
    const Pass& pass;
    const Node& node;
    Layer layer;
    float* base;
    int block;

    Run(const Pass& p, int n, int b)
        : pass(p), node(node_of(p, n)), layer(p.plan, node, p.training()), base(p.saved(n)), block(b) {}

    size_t lanes() const { return size_t(pass.lanes()); }
    size_t numbers() const { return size_t(layer.size) * lanes(); }  // of a state
    float* part(Saved which) const { return base + layer.before(which) * size_t(pass.layout.capacity()); }
    float* at(Saved which, int position) const {
        const size_t width = layer.width(which);
        return part(which) + (size_t(block) * size_t(layer.positions) + size_t(position)) * width * lanes();
    }
    // The state before step t, null for 0.
    float* state_before(int t) const { return t ? at(kStates, layer.step(t - 1)) : nullptr; }
    const Param& param(size_t which) const { return pass.plan.params[size_t(node.params[which])]; }

    // c (+)= W b, or its transpose, for `blocks` vectors.
    void multiply(size_t which, bool across, int blocks, const float* b, float* c, const float* start,
                  bool accumulate) const {
        const Param& w = param(which);
        const int m = across ? w.cols : w.rows, k = across ? w.rows : w.cols;
        pass.kernels.product({
            .m = m, .n = int(lanes()), .k = k, .blocks = blocks, .a = pass.weight(node.params[which]),
            .a_m = across ? 1 : w.stride, .a_k = across ? w.stride : 1, .b = b, .b_k = ptrdiff_t(lanes()),
            .b_block = ptrdiff_t(size_t(k) * lanes()), .c = c, .c_m = ptrdiff_t(lanes()),
            .c_block = ptrdiff_t(size_t(m) * lanes()), .start = start, .accumulate = accumulate, .segment = k,
            .a_segment = 0, .relu = false, .gate = nullptr,
        });
    }
};

size_t recurrent_saved(const Plan& plan, const Node& node, bool training) {
    const Layer layer(plan, node, training);
    return layer.before(Layer::parts);
}

// The state's share of a gru's gates; in backward a gradient of the state, one of the cell and a state of zeros.
size_t recurrent_scratch(const Plan& plan, const Node& node, bool training, int lanes) {
    const Layer layer(plan, node, training);
    return (size_t(layer.gates) + 3 * size_t(layer.size)) * size_t(lanes);
}

// --- one step of a gru: gates hold the inputs' share and become r, z, n ---------------------------------------------

void gru_step(const Run& run, int t, float* share) {
    const size_t n = run.numbers(), lanes = run.lanes();
    const int s = run.layer.step(t);
    float *gates = run.at(kGates, s), *side = run.at(kInner, s), *h = run.at(kStates, s);
    const float *before = run.state_before(t), *bias = run.pass.weight(run.node.params[3]);
    if (before) run.multiply(1, false, 1, before, share, nullptr, false);
    else clear(share, 3 * n);
    for (size_t i = 0; i < n; ++i) side[i] = share[2 * n + i] + bias[i / lanes];
    run.pass.kernels.copy(2 * n, share, gates, true);
    run.pass.kernels.unary(Unary::sigmoid, 2 * n, gates, gates, nullptr, 0.0f);
    run.pass.kernels.multiply(n, gates, side, gates + 2 * n, true);
    run.pass.kernels.unary(Unary::tanh, n, gates + 2 * n, gates + 2 * n, nullptr, 0.0f);
    const float *z = gates + n, *value = gates + 2 * n;
    for (size_t i = 0; i < n; ++i) h[i] = (1.0f - z[i]) * value[i] + (before ? z[i] * before[i] : 0.0f);
}

// dh becomes its share that goes straight to the state before.
void gru_step_backward(const Run& run, int t, float* dh) {
    const size_t n = run.numbers();
    const int s = run.layer.step(t);
    const float *r = run.at(kGates, s), *z = r + n, *value = z + n, *side = run.at(kInner, s);
    const float* before = run.state_before(t);
    float *d = run.at(kDGates, s), *dhidden = run.at(kDHidden, s);
    for (size_t i = 0; i < n; ++i) {
        const float dn = dh[i] * (1.0f - z[i]) * (1.0f - value[i] * value[i]);
        const float dz = dh[i] * ((before ? before[i] : 0.0f) - value[i]) * z[i] * (1.0f - z[i]);
        const float dr = dn * side[i] * r[i] * (1.0f - r[i]);
        d[i] = dhidden[i] = dr, d[n + i] = dhidden[n + i] = dz, d[2 * n + i] = dn, dhidden[2 * n + i] = dn * r[i];
        dh[i] *= z[i];
    }
}

// --- rnn and lstm ---------------------------------------------------------------------------------------------

// An rnn keeps the slopes of its states in place of the gates.
void rnn_step(const Run& run, int t) {
    const int s = run.layer.step(t);
    float *gates = run.at(kGates, s), *h = run.at(kStates, s);
    if (const float* before = run.state_before(t)) run.multiply(1, false, 1, before, gates, nullptr, true);
    const Unary kind = run.node.numbers[2] != 0 ? Unary::relu : Unary::tanh;
    run.pass.kernels.unary(kind, run.numbers(), gates, h, run.layer.training ? gates : nullptr, 0.0f);
}

void lstm_step(const Run& run, int t) {
    const size_t n = run.numbers();
    const int s = run.layer.step(t);
    float *gates = run.at(kGates, s), *inner = run.at(kInner, s);
    if (const float* before = run.state_before(t)) run.multiply(1, false, 1, before, gates, nullptr, true);
    run.pass.kernels.lstm_forward({n, gates, t ? run.at(kInner, run.layer.step(t - 1)) : nullptr, inner, inner + n,
                                   run.at(kStates, s)});
}

void lstm_step_backward(const Run& run, int t, const float* dh, float* dcell) {
    const size_t n = run.numbers();
    const int s = run.layer.step(t);
    run.pass.kernels.lstm_backward({n, run.at(kGates, s), t ? run.at(kInner, run.layer.step(t - 1)) : nullptr,
                                    run.at(kInner, s) + n, dh, dcell, run.at(kDGates, s)});
}

// --- all of them ----------------------------------------------------------------------------------------------

void recurrent_forward(const Pass& pass, int node, Blocks blocks) {
    for (int block = blocks.first; block < blocks.last; ++block) {
        const Run run(pass, node, block);
        const Layer& layer = run.layer;
        run.multiply(0, false, layer.positions, pass.value(run.node.inputs[0], block), run.at(kGates, 0),
                     pass.weight(run.node.params[2]), false);
        for (int t = 0; t < layer.positions; ++t) {
            if (layer.cell == rnn) rnn_step(run, t);
            if (layer.cell == lstm) lstm_step(run, t);
            if (layer.cell == gru) gru_step(run, t, pass.scratch(blocks.thread));
        }
        const float* states = run.at(kStates, layer.last ? layer.step(layer.positions - 1) : 0);
        pass.kernels.copy(pass.slab(node), states, pass.value(node, block), false);
    }
}

// Gradients of the gates of all positions, back through time.
void through_time(const Run& run, const float* dy, float* scratch) {
    const Layer& layer = run.layer;
    const size_t n = run.numbers();
    float *dh = scratch, *dcell = dh + n;
    clear(scratch, 2 * n);
    for (int t = layer.positions - 1; t >= 0; --t) {
        const int s = layer.step(t);
        if (!layer.last) run.pass.kernels.copy(n, dy + size_t(s) * n, dh, true);
        else if (t == layer.positions - 1) run.pass.kernels.copy(n, dy, dh, true);
        if (layer.cell == rnn) run.pass.kernels.multiply(n, dh, run.at(kGates, s), run.at(kDGates, s), false);
        if (layer.cell == lstm) lstm_step_backward(run, t, dh, dcell);
        if (layer.cell == gru) gru_step_backward(run, t, dh);
        if (t) run.multiply(1, true, 1, run.at(layer.cell == gru ? kDHidden : kDGates, s), dh, nullptr, layer.cell == gru);
    }
}

void recurrent_backward(const Pass& pass, int node, Blocks blocks) {
    for (int block = blocks.first; block < blocks.last; ++block) {
        const Run run(pass, node, block);
        const Layer& layer = run.layer;
        const int lanes = pass.lanes(), capacity = pass.layout.capacity() * layer.positions;
        float *scratch = pass.scratch(blocks.thread), *zeros = scratch + 2 * run.numbers();
        through_time(run, pass.gradient(node, block), scratch);
        clear(zeros, run.numbers());
        const float* x = pass.value(run.node.inputs[0], block);
        for (int t = 0; t < layer.positions; ++t) {
            const int s = layer.step(t), row = (block * layer.positions + s) * lanes;
            pass.kernels.panels_from_slab(layer.inputs, lanes, row, x + ptrdiff_t(s) * layer.inputs * lanes,
                                          run.part(kInputRows), capacity);
            pass.kernels.panels_from_slab(layer.size, lanes, row, t ? run.state_before(t) : zeros,
                                          run.part(kStateRows), capacity);
        }
        if (float* dx = pass.gradient(run.node.inputs[0], block))
            run.multiply(0, true, layer.positions, run.at(kDGates, 0), dx, nullptr, accumulates(pass, node, 0));
    }
}

void recurrent_gradients(const Pass& pass, int node, Part part) {
    const Run run(pass, node, 0);
    const Layer& layer = run.layer;
    const std::vector<char>& accumulate = pass.flow->accumulate_params[size_t(node)];
    const std::pair<int, int> range = part.of(layer.gates);
    const float* hidden = run.part(layer.cell == gru ? kDHidden : kDGates);
    weight_gradients(pass, {run.part(kDGates), run.part(kInputRows), layer.positions, layer.gates, layer.inputs,
                            pass.weight_gradient(run.node.params[0]), run.param(0).stride, bool(accumulate[0])}, range);
    weight_gradients(pass, {hidden, run.part(kStateRows), layer.positions, layer.gates, layer.size,
                            pass.weight_gradient(run.node.params[1]), run.param(1).stride, bool(accumulate[1])}, range);
    for (size_t which = 2; which < run.node.params.size(); ++which) {
        const int width = which == 2 ? layer.gates : layer.size, skipped = which == 2 ? 0 : 2 * layer.size;
        const auto [first, last] = part.of(width, kStripes);
        const ptrdiff_t unit = ptrdiff_t(layer.gates) * pass.lanes();
        for (int s = 0; s < layer.positions; ++s)
            pass.kernels.row_sums({
                .width = width, .groups = 1, .lanes = pass.lanes(), .blocks = pass.blocks(),
                .dy = (which == 2 ? run.part(kDGates) : hidden) + s * unit + ptrdiff_t(skipped) * pass.lanes(),
                .x = nullptr, .block_stride = layer.positions * unit, .mean = nullptr, .scale = nullptr,
                .saved_group = 0, .saved_block = 0, .out = pass.weight_gradient(run.node.params[which]),
                .accumulate = s > 0 || accumulate[which], .first = first, .last = last,
            });
    }
}

#define ALEXANDRA_RECURRENT(name)                                                                            \
    {#name, false, recurrent_saved, recurrent_forward, recurrent_backward, recurrent_gradients, kInputs, nullptr, \
     recurrent_scratch}

constexpr Op kAll[] = {ALEXANDRA_RECURRENT(rnn), ALEXANDRA_RECURRENT(lstm), ALEXANDRA_RECURRENT(gru)};
constexpr auto kRows = of_this_build(kAll);

}  // namespace

std::span<const Op> recurrent_ops() { return kRows; }

}  // namespace alexandra
