#include "population_rates.h"

#include <cmath>
#include <map>
#include <mutex>

namespace alexandra {

namespace {

constexpr size_t kMostSteps = 65536, kMostTables = 32;

// 1 - beta^t for t = 1, 2, ... until it is 1 for good; null when too many decays are in use.
const std::vector<double>* one_minus_powers(double beta) {
    static std::mutex guard;
    static std::map<double, std::vector<double>> tables;
    const std::lock_guard lock(guard);
    const auto found = tables.find(beta);
    if (found != tables.end()) return &found->second;
    if (tables.size() == kMostTables) return nullptr;
    std::vector<double>& table = tables[beta];
    do table.push_back(1.0 - std::pow(beta, double(table.size() + 1)));
    while (table.back() != 1.0 && table.size() < kMostSteps);
    return &table;
}

}  // namespace

Rates::Rates(const Program& program) : program_(&program) {
    flat_ = program.decay == Decay::constant && program.warmup_steps == 0;
    const bool decoupled = program.optimizer == Optimizer::adamw;
    keep_ = decoupled ? float(1.0 - program.lr * program.weight_decay) : 1.0f;
    l1_ = decoupled ? float(program.lr * program.l1) : 0.0f;
    if (program.optimizer == Optimizer::sgd) return;
    rest1_ = one_minus_powers(program.beta1);
    rest2_ = one_minus_powers(program.beta2);
}

double Rates::rest(const std::vector<double>* table, double beta, int64_t step) const {
    if (table && size_t(step) < table->size()) return (*table)[size_t(step)];
    if (table && table->back() == 1.0) return 1.0;
    return 1.0 - std::pow(beta, double(step + 1));
}

Rate Rates::at(int64_t step) const {
    if (!program_) return {0.0f, 1.0f, 1.0f, 0.0f, true};  // a lane that never had a network
    const Program& p = *program_;
    const double lr = flat_ ? p.lr : p.lr * p.schedule(step);
    if (p.optimizer == Optimizer::sgd) return {float(lr), 1.0f, 1.0f, 0.0f, flat_};
    const bool decays = !flat_ && p.optimizer == Optimizer::adamw;
    const double rest1 = rest(rest1_, p.beta1, step), rest2 = rest(rest2_, p.beta2, step);
    return {float(lr / rest1), rest2 == 1.0 ? 1.0f : float(1.0 / std::sqrt(rest2)),
            decays ? float(1.0 - lr * p.weight_decay) : keep_,
            decays ? float(lr * p.l1) : l1_, flat_ && rest1 == 1.0 && rest2 == 1.0};
}

double pairwise_sum(const double* x, int64_t n, int64_t stride) {
    if (n < 8) {
        double sum = -0.0;
        for (int64_t i = 0; i < n; ++i) sum += x[i * stride];
        return sum;
    }
    if (n <= 128) {
        double s[8];
        for (int j = 0; j < 8; ++j) s[j] = x[j * stride];
        int64_t i = 8;
        for (; i < n - n % 8; i += 8)
            for (int j = 0; j < 8; ++j) s[j] += x[(i + j) * stride];
        double sum = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
        for (; i < n; ++i) sum += x[i * stride];
        return sum;
    }
    int64_t half = n / 2;
    half -= half % 8;
    return pairwise_sum(x, half, stride) + pairwise_sum(x + half * stride, n - half, stride);
}

}  // namespace alexandra
