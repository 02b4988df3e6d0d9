// Schedules, clipping and the optimisers' steps of a Trainer.

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "trainer.h"

namespace alexandra {

double Program::schedule(int64_t step) const {
    if (step < warmup_steps) return double(step + 1) / double(warmup_steps);
    const int64_t after = step - warmup_steps;
    if (decay == Decay::cosine) {
        const double u = std::min(1.0, double(after) / double(std::max<int64_t>(1, total_steps - warmup_steps)));
        return final_factor + (1.0 - final_factor) * (1.0 + std::cos(3.14159265358979323846 * u)) / 2.0;
    }
    if (decay == Decay::linear || decay == Decay::wsd) {
        const int64_t length = decay == Decay::wsd ? every : total_steps - warmup_steps;
        const double u = double(step - (total_steps - length)) / double(std::max<int64_t>(1, length));
        return 1.0 - (1.0 - final_factor) * std::min(1.0, std::max(0.0, u));
    }
    if (decay == Decay::step) return std::pow(decay_factor, double(after / every));
    return 1.0;
}

size_t Program::num_norms(const Plan& plan) const {
    size_t rows = 0;
    for (const Param& param : plan.params) rows += param.learns() ? size_t(param.rows) : 0;
    return clip_norm > 0 ? rows : 0;
}

// The factor that brings the global norm of all gradients down to clip_norm.
float Trainer::clip_scale() {
    if (norms_.empty()) return 1.0f;
    engine_->pool.split([&](Part part) {
        size_t at = 0;
        for (const Param& param : plan_.params) {
            if (!param.learns()) continue;
            const auto [first, last] = part.of(param.rows);
            for (int r = first; r < last; ++r)
                norms_[at + size_t(r)] = engine_->kernels.sum_of_squares(
                    size_t(param.stride), gradients_.data() + param.gradient + r * param.stride);
            at += size_t(param.rows);
        }
    });
    double sum = 0;
    for (float square : norms_) sum += double(square);
    norm_ = std::sqrt(sum);
    return float(std::min(1.0, program_.clip_norm / (norm_ + 1e-6)));
}

// Adam's and AdamW's numbers at a step, with decay.
AdamStep Trainer::adam_step(int64_t step, float scale) const {
    const double lr = program_.lr * program_.schedule(step), t = double(step + 1);
    const bool decoupled = program_.optimizer == Optimizer::adamw;
    return {
        .beta1 = float(program_.beta1),
        .one_minus_beta1 = float(1.0 - program_.beta1),
        .beta2 = float(program_.beta2),
        .one_minus_beta2 = float(1.0 - program_.beta2),
        .rate = float(lr / (1.0 - std::pow(program_.beta1, t))),
        .inverse_root = float(1.0 / std::sqrt(1.0 - std::pow(program_.beta2, t))),
        .eps = float(program_.eps),
        .keep = decoupled ? float(1.0 - lr * program_.weight_decay) : 1.0f,
        .l1 = decoupled ? float(lr * program_.l1) : 0.0f,
        .l2 = decoupled ? 0.0f : float(program_.weight_decay),
        .scale = scale,
    };
}

// Floats [first, last) of a segment.
template <typename Step>
void Trainer::update_range(const Step& step, const Segment& segment, size_t first, size_t last) {
    if (first >= last) return;
    float* w = engine_->weights.data() + segment.weight + first;
    const size_t at = segment.gradient + first;
    const float* g = gradients_.data() + at;
    float* m = moments_.empty() ? nullptr : moments_[0].data() + at;
    if constexpr (std::is_same_v<Step, SgdStep>)
        engine_->kernels.sgd(last - first, w, g, m, step);
    else
        engine_->kernels.adam(last - first, w, g, m, moments_[1].data() + at, step);
}

// Matrices may decay otherwise than vectors.
template <typename Step>
void Trainer::update_all(const Step& matrices, const Step& vectors) {
    engine_->pool.split([&](Part part) {
        for (const Segment& segment : segments_) {
            const auto [first, last] = part.of(int(segment.floats / 16));
            update_range(segment.matrix ? matrices : vectors, segment, size_t(first) * 16, size_t(last) * 16);
        }
    });
}

void Trainer::update(int64_t step) {
    const float scale = clip_scale();
    if (program_.optimizer == Optimizer::sgd) {
        const SgdStep sgd{float(program_.lr * program_.schedule(step)), float(program_.momentum),
                          float(program_.weight_decay), scale};
        return update_all(sgd, sgd);
    }
    const AdamStep matrices = adam_step(step, scale);
    AdamStep vectors = matrices;
    if (program_.optimizer == Optimizer::adamw) vectors.keep = 1.0f, vectors.l1 = 0.0f;
    update_all(matrices, vectors);
    if (!program_.muon.params.empty())
        muon_.step(engine_->pool, engine_->kernels, {engine_->weights.data(), gradients_.data(), moments_[0].data()}, scale,
                   program_.schedule(step));
}

}  // namespace alexandra
