#include "trainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "allocations.h"
#include "float_mode.h"

namespace alexandra {

namespace {

int batch_rows(const Program& program, const std::vector<Rows>& inputs) {
    const int64_t rows = inputs.empty() ? 0 : inputs[0].rows;
    if (rows < 1 || rows > (int64_t(1) << 31) - 1)
        throw Error(Status::invalid_argument, "a run needs 1 .. 2^31 - 1 rows, got " + std::to_string(rows));
    if (program.batch_size < 1)
        throw Error(Status::invalid_argument, "batch_size " + std::to_string(program.batch_size) + " is below 1");
    if (program.accumulate < 1)
        throw Error(Status::invalid_argument, "accumulate " + std::to_string(program.accumulate) + " is below 1");
    return program.varies ? program.batch_size : int(std::min<int64_t>(rows, program.batch_size));
}

Flow adding(Flow flow) {
    for (std::vector<char>& node : flow.accumulate_params) std::fill(node.begin(), node.end(), char(1));
    return flow;
}

constexpr auto kPollEvery = std::chrono::milliseconds(50);

}  // namespace

Trainer::Trainer(std::shared_ptr<Engine> engine, const std::vector<NodeSpec>& nodes, Program program,
                 std::vector<Rows> inputs, std::vector<LossData> losses, std::shared_ptr<Evaluator> validation)
    : engine_(std::move(engine)),
      program_(std::move(program)),
      plan_(nodes, engine_->weights, program_.wishes),
      inputs_(std::move(inputs)),
      losses_(std::move(losses)),
      specs_(specs_of(losses_)),
      flow_(plan_, specs_),
      later_(adding(flow_)),
      schedule_(plan_, flow_, program_.checkpoint),
      layout_(plan_, flow_, specs_, schedule_, batch_rows(program_, inputs_), engine_->pool.threads()),
      arena_(program_.part ? 0 : layout_.floats),
      gradients_(program_.part ? 0 : plan_.gradient_floats),
      scales_(losses_.size()),
      validation_(std::move(validation)) {
    for (size_t j = 0; j < losses_.size(); ++j) losses_[j].spec = specs_[j];  // with what Flow knows of them
    for (const LossSpec& spec : specs_) given_ = given_ || spec.kind == LossKind::given;
    if (engine_->weights.mapped()) throw Error(Status::invalid_argument, "mapped weights cannot be trained");
    take_rows(inputs_[0].rows);
    look_every_ = program_.look_every > 0 ? program_.look_every : steps_per_epoch_;
    if (program_.stops != bool(validation_))
        throw Error(Status::invalid_argument, "early stopping and validation rows belong together");
    for (int i = 0; i < program_.num_moments() && !program_.part; ++i) moments_.emplace_back(plan_.learned_floats);
    if (program_.stops) best_ = Memory(engine_->weights.floats());
    norms_.resize(program_.part ? 0 : program_.num_norms(plan_));
    segments_ = Muon::rest(plan_, program_.muon);
    if (!program_.part && !program_.muon.params.empty()) muon_ = Muon(plan_, program_.muon, engine_->pool.threads());
}

void Trainer::take_rows(int64_t rows) {
    rows_ = rows;
    steps_per_epoch_ = (rows_ + program_.update_rows() - 1) / program_.update_rows();
    index_.resize(size_t(std::max<int64_t>(rows_, program_.varies ? program_.batch_size : 0)));
    epoch_ = -1;
}

void Trainer::feed(std::vector<Rows> inputs, const std::vector<LossData>& losses) {
    const std::lock_guard lock(engine_->busy);
    const int64_t rows = inputs.empty() ? 0 : inputs[0].rows, most = (int64_t(1) << 31) - 1;
    const bool counts = program_.varies && !program_.stops ? rows >= 1 && rows <= most : rows == rows_;
    const auto differ = [&](const Rows& now, const Rows& given) {
        return given.features != now.features || given.rows != (now.rows ? rows : 0);
    };
    bool fits = counts && inputs.size() == inputs_.size() && losses.size() == losses_.size();
    for (size_t i = 0; fits && i < inputs.size(); ++i) fits = !differ(inputs_[i], inputs[i]);
    for (size_t i = 0; fits && i < losses.size(); ++i)
        fits = !differ(losses_[i].targets, losses[i].targets) && !differ(losses_[i].weights, losses[i].weights);
    if (!fits) throw Error(Status::invalid_argument, "a run goes on only with data of the shapes that it began with");
    inputs_ = std::move(inputs);
    if (rows != rows_) take_rows(rows);
    for (size_t i = 0; i < losses.size(); ++i)
        losses_[i].targets = losses[i].targets, losses_[i].weights = losses[i].weights;
}

size_t Trainer::arena_floats() const {
    return arena_.floats() + index_.size() + norms_.size() + best_.floats() + muon_.floats() +
           (validation_ ? validation_->arena_floats() : 0);
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
        gather_targets(pass, losses_, {index, 0, pass.rows}, block);
    }
}

// The pass over rows first .. first + rows - 1 of the `all` rows of an update.
Pass Trainer::pass_of(int64_t step, int64_t first, int64_t rows, int64_t all, Place place) const {
    return {plan_,
            engine_->kernels,
            layout_,
            place.arena,
            engine_->weights.values(),
            place.sums,
            first || place.adds ? &later_ : &flow_,
            program_.dropouts.empty() ? nullptr : program_.dropouts.data(),
            uint32_t(step),
            int(rows),
            int(first),
            given_ ? 0.0f : float(double(rows) / double(all))};
}

