#include "crew.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "population_numbers.h"

namespace alexandra {

Crew::Crew(std::shared_ptr<Population> population)
    : population_(std::move(population)), plan_(population_->plan()), lanes_(size_t(plan_.lanes)) {
    const size_t lanes = size_t(plan_.lanes), all = plan_.params * lanes;
    const Program& first = first_program();
    arena_ = Memory(plan_.floats), weights_ = Memory(all);
    if (population_->validates()) best_ = Memory(all), places_ = Memory(size_t(plan_.batch) * lanes);
    for (int i = 0; i < (first.optimizer == Optimizer::sgd ? first.momentum != 0 : 2); ++i) moments_[i] = Memory(all);
    order_ = Memory(size_t(population_->most_rows()) * lanes);
    numbers_ = Memory(kNumbers * lanes);
    used_ = Memory(size_t(plan_.batch) * lanes), live_ = Memory(lanes);
    sums_ = Memory(2 * lanes), looks_ = Memory(2 * lanes);
    for (size_t j = 0; j < plan_.losses.size(); ++j) loss_scales_.emplace_back(lanes);
    step_losses_.resize(size_t(population_->most_steps()) * lanes);
    counts_.assign(lanes, 1), rows_now_.resize(lanes), rates_.resize(lanes);
    fill_lanes();
}

// Gives every free lane the next network that waits.
void Crew::fill_lanes() {
    bool any = false;
    vacant_ = false;
    for (int lane = 0; lane < plan_.lanes; ++lane) {
        if (lanes_[size_t(lane)].seat < 0)
            if (const int64_t seat = population_->take(); seat >= 0) begin(lane, seat);
        any = any || lanes_[size_t(lane)].seat >= 0;
    }
    if (any) show_lanes();
}

void Crew::begin(int lane, int64_t number) {
    const Seat& seat = population_->seat(size_t(number));
    const size_t lanes = size_t(plan_.lanes), to = size_t(lane);
    const int64_t rows = seat.rows(), batch = seat.program.batch_size;
    lanes_[to] = {number, number, rows, (rows + batch - 1) / batch, 0, 0, {}};
    const float* natural = seat.weights;
    for (size_t i = 0; i < plan_.plan.params.size(); ++i) {
        const Param& param = plan_.plan.params[i];
        const size_t count = size_t(param.rows) * size_t(param.cols);
        float* place = weights_.data() + plan_.param_at[i] * lanes + to;
        for (size_t k = 0; k < count; ++k) place[k * lanes] = natural[k];
        natural += count;
    }
    for (Memory& moment : moments_)
        for (size_t i = to; i < moment.floats(); i += lanes) moment.data()[i] = 0.0f;
    rates_[to] = Rates(seat.program);
    set_numbers(lane, seat.program);
}

void Crew::set_numbers(int lane, const Program& p) {
    const bool sgd = p.optimizer == Optimizer::sgd;
    number(kBeta1, lane) = float(sgd ? p.momentum : p.beta1);
    number(kRest1, lane) = float(1.0 - p.beta1);
    number(kBeta2, lane) = float(p.beta2);
    number(kRest2, lane) = float(1.0 - p.beta2);
    number(kEps, lane) = float(p.eps);
    number(kL2, lane) = p.optimizer == Optimizer::adamw ? 0.0f : float(p.weight_decay);
    number(kKeep, lane) = number(kScale, lane) = number(kOne, lane) = 1.0f;
}

// A lane without a network shows the rows of the first that has one.
void Crew::show_lanes() {
    const auto first = std::find_if(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return lane.seat >= 0; });
    same_rows_ = true, longest_ = 0;
    for (Lane& lane : lanes_) {
        if (lane.seat < 0) lane.shown = first->seat, lane.rows = first->rows, lane.steps_per_epoch = first->steps_per_epoch;
        same_rows_ = same_rows_ && lane.rows == first->rows;
        longest_ = std::max(longest_, lane.steps_per_epoch);
    }
    const Seat& seat = population_->seat(size_t(first->seat));
    inputs_ = sources(&Seat::inputs, seat.inputs.size());
    targets_ = sources(&Seat::targets, seat.targets.size());
    validation_ = sources(&Seat::validation, seat.validation.size());
    validation_targets_ = sources(&Seat::validation_targets, seat.validation_targets.size());
    fresh_ = true, settled_ = false;
}

