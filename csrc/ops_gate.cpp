// top_k_gate: weights of experts from their logits; in training also what it adds to the loss and how its selection
// bias follows the load. numbers: top_k, sigmoid, normalise, scale, balance, z_loss, jitter, capacity, rate of the bias.
#include "ops_parts.h"

#include <algorithm>
#include <cmath>

namespace alexandra {

namespace {

struct Gate {
    int experts, positions, top_k;
    bool sigmoid, normalise, training;
    float scale;
    double balance, z_loss, jitter, capacity, rate;

    Gate(const Node& node, bool train)
        : experts(node.width), positions(node.groups), top_k(int(node.numbers[0])), sigmoid(node.numbers[1] != 0),
          normalise(node.numbers[2] != 0), training(train), scale(float(node.numbers[3])), balance(node.numbers[4]),
          z_loss(node.numbers[5]), jitter(node.numbers[6]), capacity(node.numbers[7]), rate(node.numbers[8]) {}

    size_t values() const { return size_t(experts) * size_t(positions); }
    // An expert takes that many positions of a row.
    float limit() const {
        if (!training || capacity == 0) return INFINITY;
        return float(std::ceil(capacity * positions * top_k / experts));
    }
};

// What a block saves: [values][lanes] each, then for each row the load, probabilities and squares of its positions.
struct Saved {
    float *scores, *chosen, *kept, *noise, *logits, *words, *load, *probability, *squares;

