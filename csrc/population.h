// Many small networks of one shape, each with its own data, seed, settings and stop rule, trained side by side:
// lane j of every vector is one network, and does bit for bit what Trainer does with that network alone.
//
// A LanePlan is what the networks of a shape share. A Population is a queue of them; a Crew (crew.h) takes as many
// as a vector has lanes, keeps their weights in the processor's cache until their rules end them, and takes others.
#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "population_kernels.h"
#include "trainer.h"

namespace alexandra {

struct LaneOp;  // population_ops.h

// The plan of a shape: nodes, who writes first, and where values lie for `batch` rows of every network.
struct LanePlan {
    LanePlan(const std::vector<NodeSpec>& nodes, const std::vector<ParamSpec>& params, std::vector<LossSpec> losses,
             int batch, const std::string& isa);

    const Kernels& kernels;
    const LaneKernels& lane_kernels;
    const int lanes, batch;
    Plan plan;
    std::vector<LossSpec> losses;
    Flow flow;
    std::vector<const LaneOp*> ops;
    std::vector<size_t> param_at;                        // of one network; matrices first
    std::vector<size_t> value, gradient, saved, target;  // in floats, in a crew's arena
    size_t loss, norms, words, gradients;                // losses of rows; squares; dropout's words; of parameters
    size_t params = 0, matrices = 0;                     // values of one network, those of its matrices
    size_t floats = 0;                                   // of a crew's arena
    const Node& loss_node(size_t which) const { return plan.nodes[size_t(losses[which].node)]; }
    int terms(size_t which) const { return loss_terms(losses[which], loss_node(which)); }
    int target_width(size_t which) const { return target_features(losses[which], loss_node(which)); }
};

// One network. All memory belongs to the caller and outlives the population.
struct Seat {
    Program program;
    int64_t epochs;      // at most
    double target_loss;  // ends after an epoch whose loss, on validation rows if there are any, is not above it
    std::vector<Rows> inputs, targets;                        // a Rows per input and per loss
    std::vector<Rows> validation, validation_targets;         // empty: none
    float* weights;      // [params] in the order of the ParamSpecs: the first ones, and at last those that stay
    int64_t rows() const { return inputs.at(0).rows; }
    int64_t look_rows() const { return validation.empty() ? 0 : validation[0].rows; }
};

enum class Ending { none, epochs, patience, target, failed };

// What became of a network: the mean loss of every epoch, and the loss on validation rows after it.
struct Outcome {
    std::vector<double> means, looks;
    int64_t steps = 0, best_step = 0;
    double failed_with = 0;  // the loss that was not finite, at step `steps`
    Ending ending = Ending::none;
};

class Population {
public:
    Population(std::shared_ptr<const LanePlan> plan, std::vector<Seat> seats);

    const LanePlan& plan() const { return *plan_; }
    size_t size() const { return seats_.size(); }
    const Seat& seat(size_t i) const { return seats_[i]; }
    Outcome& outcome(size_t i) { return outcomes_[i]; }
    int64_t most_rows() const { return most_rows_; }
    int64_t most_steps() const { return most_steps_; }
    bool validates() const { return seats_[0].look_rows() > 0; }

    // The next network that waits for a lane, or -1.
    int64_t take();
    int64_t waiting() const;
    int64_t ended() const { return ended_.load(std::memory_order_relaxed); }
    void end_one() { ended_.fetch_add(1, std::memory_order_relaxed); }

private:
    std::shared_ptr<const LanePlan> plan_;
    const std::vector<Seat> seats_;
    std::vector<Outcome> outcomes_;
    std::atomic<int64_t> next_{0}, ended_{0};
    int64_t most_rows_ = 0, most_steps_ = 0;
};

class Crew;

// Threads that train populations, each with a crew of its own.
class Fleet {
public:
    Fleet(std::vector<std::shared_ptr<Population>> populations, int threads);
    ~Fleet();
    // Works for at most about `seconds`; whether everything is done.
    bool run(double seconds);
    int64_t ended() const;

private:
    std::unique_ptr<Crew> man();

    std::vector<std::shared_ptr<Population>> populations_;
    std::vector<std::unique_ptr<Crew>> crews_;
    Pool pool_;
    std::mutex choosing_;
    std::exception_ptr error_;
};

}  // namespace alexandra
