#include "muon.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace alexandra {

namespace {

constexpr float kA = 3.4445f, kB = -4.7750f, kC = 2.0315f;  // NEWTON_SCHULZ
constexpr double kSmallest = 1e-7;                          // of a norm that is divided by

// A matrix with its longer side down: rows, columns, and columns with what fills them up.
struct Tall {
    int rows, cols, width;
    bool turned;  // its rows are the parameter's columns
    explicit Tall(const Param& p)
        : rows(std::max(p.rows, p.cols)),
          cols(std::min(p.rows, p.cols)),
          width(int(round_up(size_t(cols), kStripes))),
          turned(p.cols > p.rows) {}
    size_t floats() const { return size_t(rows) * size_t(width); }
    size_t square() const { return size_t(cols) * size_t(width); }
    double cost() const { return double(rows) * cols * width * 2 + double(cols) * cols * width; }
    // Two of them, two squares, and what products need.
    size_t work() const {
        return round_up(2 * floats() + 2 * square() + product_scratch(rows), size_t(kStripes));
    }
    size_t at(int row, int col) const {
        return turned ? size_t(col) * size_t(width) + size_t(row) : size_t(row) * size_t(width) + size_t(col);
    }
};

// C[m][width] = A B, with `width` columns in blocks; A's numbers are a_m and a_k apart.
struct Factors {
    const float* a;
    ptrdiff_t a_m, a_k;
    const float* b;
    float* c;
};

void multiply(const Kernels& kernels, int m, int k, int width, const Factors& f, float* scratch) {
    Product p{};
    p.m = m, p.n = kStripes, p.k = k, p.blocks = width / kStripes;
    p.a = f.a, p.a_m = f.a_m, p.a_k = f.a_k;
    p.b = f.b, p.b_k = width, p.b_block = kStripes;
    p.c = f.c, p.c_m = width, p.c_block = kStripes;
    p.segment = k;
    p.scratch = scratch;
    kernels.product(p);
}

// x becomes a x + x (b G + c G G) with G = x^T x, `iterations` times; where it is then.
const float* orthogonalised(const Kernels& kernels, const Tall& tall, int iterations, float* work) {
    float *x = work, *y = x + tall.floats(), *gram = y + tall.floats(), *square = gram + tall.square();
    float* scratch = square + tall.square();
    const int s = tall.cols, width = tall.width;
    for (int i = 0; i < iterations; ++i) {
        multiply(kernels, s, tall.rows, width, {x, 1, width, x, gram}, scratch);
        multiply(kernels, s, s, width, {gram, width, 1, gram, square}, scratch);
        for (size_t j = 0; j < tall.square(); ++j) square[j] = kB * gram[j] + kC * square[j];
        for (int d = 0; d < s; ++d) square[size_t(d) * size_t(width + 1)] += kA;
        multiply(kernels, tall.rows, s, width, {x, width, 1, square, y}, scratch);
        std::swap(x, y);
    }
    return x;
}

// The parameters that learn, by this rule or by others.
std::vector<Param> learning(const Plan& plan, const MuonRule& rule, bool by_rule) {
    std::vector<Param> found;
    for (int i = 0; i < int(plan.params.size()); ++i) {
        const bool taken = std::find(rule.params.begin(), rule.params.end(), i) != rule.params.end();
        if (plan.params[size_t(i)].learns() && taken == by_rule) found.push_back(plan.params[size_t(i)]);
    }
    return found;
}

}  // namespace

Muon::Muon(const Plan& plan, const MuonRule& rule, int threads) : rule_(rule), shares_(size_t(threads)) {
    std::vector<Param> order = learning(plan, rule, true);
    std::stable_sort(order.begin(), order.end(),
                     [](const Param& a, const Param& b) { return Tall(a).cost() > Tall(b).cost(); });
    std::vector<double> loads(shares_.size());
    for (const Param& param : order) {  // the next goes to whom has least
        const size_t least = size_t(std::min_element(loads.begin(), loads.end()) - loads.begin());
        shares_[least].push_back(param);
        loads[least] += Tall(param).cost();
    }
    work_ = Memory(planned(plan, rule, threads));
    each_ = work_.floats() / size_t(threads);
}

size_t Muon::planned(const Plan& plan, const MuonRule& rule, int threads) {
    size_t most = 0;
    for (const Param& param : learning(plan, rule, true)) most = std::max(most, Tall(param).work());
    return most * size_t(threads);
}

std::vector<Segment> Muon::rest(const Plan& plan, const MuonRule& rule) {
    if (rule.params.empty()) return plan.segments;
    std::vector<Segment> found;
    for (const Param& p : learning(plan, rule, false)) found.push_back({p.offset, p.gradient, p.floats(), p.matrix});
    return found;
}

void Muon::step(Pool& pool, const Kernels& kernels, const Blocks& blocks, float scale, double factor) {
    pool.split([&](Part part) {
        for (size_t share = size_t(part.index); share < shares_.size(); share += size_t(part.count))
            for (const Param& param : shares_[share])
                turn(kernels, param, blocks, scale, factor, work_.data() + size_t(part.index) * each_);
    });
}

void Muon::turn(const Kernels& kernels, const Param& p, const Blocks& blocks, float scale, double factor, float* work) {
    const Tall tall(p);
    const float keep = float(rule_.momentum), gain = float(1.0 - rule_.momentum) * scale;
    std::fill(work, work + tall.floats(), 0.0f);
    for (int r = 0; r < p.rows; ++r) {
        const float* g = blocks.gradients + p.gradient + r * p.stride;
        float* m = blocks.momenta + p.gradient + r * p.stride;
        for (int c = 0; c < p.cols; ++c) {
            m[c] = keep * m[c] + gain * g[c];
            work[tall.at(r, c)] = gain * g[c] + keep * m[c];
        }
    }
    double squares = 0;
    for (int r = 0; r < tall.rows; ++r)
        squares += double(kernels.sum_of_squares(size_t(tall.width), work + size_t(r) * size_t(tall.width)));
    const float shrink = float(1.0 / std::max(std::sqrt(squares), kSmallest));
    for (size_t i = 0; i < tall.floats(); ++i) work[i] *= shrink;
    const float* x = orthogonalised(kernels, tall, rule_.iterations, work);
    const double lr = rule_.lr * factor;
    const float rate = float(lr * std::sqrt(std::max(1.0, double(p.rows) / double(p.cols))));
    const float stay = float(1.0 - lr * rule_.weight_decay);
    for (int r = 0; r < p.rows; ++r) {
        float* w = blocks.weights + p.offset + r * p.stride;
        for (int c = 0; c < p.cols; ++c) w[c] = stay * w[c] - rate * x[tall.at(r, c)];
    }
}

}  // namespace alexandra