    static size_t per_row(const Gate& gate) {
        if (!gate.training) return 2 * gate.values();
        return (gate.jitter > 0 ? 6 : 3) * gate.values() + 2 * size_t(gate.experts) + 1;
    }
    Saved(const Gate& gate, float* at, size_t lanes) {
        const size_t n = gate.values() * lanes, experts = size_t(gate.experts) * lanes;
        scores = at, chosen = at + n, kept = at + 2 * n;
        noise = at + 3 * n, logits = at + 4 * n, words = at + 5 * n;
        load = at + (gate.jitter > 0 ? 6 : 3) * n, probability = load + experts, squares = probability + experts;
    }
};

Saved saved_of(const Pass& pass, int node, const Gate& gate, int block) {
    const size_t lanes = size_t(pass.lanes());
    return {gate, pass.saved(node) + size_t(block) * Saved::per_row(gate) * lanes, lanes};
}

size_t gate_saved(const Plan&, const Node& node, bool training) { return Saved::per_row(Gate(node, training)); }

// --- forward --------------------------------------------------------------------------------------------------

// Uniform numbers in [1 - jitter, 1 + jitter), row by row, times the logits.
void add_noise(const Pass& pass, int node, int block, const Gate& gate, const Saved& s, const float* x) {
    const size_t n = gate.values() * size_t(pass.lanes());
    const Stream& stream = pass.dropout[node];
    uint32_t* words = reinterpret_cast<uint32_t*>(s.words);
    const uint64_t start = uint64_t(pass.first_row) * gate.values() + uint64_t(block) * n;
    pass.kernels.philox_words(stream.key, stream.nonce, pass.step, start, n, words);
    for (int lane = 0; lane < pass.lanes(); ++lane)
        for (size_t f = 0; f < gate.values(); ++f) {
            const double uniform = double(words[size_t(lane) * gate.values() + f] >> 8) / 16777216.0;
            s.noise[f * size_t(pass.lanes()) + size_t(lane)] = float(1.0 + gate.jitter * (2.0 * uniform - 1.0));
        }
    pass.kernels.multiply(n, x, s.noise, s.logits, false);
}

bool noisy(const Pass& pass, const Gate& gate) { return gate.training && gate.jitter > 0 && pass.dropout; }

// 1 for the best of one position and row; of equals the first.
void choose(const Gate& gate, const float* scores, const float* bias, size_t lanes, float* chosen) {
    for (int e = 0; e < gate.experts; ++e) chosen[size_t(e) * lanes] = 0.0f;
    for (int k = 0; k < gate.top_k; ++k) {
        int best = -1;
        float high = 0;
        for (int e = 0; e < gate.experts; ++e) {
            if (chosen[size_t(e) * lanes] != 0.0f) continue;
            const float score = scores[size_t(e) * lanes] + (bias ? bias[e] : 0.0f);
            if (best < 0 || score > high) best = e, high = score;
        }
        chosen[size_t(best) * lanes] = 1.0f;
    }
}

double log_sum(const Gate& gate, const float* logits, size_t lanes) {
    double high = logits[0], sum = 0;
    for (int e = 1; e < gate.experts; ++e) high = std::max(high, double(logits[size_t(e) * lanes]));
    for (int e = 0; e < gate.experts; ++e) sum += std::exp(double(logits[size_t(e) * lanes]) - high);
    return high + std::log(sum);
}

float sum_of(int count, const float* x, size_t lanes) {
    float sum = 0;
    for (int e = 0; e < count; ++e) sum += x[size_t(e) * lanes];
    return sum;
}

// One position of one row: weights from scores and choice.
void weigh(const Gate& gate, const Saved& s, size_t at, size_t lane, size_t lanes, float* y) {
    float total = 0;
    for (int e = 0; e < gate.experts; ++e)
        total += s.scores[at + size_t(e) * lanes] * s.chosen[at + size_t(e) * lanes];
    const float factor = gate.normalise ? gate.scale / total : gate.scale;
    for (int e = 0; e < gate.experts; ++e) {
        const size_t i = at + size_t(e) * lanes;
        float keep = 1.0f;
        if (gate.training) {
            float& load = s.load[size_t(e) * lanes + lane];
            load += s.chosen[i];
            keep = s.kept[i] = load <= gate.limit() ? 1.0f : 0.0f;
        }
        y[i] = s.chosen[i] != 0.0f && keep != 0.0f ? s.scores[i] * factor : 0.0f;
    }
}

void gate_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Gate gate(y, pass.training());
    const size_t lanes = size_t(pass.lanes()), step = size_t(gate.experts) * lanes;
    const float* bias = y.params.empty() ? nullptr : pass.weight(y.params[0]);
    for (int block = blocks.first; block < blocks.last; ++block) {
        const Saved s = saved_of(pass, node, gate, block);
        const float* logits = pass.value(y.inputs[0], block);
        if (noisy(pass, gate)) add_noise(pass, node, block, gate, s, logits), logits = s.logits;
        if (gate.sigmoid) pass.kernels.unary(Unary::sigmoid, pass.slab(node), logits, s.scores, nullptr, 0.0f);
        else pass.kernels.softmax_forward(groups_of(pass, node), logits, s.scores);
        if (gate.training) clear(s.load, 2 * step + lanes);
        for (size_t at = 0, p = 0; p < size_t(gate.positions); ++p, at += step)
            for (size_t lane = 0; lane < lanes; ++lane) {
                choose(gate, s.scores + at + lane, bias, lanes, s.chosen + at + lane);
                weigh(gate, s, at + lane, lane, lanes, pass.value(node, block));
                if (gate.training && gate.balance > 0) {
                    const float total = sum_of(gate.experts, s.scores + at + lane, lanes);
                    for (size_t e = 0; e < size_t(gate.experts); ++e)
                        s.probability[e * lanes + lane] += s.scores[at + e * lanes + lane] / total;
                }
                if (!gate.training || gate.z_loss == 0) continue;
                const double size = log_sum(gate, logits + at + lane, lanes);
                s.squares[lane] += float(size * size);
            }
    }
}

// --- what the batch decides -----------------------------------------------------------------------------------

// Sums over the rows in use of one of a block's sums.
double over_rows(const Pass& pass, int node, const Gate& gate, float* Saved::*which, int index) {
    double sum = 0;
    for (int row = 0; row < pass.rows; ++row) {
        const Saved s = saved_of(pass, node, gate, row / pass.lanes());
        sum += double((s.*which)[index * pass.lanes() + row % pass.lanes()]);
    }
    return sum;
}

double share(const Pass& pass, int node, const Gate& gate, int expert) {
    return over_rows(pass, node, gate, &Saved::load, expert) / (double(pass.rows) * gate.positions * gate.top_k);
}

double gate_penalty(const Pass& pass, int node) {
    const Gate gate(node_of(pass, node), true);
    const double positions = double(pass.rows) * gate.positions;
    double sum = 0;
    for (int e = 0; gate.balance > 0 && e < gate.experts; ++e)
        sum += share(pass, node, gate, e) * over_rows(pass, node, gate, &Saved::probability, e) / positions;
    const double squares = gate.z_loss > 0 ? over_rows(pass, node, gate, &Saved::squares, 0) / positions : 0;
    return gate.balance * gate.experts * sum + gate.z_loss * squares;
}

size_t gate_batch(const Plan&, const Node& node) { return size_t(node.width); }

void gate_join_backward(const Pass& pass, int node, Part part) {
    const Gate gate(node_of(pass, node), true);
    const auto [first, last] = part.of(gate.experts);
    for (int e = first; gate.balance > 0 && e < last; ++e) pass.batch(node)[e] = float(share(pass, node, gate, e));
}

// Up where an expert had less than the mean load, down where it had more (Wang et al., "Auxiliary-loss-free load
// balancing", 2024).
void gate_learn(const Pass& pass, int node, float* weights) {
    const Node& y = node_of(pass, node);
    if (y.params.empty()) return;
    const Gate gate(y, true);
    float* bias = weights + pass.plan.params[size_t(y.params[0])].offset;
    for (int e = 0; e < gate.experts; ++e) {
        const double missing = 1.0 / gate.experts - share(pass, node, gate, e);
        const bool even = std::fabs(missing) * pass.rows * gate.positions * gate.top_k < 1e-6;
        bias[e] += even ? 0.0f : float(missing > 0 ? gate.rate : -gate.rate);
    }
}

// --- backward -------------------------------------------------------------------------------------------------

// Gradients of the scores of one position and row, into d, from those of the weights.
void score_gradients(const Gate& gate, const Saved& s, size_t at, size_t lanes, const float* dy, float* d) {
    float total = 0, dot = 0;
    for (size_t e = 0; e < size_t(gate.experts); ++e) {
        const size_t i = at + e * lanes;
        d[e] = dy[i] * s.kept[i] * gate.scale;
        total += s.scores[i] * s.chosen[i];
        dot += d[e] * s.scores[i] * s.chosen[i];
    }
    for (size_t e = 0; e < size_t(gate.experts); ++e) {
        if (gate.normalise) d[e] = (d[e] - dot / total) / total;
        d[e] *= s.chosen[at + e * lanes];
    }
}

// What the balance loss adds to them: `share` holds each expert's share of the load.
void add_balance(const Gate& gate, const Saved& s, size_t at, size_t lanes, const float* share, double positions,
                 float* d) {
    const float total = sum_of(gate.experts, s.scores + at, lanes), factor = float(gate.balance * gate.experts / positions);
    float mean = 0;
    for (size_t e = 0; e < size_t(gate.experts); ++e) mean += factor * share[e] * s.scores[at + e * lanes] / total;
    for (size_t e = 0; e < size_t(gate.experts); ++e) d[e] += (factor * share[e] - mean) / total;
}

// Gradients of the logits, in d, from those of the scores.
void through_scores(const Gate& gate, const Saved& s, size_t at, size_t lanes, float* d) {
    float dot = 0;
    for (size_t e = 0; e < size_t(gate.experts); ++e) dot += d[e] * s.scores[at + e * lanes];
    for (size_t e = 0; e < size_t(gate.experts); ++e) {
        const float score = s.scores[at + e * lanes];
        d[e] = gate.sigmoid ? d[e] * score * (1.0f - score) : score * (d[e] - dot);
    }
}

void add_squares(const Gate& gate, const float* logits, size_t lanes, double positions, float* d) {
    const double size = log_sum(gate, logits, lanes);
    for (size_t e = 0; e < size_t(gate.experts); ++e)
        d[e] += float(gate.z_loss * 2.0 * size * std::exp(double(logits[e * lanes]) - size) / positions);
}

size_t gate_scratch(const Plan&, const Node& node, bool training, int) { return training ? 2 * size_t(node.width) : 0; }

void gate_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Gate gate(y, true);
    const size_t lanes = size_t(pass.lanes()), step = size_t(gate.experts) * lanes;
    const double positions = double(pass.rows) * gate.positions / pass.penalty_scale;
    float* d = pass.scratch(blocks.thread);
    for (int block = blocks.first; block < blocks.last; ++block) {
        const Saved s = saved_of(pass, node, gate, block);
        const float* logits = noisy(pass, gate) ? s.logits : pass.value(y.inputs[0], block);
        float* dx = pass.gradient(y.inputs[0], block);
        for (size_t at = 0; at < gate.values() * lanes; at += step)
            for (size_t lane = 0; lane < lanes; ++lane) {
                const bool used = block * pass.lanes() + int(lane) < pass.rows;
                score_gradients(gate, s, at + lane, lanes, pass.gradient(node, block), d);
                if (used && gate.balance > 0) add_balance(gate, s, at + lane, lanes, pass.batch(node), positions, d);
                through_scores(gate, s, at + lane, lanes, d);
                if (used && gate.z_loss > 0) add_squares(gate, logits + at + lane, lanes, positions, d);
                for (size_t e = 0; e < size_t(gate.experts); ++e) {
                    const size_t i = at + lane + e * lanes;
                    const float value = noisy(pass, gate) ? d[e] * s.noise[i] : d[e];
                    dx[i] = (accumulates(pass, node, 0) ? dx[i] : 0.0f) + value;
                }
            }
    }
}

constexpr Op kAll[] = {
    {"top_k_gate", false, gate_saved, gate_forward, gate_backward, nullptr, kInputs, nullptr, gate_scratch, gate_batch,
     nullptr, gate_join_backward, gate_penalty, gate_learn},
};
constexpr auto kRows = of_this_build(kAll);

}  // namespace

std::span<const Op> gate_ops() { return kRows; }

}  // namespace alexandra