Crew::Source Crew::source(Field field, size_t which) const {
    Source source{};
    bool near = true;
    for (int lane = 0; lane < plan_.lanes; ++lane) {
        const Rows& rows = (shown(lane).*field)[which];
        source.features = rows.features;
        source.data[lane] = static_cast<const float*>(rows.data);
        const int64_t away = int64_t(reinterpret_cast<intptr_t>(rows.data) - reinterpret_cast<intptr_t>(source.data[0]));
        source.offsets[lane] = int32_t(away / 4);
        near = near && away % 4 == 0 && std::abs(away / 4) + rows.rows * rows.features < (int64_t(1) << 31);
    }
    source.base = near && source.features < 8 ? source.data[0] : nullptr;
    return source;
}

std::vector<Crew::Source> Crew::sources(Field field, size_t count) const {
    std::vector<Source> found;
    for (size_t which = 0; which < count; ++which) found.push_back(source(field, which));
    return found;
}

bool Crew::run_epoch() {
    if (std::none_of(lanes_.begin(), lanes_.end(), [](const Lane& lane) { return lane.seat >= 0; })) return false;
    shuffle();
    for (int64_t i = 0; i < longest_; ++i)
        if (!take_rows(i) || !step(i)) break;
    end_epoch();
    return true;
}

// What the epoch showed of each network, and whether it goes on.
void Crew::end_epoch() {
    if (population_->validates()) evaluate();
    bool better[kStripes] = {}, improved = false;
    Ending endings[kStripes];
    for (int lane = 0; lane < plan_.lanes; ++lane) {
        Lane& one = lanes_[size_t(lane)];
        endings[lane] = Ending::none;
        if (one.seat < 0) continue;
        const int64_t count = one.steps_per_epoch;
        const double mean = pairwise_sum(step_losses_.data() + lane, count, plan_.lanes) / double(count);
        population_->outcome(size_t(one.seat)).means.push_back(mean);
        ++one.age;
        endings[lane] = look(lane, mean, &better[lane]);
        improved = improved || better[lane];
    }
    if (improved) keep_best(better);
    for (int lane = 0; lane < plan_.lanes; ++lane)
        if (endings[lane] != Ending::none) end(lane, endings[lane]);
    if (vacant_) fill_lanes();
}

// Applies a network's own rules; those of early stopping are Trainer's.
Ending Crew::look(int lane, double loss, bool* better) {
    Lane& one = lanes_[size_t(lane)];
    const Seat& seat = population_->seat(size_t(one.seat));
    if (population_->validates()) {
        Watch& watch = one.watch;
        loss = doubles(looks_)[lane];
        population_->outcome(size_t(one.seat)).looks.push_back(loss);
        *better = loss < watch.best_loss - seat.program.min_delta;
        if (*better)
            watch = {loss, one.step, 0, false};
        else if (++watch.waited >= seat.program.patience && seat.program.patience > 0)
            return Ending::patience;
    }
    if (loss <= seat.target_loss) return Ending::target;
    return one.age >= seat.epochs ? Ending::epochs : Ending::none;
}

// The weights stay where they lie until the lane is filled anew.
void Crew::end(int lane, Ending ending) {
    Lane& one = lanes_[size_t(lane)];
    const Seat& seat = population_->seat(size_t(one.seat));
    Outcome& outcome = population_->outcome(size_t(one.seat));
    const bool restores = seat.program.restore_best && one.watch.best_step > 0;
    store(restores ? best_ : weights_, lane, seat.weights);
    outcome.ending = ending, outcome.steps = one.step, outcome.best_step = one.watch.best_step;
    one.seat = -1, vacant_ = true;
    population_->end_one();
}

void Crew::store(const Memory& from, int lane, float* natural) const {
    const size_t lanes = size_t(plan_.lanes);
    for (size_t i = 0; i < plan_.plan.params.size(); ++i) {
        const Param& param = plan_.plan.params[i];
        const size_t count = size_t(param.rows) * size_t(param.cols);
        const float* place = from.data() + plan_.param_at[i] * lanes + size_t(lane);
        for (size_t k = 0; k < count; ++k) natural[k] = place[k * lanes];
        natural += count;
    }
}

void Crew::keep_best(const bool* better) {
    const size_t lanes = size_t(plan_.lanes);
    for (size_t i = 0; i < plan_.params * lanes; i += lanes)
        for (size_t lane = 0; lane < lanes; ++lane)
            best_.data()[i + lane] = better[lane] ? weights_.data()[i + lane] : best_.data()[i + lane];
}

}  // namespace alexandra
