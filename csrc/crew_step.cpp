// One step of a crew: rows, forward, losses, backward, update; and a look at validation rows.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "crew.h"
#include "population_numbers.h"
#include "population_ops.h"

namespace alexandra {

// The order of an epoch: as it is, or the Fisher-Yates shuffle of rng.Stream.permutation. Lanes with fewer rows
// than others meet row 0 beyond their own.
void Crew::shuffle() {
    const int lanes = plan_.lanes;
    alignas(64) uint64_t keys[kStripes], nonces[kStripes];
    alignas(64) uint32_t epochs[kStripes];
    bool all = same_rows_;
    int64_t most = 0;
    for (int lane = 0; lane < lanes; ++lane) {
        const Lane& one = lanes_[size_t(lane)];
        const Program& program = shown(lane).program;
        keys[lane] = program.order.key, nonces[lane] = program.order.nonce, epochs[lane] = uint32_t(one.age);
        all = all && program.shuffle;
        most = std::max(most, one.rows);
    }
    int32_t* order = mask(order_);
    if (all) return plan_.lane_kernels.shuffle(int(most), keys, nonces, epochs, order);
    for (int lane = 0; lane < lanes; ++lane) {
        const int64_t n = lanes_[size_t(lane)].rows;
        auto place = [&](int64_t i) -> int32_t& { return order[i * lanes + lane]; };
        for (int64_t i = 0; i < most; ++i) place(i) = i < n ? int32_t(i) : 0;
        if (!shown(lane).program.shuffle) continue;
        uint32_t words[4];
        for (int64_t done = 0; done < n - 1; ++done) {
            if (done % 4 == 0) philox_block(keys[lane], nonces[lane], epochs[lane], uint32_t(done / 4), words);
            const int64_t i = n - 1 - done;
            std::swap(place(i), place(int64_t((uint64_t(words[done % 4]) * uint64_t(i + 1)) >> 32)));
        }
    }
}

// Which lanes take step `number` of the epoch, and with how many rows. False when none does.
bool Crew::take_rows(int64_t number) {
    const int64_t batch = plan_.batch;
    if (same_rows_ && !fresh_) {
        const int64_t rows = std::min(batch, lanes_[0].rows - number * batch);
        if (rows == rows_ && !uneven_) return true;
    }
    fresh_ = false;
    bool any = false;
    for (size_t lane = 0; lane < lanes_.size(); ++lane) {
        const Lane& one = lanes_[lane];
        rows_now_[lane] = number < one.steps_per_epoch ? std::min(batch, one.rows - number * batch) : 0;
        any = any || (one.seat >= 0 && rows_now_[lane] > 0);
    }
    if (any) set_rows();
    return any;
}

// Masks and factors that follow from rows_now_.
void Crew::set_rows() {
    const int lanes = plan_.lanes;
    rows_ = int(*std::max_element(rows_now_.begin(), rows_now_.end()));
    uneven_ = resting_ = false;
    for (int lane = 0; lane < lanes; ++lane) {
        const int64_t rows = rows_now_[size_t(lane)];
        const bool lives = rows > 0 && lanes_[size_t(lane)].seat >= 0;
        mask(live_)[lane] = lives ? -1 : 0;
        resting_ = resting_ || !lives;
        uneven_ = uneven_ || rows != rows_;
        counts_[size_t(lane)] = rows ? double(rows) : 1.0;
    }
    for (int row = 0; uneven_ && row < rows_; ++row)
        for (int lane = 0; lane < lanes; ++lane) mask(used_)[row * lanes + lane] = row < rows_now_[size_t(lane)] ? -1 : 0;
    for (size_t j = 0; j < plan_.losses.size(); ++j)
        for (int lane = 0; lane < lanes; ++lane)
            loss_scales_[j].data()[lane] = float(1.0 / (double(plan_.terms(j)) * counts_[size_t(lane)]));
}

// Rows order[row][lane] of every lane's data.
void Crew::gather(const Source& source, const int32_t* order, float* to) const {
    const int lanes = plan_.lanes, features = source.features;
    if (source.base) return plan_.lane_kernels.gather(rows_, features, source.base, source.offsets, order, to);
    const float* places[kStripes];
    for (int row = 0; row < rows_; ++row) {
        for (int lane = 0; lane < lanes; ++lane)
            places[lane] = source.data[lane] + int64_t(order[row * lanes + lane]) * features;
        plan_.kernels.slab_from_rows(features, lanes, lanes, places, to + ptrdiff_t(row) * features * lanes);
    }
}

// The losses of rows, and with `learns` their gradients.
void Crew::losses(bool learns) {
    float* arena = arena_.data();
    std::memset(arena + plan_.loss, 0, size_t(rows_ * plan_.lanes) * sizeof(float));
    for (size_t j = 0; j < plan_.losses.size(); ++j) {
        const LossSpec& spec = plan_.losses[j];
        const Node& node = plan_.loss_node(j);
        const size_t at = plan_.gradient[size_t(spec.node)];
        const LaneLoss call{
            .rows = rows_, .groups = node.groups, .width = node.width,
            .x = arena + plan_.value[size_t(spec.node)], .targets = arena + plan_.target[j],
            .used = uneven_ ? mask(used_) : nullptr, .smoothing = spec.smoothing,
            .scale_loss = float(1.0 / plan_.terms(j)), .scale_grad = loss_scales_[j].data(),
            .dx = learns && at != kNowhere ? arena + at : nullptr, .accumulate = spec.accumulate,
            .loss = arena + plan_.loss,
        };
        if (spec.kind == LossKind::cross_entropy) plan_.lane_kernels.cross_entropy(call);
        if (spec.kind == LossKind::binary_cross_entropy) plan_.lane_kernels.binary_cross_entropy(call);
        if (spec.kind == LossKind::squared_error) plan_.lane_kernels.squared_error(call);
    }
}

// Ends networks whose loss is not finite. False when none is left that takes this step.
bool Crew::check(const double* losses) {
    double sum = 0;
    for (int lane = 0; lane < plan_.lanes; ++lane) sum += losses[lane] * 0.0;
    if (sum == 0.0) return true;
    bool any = false;
    for (int lane = 0; lane < plan_.lanes; ++lane) {
        const int64_t seat = lanes_[size_t(lane)].seat;
        if (seat >= 0 && mask(live_)[lane] && !std::isfinite(losses[lane])) {
            population_->outcome(size_t(seat)).failed_with = losses[lane];
            end(lane, Ending::failed);
            mask(live_)[lane] = 0, resting_ = fresh_ = true;
        }
        any = any || mask(live_)[lane];
    }
    return any;
}

// The factor that brings the global norm of all gradients of a network down to its clip_norm.
void Crew::clip() {
    if (!(first_program().clip_norm > 0)) return;
    const int lanes = plan_.lanes;
    double sums[kStripes] = {};
    float *squares = arena_.data() + plan_.norms, *gradients = arena_.data() + plan_.gradients;
    for (size_t i = 0; i < plan_.plan.params.size(); ++i) {
        const Param& param = plan_.plan.params[i];
        plan_.lane_kernels.square_sums(param.rows, param.cols, gradients + plan_.param_at[i] * size_t(lanes), squares);
        for (int row = 0; row < param.rows; ++row)
            for (int lane = 0; lane < lanes; ++lane) sums[lane] += double(squares[row * lanes + lane]);
    }
    for (int lane = 0; lane < lanes; ++lane)
        number(kScale, lane) = float(std::min(1.0, shown(lane).program.clip_norm / (std::sqrt(sums[lane]) + 1e-6)));
}

void Crew::update() {
    const size_t lanes = size_t(plan_.lanes), matrices = plan_.matrices;
    const bool sgd = first_program().optimizer == Optimizer::sgd;
    if (!settled_) {
        settled_ = true;
        for (int lane = 0; lane < plan_.lanes; ++lane) {
            const Rate rate = rates_[size_t(lane)].at(lanes_[size_t(lane)].step);
            number(kRate, lane) = rate.rate, number(kInverseRoot, lane) = rate.inverse_root;
            number(kKeep, lane) = rate.keep, number(kL1, lane) = rate.l1;
            settled_ = settled_ && rate.last;
        }
    }
    float* all = numbers_.data();
    auto at = [&](int which) { return all + size_t(which) * lanes; };
    LaneStep step{at(kBeta1), at(kRest1), at(kBeta2), at(kRest2), at(kRate), at(kInverseRoot), at(kEps), at(kKeep),
                  at(kL2), at(kScale), first_program().l1 > 0 ? at(kL1) : nullptr, resting_ ? mask(live_) : nullptr};
    auto range = [&](size_t first, size_t count) {
        const size_t place = first * lanes;
        const float* gradients = arena_.data() + plan_.gradients + place;
        float* m = moments_[0].floats() ? moments_[0].data() + place : nullptr;
        if (!count) return;
        if (sgd)
            plan_.lane_kernels.sgd(count, weights_.data() + place, gradients, m, step);
        else
            plan_.lane_kernels.adam(count, weights_.data() + place, gradients, m, moments_[1].data() + place, step);
    };
    range(0, matrices);
    step.keep = at(kOne), step.l1 = nullptr;  // vectors do not decay
    range(matrices, plan_.params - matrices);
}

bool Crew::step(int64_t number_in_epoch) {
    const int lanes = plan_.lanes;
    const int32_t* order = mask(order_) + number_in_epoch * plan_.batch * lanes;
    float* arena = arena_.data();
    for (size_t j = 0; j < inputs_.size(); ++j)
        if (const size_t node = size_t(plan_.plan.inputs[j]); plan_.flow.forward[node])
            gather(inputs_[j], order, arena + plan_.value[node]);
    for (size_t j = 0; j < targets_.size(); ++j) gather(targets_[j], order, arena + plan_.target[j]);
    const bool drops = !first_program().dropouts.empty();
    const Stream* streams[kStripes];
    uint32_t steps[kStripes];
    for (int lane = 0; drops && lane < lanes; ++lane) {
        streams[lane] = shown(lane).program.dropouts.data();
        steps[lane] = uint32_t(lanes_[size_t(lane)].step);
    }
    const LanePass pass{plan_, arena, weights_.data(), arena + plan_.gradients, drops ? streams : nullptr, steps,
                        uneven_ ? mask(used_) : nullptr, rows_};
    const std::vector<const LaneOp*>& ops = plan_.ops;
    const Flow& flow = plan_.flow;
    const size_t n = ops.size();
    for (size_t i = 0; i < n; ++i)
        if (flow.forward[i]) ops[i]->forward(pass, int(i));
    losses(true);
    double *sums = doubles(sums_), *means = step_losses_.data() + number_in_epoch * lanes;
    std::memset(sums, 0, size_t(lanes) * sizeof(double));
    plan_.lane_kernels.add_rows(rows_, arena + plan_.loss, pass.used, sums);
    for (int lane = 0; lane < lanes; ++lane) means[lane] = sums[lane] / counts_[size_t(lane)];
    if (!check(means)) return false;
    for (size_t i = n; i-- > 0;)
        if (flow.backward[i]) ops[i]->backward(pass, int(i));
    for (size_t i = n; i-- > 0;)
        if (flow.backward[i] && ops[i]->gradients) ops[i]->gradients(pass, int(i));
    clip();
    update();
    for (int lane = 0; lane < lanes; ++lane) lanes_[size_t(lane)].step += mask(live_)[lane] != 0;
    return true;
}

// looks_ = the loss of each lane's validation rows, as Evaluator computes it.
void Crew::evaluate() {
    const int lanes = plan_.lanes;
    float* arena = arena_.data();
    double* sums = doubles(looks_);
    std::memset(sums, 0, size_t(lanes) * sizeof(double));
    int64_t most = 0;
    for (int lane = 0; lane < lanes; ++lane) most = std::max(most, shown(lane).look_rows());
    for (int64_t first = 0; first < most; first += plan_.batch) {
        for (int lane = 0; lane < lanes; ++lane)
            rows_now_[size_t(lane)] = std::clamp<int64_t>(shown(lane).look_rows() - first, 0, plan_.batch);
        set_rows();
        for (int row = 0; row < rows_; ++row)
            for (int lane = 0; lane < lanes; ++lane)
                mask(places_)[row * lanes + lane] = row < rows_now_[size_t(lane)] ? int32_t(first + row) : 0;
        for (size_t j = 0; j < validation_.size(); ++j)
            gather(validation_[j], mask(places_), arena + plan_.value[size_t(plan_.plan.inputs[j])]);
        for (size_t j = 0; j < validation_targets_.size(); ++j)
            gather(validation_targets_[j], mask(places_), arena + plan_.target[j]);
        const LanePass pass{plan_, arena, weights_.data(), nullptr, nullptr, nullptr, nullptr, rows_};
        for (size_t i = 0; i < plan_.ops.size(); ++i)
            if (plan_.flow.forward[i]) plan_.ops[i]->forward(pass, int(i));
        losses(false);
        plan_.lane_kernels.add_rows(rows_, arena + plan_.loss, uneven_ ? mask(used_) : nullptr, sums);
    }
    for (int lane = 0; lane < lanes; ++lane) sums[lane] /= double(shown(lane).look_rows());
    fresh_ = true;
}

}  // namespace alexandra
