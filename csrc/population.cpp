#include "population.h"

#include <algorithm>
#include <chrono>

#include "crew.h"
#include "dispatch.h"
#include "float_mode.h"
#include "population_ops.h"

namespace alexandra {

LanePlan::LanePlan(const std::vector<NodeSpec>& nodes, const std::vector<ParamSpec>& params_given,
                   std::vector<LossSpec> losses_given, int batch_rows, const std::string& isa)
    : kernels(choose_kernels(isa)),
      lane_kernels(alexandra::lane_kernels(kernels)),
      lanes(kernels.vector_floats),
      batch(batch_rows),
      plan(nodes, Weights(params_given)),
      losses(std::move(losses_given)),
      flow(plan, losses) {
    if (batch < 1) throw Error(Status::invalid_argument, "batch_size " + std::to_string(batch) + " is below 1");
    for (const NodeSpec& node : nodes) ops.push_back(&find_lane_op(node.op));
    for (const LossSpec& spec : losses)
        if (spec.kind > LossKind::squared_error || spec.norm != Norm::count)
            throw Error(Status::unsupported, "a loss that does not run side by side");
    param_at.resize(plan.params.size());
    for (const bool matrix : {true, false}) {
        for (size_t i = 0; i < plan.params.size(); ++i) {
            if (plan.params[i].matrix != matrix) continue;
            param_at[i] = params;
            params += size_t(plan.params[i].rows) * size_t(plan.params[i].cols);
        }
        if (matrix) matrices = params;
    }
    const size_t rows = size_t(batch), n = plan.nodes.size();
    auto take = [&](size_t values) {
        const size_t at = floats;
        floats += round_up(values * size_t(lanes), 16);
        return at;
    };
    value.assign(n, kNowhere), gradient.assign(n, kNowhere), saved.assign(n, kNowhere);
    size_t most_words = 0, most_rows = 0;
    for (size_t i = 0; i < n; ++i) {
        const Node& node = plan.nodes[i];
        const size_t root = size_t(node.root);
        if (root != i) {
            value[i] = value[root], gradient[i] = gradient[root];
            continue;
        }
        value[i] = take(size_t(node.features()) * rows);
        if (flow.has_gradient[i]) gradient[i] = take(size_t(node.features()) * rows);
        if (const size_t per_row = ops[i]->saved(node)) saved[i] = take(per_row * rows);
        if (nodes[i].op == "dropout") most_words = std::max(most_words, size_t(node.features()) * rows);
    }
    for (size_t j = 0; j < losses.size(); ++j) target.push_back(take(size_t(target_width(j)) * rows));
    loss = take(rows);
    for (const Param& param : plan.params) most_rows = std::max(most_rows, size_t(param.rows));
    norms = take(most_rows);
    words = take(round_up(most_words, 16));
    gradients = take(params);
}

namespace {

// What the networks of a population have in common.
bool alike(const Program& a, const Program& b) {
    const bool sgd = a.optimizer == Optimizer::sgd;
    return a.batch_size == b.batch_size && sgd == (b.optimizer == Optimizer::sgd) &&
           (!sgd || (a.momentum != 0) == (b.momentum != 0)) && (a.clip_norm > 0) == (b.clip_norm > 0) &&
           (a.l1 > 0) == (b.l1 > 0) && a.dropouts.size() == b.dropouts.size();
}

}  // namespace

Population::Population(std::shared_ptr<const LanePlan> plan, std::vector<Seat> seats)
    : plan_(std::move(plan)), seats_(std::move(seats)), outcomes_(seats_.size()) {
    if (seats_.empty()) throw Error(Status::invalid_argument, "a population needs a network");
    for (const Seat& seat : seats_) {
        const Program& program = seat.program;
        if (!alike(program, seats_[0].program) || (seat.look_rows() > 0) != validates())
            throw Error(Status::invalid_argument, "the networks of a population differ in what they must share");
        if (program.accumulate != 1 || program.look_every > 0 || !program.wishes.frozen.empty())
            throw Error(Status::unsupported, "a program that does not run side by side");
        if (seat.rows() < 1 || seat.rows() > (int64_t(1) << 30) || seat.look_rows() > (int64_t(1) << 30))
            throw Error(Status::invalid_argument, "a run needs 1 .. 2^30 rows, got " + std::to_string(seat.rows()));
        if (seat.epochs < 1 || program.batch_size < 1 || std::min<int64_t>(seat.rows(), program.batch_size) > plan_->batch)
            throw Error(Status::invalid_argument, "a run needs an epoch, and batches that the plan has room for");
        most_rows_ = std::max(most_rows_, seat.rows());
        most_steps_ = std::max(most_steps_, (seat.rows() + program.batch_size - 1) / program.batch_size);
    }
}

int64_t Population::take() {
    const int64_t next = next_.fetch_add(1, std::memory_order_relaxed);
    return next < int64_t(seats_.size()) ? next : -1;
}

int64_t Population::waiting() const {
    return std::max<int64_t>(0, int64_t(seats_.size()) - next_.load(std::memory_order_relaxed));
}

Fleet::Fleet(std::vector<std::shared_ptr<Population>> populations, int threads)
    : populations_(std::move(populations)), crews_(size_t(threads)), pool_(threads) {}

Fleet::~Fleet() = default;

// A crew of the population in which the most networks wait, or null when none does.
std::unique_ptr<Crew> Fleet::man() {
    const std::lock_guard lock(choosing_);
    std::shared_ptr<Population> best;
    for (const std::shared_ptr<Population>& population : populations_)
        if (population->waiting() > (best ? best->waiting() : 0)) best = population;
    return best && !error_ ? std::make_unique<Crew>(best) : nullptr;
}

int64_t Fleet::ended() const {
    int64_t sum = 0;
    for (const auto& population : populations_) sum += population->ended();
    return sum;
}

bool Fleet::run(double seconds) {
    typedef std::chrono::steady_clock Clock;
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    pool_.split([&](Part part) {
        const FlushSubnormals mode;
        std::unique_ptr<Crew>& crew = crews_[size_t(part.index)];
        try {
            do {
                if (!crew) crew = man();
                if (!crew) return;
                for (int i = 0; i < 8 && crew; ++i)  // a look at the clock costs a tenth of a tiny epoch
                    if (!crew->run_epoch()) crew.reset();
            } while (Clock::now() < end);
        } catch (...) {
            const std::lock_guard lock(choosing_);
            error_ = std::current_exception();
        }
    });
    if (error_) std::rethrow_exception(error_);
    return std::all_of(populations_.begin(), populations_.end(), [](const std::shared_ptr<Population>& population) {
        return population->ended() == int64_t(population->size());
    });
}

}  // namespace alexandra
