// experts: the sum of weight times a small network, over the networks whose weight is not 0. Positions that use an
// expert are gathered into blocks of 16 columns, a chunk at a time. Params: up [experts x hidden][width], down
// [experts x width][hidden] and, gated, gate like up. numbers: hidden, activation (-1: none), its number, gated.
#include "ops_parts.h"

#include <algorithm>

namespace alexandra {

namespace {

constexpr int kColumns = 16, kChunk = 128;  // columns of a block, positions of a chunk

struct Experts {
    int count, width, hidden, activation, positions;
    float alpha;
    bool gated;

    Experts(const Plan& plan, const Node& node)
        : count(plan.nodes[size_t(node.inputs[1])].width), width(node.width), hidden(int(node.numbers[0])),
          activation(int(node.numbers[1])), positions(node.groups), alpha(float(node.numbers[2])),
          gated(node.numbers[3] != 0) {}
};

// What one chunk works with: matrices [blocks][features][16]; x, dy, out and their gradients `wide`, the others `deep`.
struct Chunk {
    float *x, *dy, *out, *dx;                          // width
    float *up, *gate, *active, *slope, *hidden, *dhidden, *dgate;  // hidden
    float *x_rows, *hidden_rows;                       // panels

    static size_t wide(const Experts& e) { return size_t(e.width) * kChunk; }
    static size_t deep(const Experts& e) { return size_t(e.hidden) * kChunk; }
    static size_t floats(const Experts& e, bool training) {
        const size_t rows = (round_up(size_t(e.width), 16) + round_up(size_t(e.hidden), 16)) * kChunk;
        return training ? 4 * wide(e) + 7 * deep(e) + rows : 2 * wide(e) + 4 * deep(e);
    }
    Chunk(const Experts& e, float* at, bool training) {
        auto take = [&](size_t n) { return std::exchange(at, at + n); };
        x = take(wide(e)), out = take(wide(e));
        up = take(deep(e)), gate = take(deep(e)), active = take(deep(e)), hidden = take(deep(e));
        slope = dhidden = dgate = dy = dx = x_rows = hidden_rows = nullptr;
        if (!training) return;
        slope = take(deep(e)), dhidden = take(deep(e)), dgate = take(deep(e)), dy = take(wide(e)), dx = take(wide(e));
        x_rows = take(round_up(size_t(e.width), 16) * kChunk);
        hidden_rows = take(round_up(size_t(e.hidden), 16) * kChunk);
    }
};

// Positions of a batch that use an expert: where they lie in slabs of one feature, and their weights.
struct Users {
    int count = 0;
    size_t at[kChunk];  // (block * positions + position) * lanes + lane
    float weight[kChunk];

    int blocks() const { return (count + kColumns - 1) / kColumns; }
    int columns() const { return blocks() * kColumns; }
};

struct Work {
    const Pass& pass;
    const Node& node;
    Experts e;
    Chunk chunk;

    Work(const Pass& p, int n, int thread)
        : pass(p), node(node_of(p, n)), e(p.plan, node), chunk(e, p.scratch(thread), p.training()) {}

    size_t lanes() const { return size_t(pass.lanes()); }

    // A position's first number in a slab of `features` features.
    size_t place(size_t at, int features) const {
        return at / lanes() * lanes() * size_t(features) + at % lanes();
    }

    // to[block][feature][column] = from's positions; columns beyond the users are 0.
    void gather(const Users& users, int features, const float* from, bool weighted, float* to) const {
        for (int column = 0; column < users.columns(); ++column) {
            float* out = to + size_t(column / kColumns) * size_t(features) * kColumns + size_t(column % kColumns);
            const bool used = column < users.count;
            const float* x = from + (used ? place(users.at[column], features) : 0);
            const float factor = !used ? 0.0f : weighted ? users.weight[column] : 1.0f;
            for (int f = 0; f < features; ++f) out[f * kColumns] = used ? factor * x[size_t(f) * lanes()] : 0.0f;
        }
    }

    // to's positions += weight * from.
    void scatter(const Users& users, int features, const float* from, bool weighted, float* to) const {
        for (int column = 0; column < users.count; ++column) {
            const float* x = from + size_t(column / kColumns) * size_t(features) * kColumns + size_t(column % kColumns);
            float* out = to + place(users.at[column], features);
            const float factor = weighted ? users.weight[column] : 1.0f;
            for (int f = 0; f < features; ++f) out[size_t(f) * lanes()] += factor * x[f * kColumns];
        }
    }

