#include "trainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "float_mode.h"
#include <type_traits>

namespace alexandra {

double Program::schedule(int64_t step) const {
    if (step < warmup_steps) return double(step + 1) / double(warmup_steps);
    const int64_t after = step - warmup_steps;
    if (decay == Decay::cosine) {
        const double u = std::min(1.0, double(after) / double(std::max<int64_t>(1, total_steps - warmup_steps)));
        return final_factor + (1.0 - final_factor) * (1.0 + std::cos(3.14159265358979323846 * u)) / 2.0;
    }
    if (decay == Decay::step) return std::pow(decay_factor, double(after / every));
    return 1.0;
}

namespace {

std::vector<LossSpec> specs_of(const std::vector<LossData>& losses) {
    std::vector<LossSpec> specs;
    for (const LossData& loss : losses) specs.push_back(loss.spec);
    return specs;
}

std::vector<Rows> targets_of(const std::vector<LossData>& losses) {
    std::vector<Rows> targets;
    for (const LossData& loss : losses) targets.push_back(loss.targets);
    return targets;
}

int batch_rows(const Program& program, const std::vector<Rows>& inputs) {
    const int64_t rows = inputs.empty() ? 0 : inputs[0].rows;
    if (rows < 1 || rows > (int64_t(1) << 31) - 1)
        throw Error(Status::invalid_argument, "a run needs 1 .. 2^31 - 1 rows, got " + std::to_string(rows));
    if (program.batch_size < 1)
        throw Error(Status::invalid_argument, "batch_size " + std::to_string(program.batch_size) + " is below 1");
    return int(std::min<int64_t>(rows, program.batch_size));
}

}  // namespace

Trainer::Trainer(std::shared_ptr<Engine> engine, const std::vector<NodeSpec>& nodes, Program program,
                 std::vector<Rows> inputs, const std::vector<LossData>& losses)
    : engine_(std::move(engine)),
      plan_(nodes, engine_->weights),
      program_(std::move(program)),
      inputs_(std::move(inputs)),
      specs_(specs_of(losses)),
      targets_(targets_of(losses)),
      flow_(plan_, specs_),
      schedule_(plan_, flow_, program_.checkpoint),
      layout_(plan_, flow_, specs_, schedule_, batch_rows(program_, inputs_), engine_->pool.threads()),
      arena_(layout_.floats),
      gradients_(engine_->weights.floats()),
      rows_(inputs_[0].rows) {
    steps_per_epoch_ = (rows_ + program_.batch_size - 1) / program_.batch_size;
    const bool sgd = program_.optimizer == Optimizer::sgd;
    for (int i = 0; i < (sgd ? program_.momentum != 0 : 2); ++i) moments_.emplace_back(engine_->weights.floats());
    index_.resize(size_t(rows_));
    size_t rows = 0;
    for (const Param& param : plan_.params) rows += size_t(param.rows);
    norms_.resize(program_.clip_norm > 0 ? rows : 0);
}

// The order of an epoch: as it is, or the Fisher-Yates shuffle of rng.Stream.permutation.
void Trainer::prepare_epoch(int64_t epoch) {
    if (epoch == epoch_ || (epoch_ >= 0 && !program_.shuffle)) return;
    epoch_ = epoch;
    for (int64_t i = 0; i < rows_; ++i) index_[size_t(i)] = int32_t(i);
    if (!program_.shuffle) return;
    constexpr size_t chunk = 1024;
    uint32_t words[chunk];
    for (int64_t done = 0; done < rows_ - 1; done += chunk) {
        const size_t count = size_t(std::min<int64_t>(chunk, rows_ - 1 - done));
        engine_->kernels.philox_words(program_.order.key, program_.order.nonce, uint32_t(epoch), uint64_t(done), count,
                                      words);
        for (size_t k = 0; k < count; ++k) {
            const int64_t i = rows_ - 1 - done - int64_t(k);
            std::swap(index_[size_t(i)], index_[size_t((uint64_t(words[k]) * uint64_t(i + 1)) >> 32)]);
        }
    }
}

void Trainer::gather(const Pass& pass, const int32_t* index, Blocks blocks) {
    const int lanes = pass.lanes();
    for (int block = blocks.first; block < blocks.last; ++block) {
        const int count = std::min(lanes, pass.rows - block * lanes);
        for (size_t j = 0; j < inputs_.size(); ++j)
            if (flow_.forward[size_t(plan_.inputs[j])])
                fill_slab(pass.kernels, inputs_[j], index + block * lanes, 0, count, lanes,
                          pass.value(plan_.inputs[j], block));
        for (size_t j = 0; j < targets_.size(); ++j)
            fill_slab(pass.kernels, targets_[j], index + block * lanes, 0, count, lanes,
                      arena_.data() + layout_.target[j] + size_t(block) * size_t(targets_[j].features * lanes));
    }
}

void Trainer::losses(const Pass& pass, Blocks blocks) {
    const int lanes = pass.lanes();
    for (int block = blocks.first; block < blocks.last; ++block) {
        float* loss = arena_.data() + layout_.loss + block * lanes;
        std::memset(loss, 0, size_t(lanes) * sizeof(float));
        for (size_t j = 0; j < specs_.size(); ++j) {
            const LossSpec& spec = specs_[j];
            const Node& node = plan_.nodes[size_t(spec.node)];
            const float* target =
                arena_.data() + layout_.target[j] + size_t(block) * size_t(targets_[j].features * lanes);
            const int terms = spec.kind == LossKind::cross_entropy ? node.groups : node.features();
            const LossCall call{
                .shape = {node.groups, node.width, lanes},
                .rows = pass.rows - block * lanes,
                .x = pass.value(spec.node, block),
                .targets = target,
                .classes = reinterpret_cast<const int32_t*>(target),
                .smoothing = spec.smoothing,
                .scale_loss = float(1.0 / terms),
                .scale_grad = float(1.0 / (double(terms) * pass.rows)),
                .dx = pass.gradient(spec.node, block),
                .accumulate = spec.accumulate,
                .loss = loss,
            };
            if (spec.kind == LossKind::cross_entropy) pass.kernels.cross_entropy(call);
            if (spec.kind == LossKind::binary_cross_entropy) pass.kernels.binary_cross_entropy(call);
            if (spec.kind == LossKind::squared_error) pass.kernels.squared_error(call);
        }
    }
}

// The mean over rows, in float64 and in order.
double Trainer::total_loss(const Pass& pass) const {
    double sum = 0;
    for (int row = 0; row < pass.rows; ++row) sum += double(arena_.data()[layout_.loss + size_t(row)]);
    return sum / pass.rows;
}

double Trainer::loss_and_gradients(int64_t step, bool learns) {
    prepare_epoch(step / steps_per_epoch_);
    const int64_t first = step % steps_per_epoch_ * program_.batch_size;
    const Pass pass{plan_,
                    engine_->kernels,
                    layout_,
                    arena_.data(),
                    engine_->weights.data(),
                    gradients_.data(),
                    &flow_,
                    program_.dropouts.empty() ? nullptr : program_.dropouts.data(),
                    uint32_t(step),
                    int(std::min<int64_t>(program_.batch_size, rows_ - first))};
    const double loss = run_batch(
        engine_->pool, pass, schedule_, [&](Blocks blocks) { gather(pass, index_.data() + first, blocks); },
        [&](Blocks blocks) { losses(pass, blocks); }, [&] { return total_loss(pass); });
    if (learns && std::isfinite(loss)) learn(pass, engine_->weights.data());
    return loss;
}

// The factor that brings the global norm of all gradients down to clip_norm.
float Trainer::clip_scale() {
    if (norms_.empty()) return 1.0f;
    engine_->pool.split([&](Part part) {
        size_t at = 0;
        for (const Param& param : plan_.params) {
            const auto [first, last] = part.of(param.rows);
            for (int r = first; r < last; ++r)
                norms_[at + size_t(r)] = engine_->kernels.sum_of_squares(
                    size_t(param.stride), gradients_.data() + param.offset + r * param.stride);
            at += size_t(param.rows);
        }
    });
    double sum = 0;
    for (float square : norms_) sum += double(square);
    return float(std::min(1.0, program_.clip_norm / (std::sqrt(sum) + 1e-6)));
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
        .l2 = decoupled ? 0.0f : float(program_.weight_decay),
        .scale = scale,
    };
}