double Trainer::loss_and_gradients(int64_t step, bool learns, Place place) {
    prepare_epoch(step / steps_per_epoch_);
    const int64_t begin = step % steps_per_epoch_ * program_.update_rows();
    const int64_t all = std::min(program_.update_rows(), rows_ - begin);
    for (size_t j = 0; j < losses_.size(); ++j)
        scales_[j] = scale_of(losses_[j], plan_.nodes[size_t(specs_[j].node)], {index_.data(), begin, all});
    double sum = 0, added = 0, loss = 0;
    for (int64_t first = 0; first < all; first += program_.batch_size) {
        const Pass pass = pass_of(step, first, std::min<int64_t>(program_.batch_size, all - first), all, place);
        loss = run_batch(
            engine_->pool, pass, schedule_,
            [&](Blocks blocks) { gather(pass, index_.data() + begin + first, blocks); },
            [&](Blocks blocks) {
                for (int block = blocks.first; block < blocks.last; ++block)
                    block_losses(pass, losses_, scales_, block);
            },
            [&] {
                add_rows(pass, sum);
                added += double(pass.penalty_scale) * penalties(pass);
                return sum / double(all) + added;
            });
        if (!std::isfinite(loss)) return loss;
        if (learns) learn(pass, engine_->weights.data());
    }
    return loss;
}

void Trainer::refuse(double loss) const {
    const std::string what = std::isnan(loss) ? "NaN" : "infinite";
    const int64_t begin = step_ % steps_per_epoch_ * program_.update_rows();
    const int64_t all = std::min(program_.update_rows(), rows_ - begin);
    for (size_t j = 0; j < losses_.size(); ++j) {
        const Node& node = plan_.nodes[size_t(specs_[j].node)];
        if (std::isfinite(scale_of(losses_[j], node, {index_.data(), begin, all}).loss)) continue;
        throw Error(Status::not_finite, "the loss is " + what + " at step " + std::to_string(step_) +
                                            ": the weights of its targets sum to 0 or less, so they cannot normalise it");
    }
    throw Error(Status::not_finite, "the loss is " + what + " at step " + std::to_string(step_));
}

// A look at the validation rows, when one is due; whether there was one.
bool Trainer::look(double* looks, int64_t number) {
    if (!program_.stops || step_ % look_every_) return false;
    const double loss = validation_->loss();
    float* weights = engine_->weights.data();
    const size_t bytes = engine_->weights.floats() * sizeof(float);
    if (looks) looks[2 * number] = double(step_), looks[2 * number + 1] = loss;
    if (loss < watch_.best_loss - program_.min_delta) {
        watch_ = {loss, step_, 0, false};
        std::memcpy(best_.data(), weights, bytes);
        return true;
    }
    ++watch_.waited;
    watch_.stopped = program_.patience > 0 && watch_.waited >= program_.patience;
    if (watch_.stopped && program_.restore_best && watch_.best_step) std::memcpy(weights, best_.data(), bytes);
    return true;
}

void Trainer::must_own() const {
    if (program_.part) throw Error(Status::invalid_argument, "a part of another trainer's steps takes none itself");
}

RunResult Trainer::run(int64_t count, double* losses, double* looks, const Poll& poll) {
    must_own();
    const std::lock_guard lock(engine_->busy);
    const FlushSubnormals mode;
    const CountAllocations nothing;
    auto asked = std::chrono::steady_clock::now();
    RunResult done{0, 0};
    while (done.steps < count && !watch_.stopped) {
        const double loss = loss_and_gradients(step_, true, own());
        if (!std::isfinite(loss)) refuse(loss);
        if (losses) losses[done.steps] = loss;
        ++done.steps;
        update(step_);
        ++step_;
        done.looks += look(looks, done.looks);
        if (!poll) continue;
        const auto now = std::chrono::steady_clock::now();
        if (now - asked < kPollEvery) continue;
        asked = now;
        if (!poll(step_, loss)) break;
    }
    return done;
}

double Trainer::run_over(const std::vector<std::shared_ptr<Trainer>>& parts) {
    const std::lock_guard lock(engine_->busy);
    const FlushSubnormals mode;
    const auto fits = [&](const std::shared_ptr<Trainer>& part) {
        return part && part->engine_ == engine_ && part->plan_.gradient_floats == gradients_.floats();
    };
    must_own();
    if (parts.empty() || !std::all_of(parts.begin(), parts.end(), fits))
        throw Error(Status::invalid_argument, "a step is made of trainers of one network's weights");
    for (const auto& part : parts)
        if (part->layout_.floats > arena_.floats()) arena_ = Memory(part->layout_.floats);
    const CountAllocations nothing;
    double loss = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
        const double own = parts[i]->loss_and_gradients(step_, true, {arena_.data(), gradients_.data(), i > 0});
        if (!std::isfinite(own)) parts[i]->step_ = step_, parts[i]->refuse(own);
        loss += own;
    }
    update(step_);
    ++step_;
    return loss;
}

double Trainer::gradients_only() {
    must_own();
    const std::lock_guard lock(engine_->busy);
    const FlushSubnormals mode;
    return loss_and_gradients(0, false, own());
}

void Trainer::input_gradient(size_t index, float* rows) const {
    must_own();
    const int node = plan_.inputs.at(index), features = plan_.nodes[size_t(node)].features(), lanes = layout_.lanes;
    const Pass pass = pass_of(0, 0, std::min<int64_t>(rows_, program_.batch_size), rows_,
                              {const_cast<float*>(arena_.data()), nullptr, false});
    if (!pass.gradient(node, 0)) {
        std::memset(rows, 0, size_t(pass.rows) * size_t(features) * sizeof(float));
        return;
    }
    for (int row = 0; row < pass.rows; row += lanes)
        pass.kernels.rows_from_slab(features, lanes, std::min(lanes, pass.rows - row), pass.gradient(node, row / lanes),
                                    rows + int64_t(row) * features, features);
}

}  // namespace alexandra