    // c (+)= W b of one expert, W being rows expert * rows .. of a parameter; or its transpose.
    void multiply(size_t which, int expert, bool across, const Users& users, const float* b, float* c,
                  bool accumulate) const {
        const Param& w = pass.plan.params[size_t(node.params[which])];
        const int rows = w.rows / e.count, m = across ? w.cols : rows, k = across ? rows : w.cols;
        pass.kernels.product({
            .m = m, .n = kColumns, .k = k, .blocks = users.blocks(),
            .a = pass.weight(node.params[which]) + ptrdiff_t(expert) * rows * w.stride,
            .a_m = across ? 1 : w.stride, .a_k = across ? w.stride : 1, .b = b, .b_k = kColumns,
            .b_block = ptrdiff_t(k) * kColumns, .c = c, .c_m = kColumns, .c_block = ptrdiff_t(m) * kColumns,
            .start = nullptr, .accumulate = accumulate, .segment = k, .a_segment = 0, .relu = false, .gate = nullptr,
        });
    }

    size_t deep(const Users& users) const { return size_t(users.columns()) * size_t(e.hidden); }

    void activate(const Users& users, const float* from) const {
        const size_t n = deep(users);
        if (e.activation >= 0) {
            pass.kernels.unary(Unary(e.activation), n, from, chunk.active, chunk.slope, e.alpha);
            return;
        }
        pass.kernels.copy(n, from, chunk.active, false);
        if (chunk.slope) std::fill(chunk.slope, chunk.slope + n, 1.0f);
    }

    // x, up, gate, active (with slopes in training) and hidden of an expert's users.
    void forward(int expert, const Users& users) const {
        gather(users, e.width, pass.value(node.inputs[0], 0), false, chunk.x);
        multiply(0, expert, false, users, chunk.x, chunk.up, false);
        if (e.gated) multiply(2, expert, false, users, chunk.x, chunk.gate, false);
        activate(users, e.gated ? chunk.gate : chunk.up);
        if (e.gated) pass.kernels.multiply(deep(users), chunk.active, chunk.up, chunk.hidden, false);
        else pass.kernels.copy(deep(users), chunk.active, chunk.hidden, false);
    }

    // Gradients before the projections: of up in dhidden, of gate in dgate. dy is weighted.
    void backward(int expert, const Users& users, int node_index) const {
        const size_t n = deep(users);
        gather(users, e.width, pass.gradient(node_index, 0), true, chunk.dy);
        multiply(1, expert, true, users, chunk.dy, chunk.dhidden, false);
        if (e.gated) {
            pass.kernels.multiply(n, chunk.dhidden, chunk.up, chunk.dgate, false);
            pass.kernels.multiply(n, chunk.dgate, chunk.slope, chunk.dgate, false);
            pass.kernels.multiply(n, chunk.dhidden, chunk.active, chunk.dhidden, false);
        } else {
            pass.kernels.multiply(n, chunk.dhidden, chunk.slope, chunk.dhidden, false);
        }
    }