// Floats [first, last) of all parameters.
template <typename Step>
void Trainer::update_range(const Step& step, size_t first, size_t last) {
    if (first >= last) return;
    float* w = engine_->weights.data() + first;
    const float* g = gradients_.data() + first;
    float* m = moments_.empty() ? nullptr : moments_[0].data() + first;
    if constexpr (std::is_same_v<Step, SgdStep>)
        engine_->kernels.sgd(last - first, w, g, m, step);
    else
        engine_->kernels.adam(last - first, w, g, m, moments_[1].data() + first, step);
}

// Matrices come first and may decay otherwise than vectors.
template <typename Step>
void Trainer::update_all(const Step& matrices, const Step& vectors) {
    const size_t border = engine_->weights.matrix_floats() / 16, all = engine_->weights.trained_floats() / 16;
    engine_->pool.split([&](Part part) {
        const auto [first, last] = part.of(int(border));
        update_range(matrices, size_t(first) * 16, size_t(last) * 16);
        const auto [begin, end] = part.of(int(all - border));
        update_range(vectors, (border + size_t(begin)) * 16, (border + size_t(end)) * 16);
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
    if (program_.optimizer == Optimizer::adamw) vectors.keep = 1.0f;
    update_all(matrices, vectors);
}

void Trainer::run(int64_t count, double* losses) {
    const std::lock_guard lock(engine_->busy);
    const FlushSubnormals mode;
    for (int64_t i = 0; i < count; ++i) {
        const double loss = loss_and_gradients(step_, true);
        if (!std::isfinite(loss))
            throw Error(Status::not_finite, "the loss is " + std::string(std::isnan(loss) ? "NaN" : "infinite") +
                                                " at step " + std::to_string(step_));
        losses[i] = loss;
        update(step_);
        ++step_;
    }
}

double Trainer::gradients_only() {
    const std::lock_guard lock(engine_->busy);
    const FlushSubnormals mode;
    return loss_and_gradients(0, false);
}

}  // namespace alexandra