    // f(users) for the positions of blocks of rows that use `expert`, in order, a chunk at a time.
    template <typename F>
    void each_chunk(int expert, int first_block, int last_block, F f) const {
        Users users;
        for (int block = first_block; block < last_block; ++block) {
            const int rows = std::min(pass.lanes(), pass.rows - block * pass.lanes());
            const float* gates = pass.value(node.inputs[1], block);
            for (int position = 0; position < e.positions; ++position)
                for (int lane = 0; lane < rows; ++lane) {
                    const float weight = gates[(size_t(position) * size_t(e.count) + size_t(expert)) * lanes() + size_t(lane)];
                    if (weight == 0.0f) continue;
                    users.weight[users.count] = weight;
                    users.at[users.count++] = (size_t(block) * size_t(e.positions) + size_t(position)) * lanes() + size_t(lane);
                    if (users.count < kChunk) continue;
                    f(users);
                    users.count = 0;
                }
        }
        if (users.count) f(users);
    }
};

size_t experts_scratch(const Plan& plan, const Node& node, bool training, int) {
    return Chunk::floats(Experts(plan, node), training);
}

void experts_forward(const Pass& pass, int node, Blocks blocks) {
    const Work work(pass, node, blocks.thread);
    clear(pass.value(node, blocks.first), pass.slab(node) * size_t(blocks.count()));
    for (int expert = 0; expert < work.e.count; ++expert)
        work.each_chunk(expert, blocks.first, blocks.last, [&](const Users& users) {
            work.forward(expert, users);
            work.multiply(1, expert, false, users, work.chunk.hidden, work.chunk.out, false);
            work.scatter(users, work.e.width, work.chunk.out, true, pass.value(node, 0));
        });
}

// The gradient of a weight is the product of the expert's result with the gradient of y.
void add_gate_gradients(const Work& work, const Users& users, int expert, int node, float* dgates) {
    const Pass& pass = work.pass;
    for (int column = 0; column < users.count; ++column) {
        const size_t block = size_t(column / kColumns) * size_t(work.e.width) * kColumns;
        const float* out = work.chunk.out + block + size_t(column % kColumns);
        const float* dy = pass.gradient(node, 0) + work.place(users.at[column], work.e.width);
        float sums[kStripes] = {};
        for (int c = 0; c < work.e.width; ++c) sums[c % kStripes] += out[c * kColumns] * dy[size_t(c) * work.lanes()];
        for (int half = kStripes / 2; half; half /= 2)
            for (int j = 0; j < half; ++j) sums[j] += sums[j + half];
        dgates[work.place(users.at[column], work.e.count) + size_t(expert) * work.lanes()] += sums[0];
    }
}

void experts_backward(const Pass& pass, int node, Blocks blocks) {
    const Work work(pass, node, blocks.thread);
    const Node& y = work.node;
    float *dx = pass.gradient(y.inputs[0], blocks.first), *dgates = pass.gradient(y.inputs[1], blocks.first);
    const size_t count = size_t(blocks.count());
    if (dx && !accumulates(pass, node, 0)) clear(dx, pass.slab(y.inputs[0]) * count);
    if (dgates && !accumulates(pass, node, 1)) clear(dgates, pass.slab(y.inputs[1]) * count);
    if (!dx && !dgates) return;
    for (int expert = 0; expert < work.e.count; ++expert)
        work.each_chunk(expert, blocks.first, blocks.last, [&](const Users& users) {
            work.forward(expert, users);
            if (dgates) {
                work.multiply(1, expert, false, users, work.chunk.hidden, work.chunk.out, false);
                add_gate_gradients(work, users, expert, node, pass.gradient(y.inputs[1], 0));
            }
            if (!dx) return;
            work.backward(expert, users, node);
            work.multiply(0, expert, true, users, work.chunk.dhidden, work.chunk.dx, false);
            if (work.e.gated) work.multiply(2, expert, true, users, work.chunk.dgate, work.chunk.dx, true);
            work.scatter(users, work.e.width, work.chunk.dx, false, pass.gradient(y.inputs[0], 0));
        });
}

// Adds dy x' to one expert's part of a parameter's gradient; x as rows in `rows`.
void add_product(const Work& work, size_t which, int expert, const Users& users, const float* dy, const float* rows) {
    const Param& w = work.pass.plan.params[size_t(work.node.params[which])];
    const int own = w.rows / work.e.count;
    const WeightSum sum{dy, rows, 1, own, w.cols,
                        work.pass.weight_gradient(work.node.params[which]) + ptrdiff_t(expert) * own * w.stride, w.stride,
                        true};
    sum_rows(work.pass.kernels, sum, kChunk, kColumns, 0, users.columns(), {0, own});
}

void lay_out(const Kernels& kernels, int features, const Users& users, const float* from, float* rows) {
    for (int block = 0; block < users.blocks(); ++block)
        kernels.panels_from_slab(features, kColumns, block * kColumns, from + ptrdiff_t(block) * features * kColumns,
                                 rows, kChunk);
}

// Each part has experts of its own, and computes their values again.
void experts_gradients(const Pass& pass, int node, Part part) {
    const Work work(pass, node, part.index);
    const Chunk& chunk = work.chunk;
    const auto [first, last] = part.of(work.e.count);
    for (int expert = first; expert < last; ++expert) {
        for (size_t which = 0; which < work.node.params.size(); ++which) {
            const Param& w = pass.plan.params[size_t(work.node.params[which])];
            const size_t own = w.floats() / size_t(work.e.count);
            if (!pass.flow->accumulate_params[size_t(node)][which])
                clear(pass.weight_gradient(work.node.params[which]) + size_t(expert) * own, own);
        }
        work.each_chunk(expert, 0, pass.blocks(), [&](const Users& users) {
            work.forward(expert, users);
            work.backward(expert, users, node);
            lay_out(pass.kernels, work.e.width, users, chunk.x, chunk.x_rows);
            lay_out(pass.kernels, work.e.hidden, users, chunk.hidden, chunk.hidden_rows);
            add_product(work, 0, expert, users, chunk.dhidden, chunk.x_rows);
            add_product(work, 1, expert, users, chunk.dy, chunk.hidden_rows);
            if (work.e.gated) add_product(work, 2, expert, users, chunk.dgate, chunk.x_rows);
        });
    }
}

constexpr Op kAll[] = {
    {"experts", false, saves_nothing, experts_forward, experts_backward, experts_gradients, kInputs, nullptr,
     experts_scratch},
};
constexpr auto kRows = of_this_build(kAll);

}  // namespace

std::span<const Op> experts_ops() { return kRows; }

}  // namespace alexandra
