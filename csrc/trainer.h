// Training: a run of steps without Python. A step gathers a batch, goes forward and backward by blocks of
// rows, then sums the gradients of the parameters, clips and updates; each part may be split over threads
// without changing a bit. An update may gather its gradients from several batches, and a run may look at
// validation rows and end early.
#pragma once

#include <chrono>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "losses.h"
#include "muon.h"
#include "network.h"
#include "passes.h"

namespace alexandra {

enum class Optimizer { sgd, adam, adamw };
enum class Decay { constant, cosine, step, linear, wsd };

// objectives/spec.Program, in numbers.
struct Program {
    Optimizer optimizer = Optimizer::adamw;
    double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0, momentum = 0, l1 = 0;
    MuonRule muon;  // its parameters are not `optimizer`'s
    Decay decay = Decay::constant;
    int64_t warmup_steps = 0, total_steps = 0, every = 1;
    double final_factor = 0, decay_factor = 1;
    int batch_size = 32, accumulate = 1;  // batches of an update
    double clip_norm = 0;
    bool shuffle = true;
    bool checkpoint = false;  // forget values inside segments of the network and compute them again
    Stream order;                  // derive(seed, "shuffle")
    std::vector<Stream> dropouts;  // per node; empty: no dropout
    PlanWishes wishes;
    bool stops = false;  // looks at validation rows after every `look_every` steps (0: every epoch)
    int64_t look_every = 0, patience = 0;
    double min_delta = 0;
    bool restore_best = true;
    bool varies = false;  // a feed may have any number of rows
    bool part = false;    // its memory is another trainer's: it has neither values, gradients nor moments of its own
    double schedule(int64_t step) const;
    int64_t update_rows() const { return int64_t(batch_size) * accumulate; }
    int num_moments() const { return optimizer == Optimizer::sgd ? momentum != 0 : 2; }
    // How many squares of a row of a gradient clipping adds.
    size_t num_norms(const Plan& plan) const;
};

// Where early stopping stands. `seen` is false until the first look.
struct Watch {
    double best_loss = std::numeric_limits<double>::infinity();
    int64_t best_step = 0, waited = 0;
    bool stopped = false;
};

struct RunResult {
    int64_t steps, looks;
};

// Asked about twenty times a second with the step and its loss; false ends the run after that step.
using Poll = std::function<bool(int64_t step, double loss)>;

class Trainer {
public:
    // `inputs` and `losses` point into memory that must outlive the trainer. `validation` may be null.
    Trainer(std::shared_ptr<Engine> engine, const std::vector<NodeSpec>& nodes, Program program,
            std::vector<Rows> inputs, std::vector<LossData> losses, std::shared_ptr<Evaluator> validation = nullptr);

    // At most `count` steps; writes the loss of each, and (step, validation loss) of each look. Stops with
    // Error(not_finite) before a step whose loss is not finite changes anything; `step()` then names it.
    RunResult run(int64_t count, double* losses, double* looks = nullptr, const Poll& poll = nullptr);
    // Other data of the same shapes: the run goes on with it. Only one that `varies` takes another number of rows.
    void feed(std::vector<Rows> inputs, const std::vector<LossData>& losses);
    // One step on the rows of several trainers of this engine, one after the other (this one may be among them): the
    // sum of their losses, whose gradients add up here. Losses are divided by constants, so that the sum is the whole's.
    double run_over(const std::vector<std::shared_ptr<Trainer>>& parts);
    // Loss and gradients of step 0's batch without an update.
    double gradients_only();

    int64_t step() const { return step_; }
    void set_step(int64_t step) { step_ = step; }
    // Of all gradients of the last step, before clipping; not a number without clipping, which alone asks for it.
    double norm() const { return norm_; }
    int64_t look_every() const { return program_.stops ? look_every_ : 0; }
    Watch& watch() { return watch_; }
    Memory& best_weights() { return best_; }

    const Plan& plan() const { return plan_; }
    const Memory& gradients() const { return gradients_; }
    std::vector<Memory>& moments() { return moments_; }
    // The gradient of input `index` of the plan, row-major; zeros where nothing reaches it.
    void input_gradient(size_t index, float* rows) const;
    size_t arena_floats() const;
    const Engine& engine() const { return *engine_; }

private:
    // Where a pass works: values in `arena`, gradients in `sums`, to which it `adds`.
    struct Place {
        float *arena, *sums;
        bool adds;
    };
    Place own() { return {arena_.data(), gradients_.data(), false}; }
    void must_own() const;
    void take_rows(int64_t rows);
    void prepare_epoch(int64_t epoch);
    double loss_and_gradients(int64_t step, bool learns, Place place);
    Pass pass_of(int64_t step, int64_t first, int64_t rows, int64_t all, Place place) const;
    void gather(const Pass& pass, const int32_t* index, Blocks blocks);
    [[noreturn]] void refuse(double loss) const;
    bool look(double* looks, int64_t number);
    // update.cpp
    float clip_scale();
    void update(int64_t step);
    AdamStep adam_step(int64_t step, float scale) const;
    template <typename Step>
    void update_all(const Step& matrices, const Step& vectors);
    template <typename Step>
    void update_range(const Step& step, const Segment& segment, size_t first, size_t last);

    std::shared_ptr<Engine> engine_;
    Program program_;
    Plan plan_;
    std::vector<Rows> inputs_;
    std::vector<LossData> losses_;
    std::vector<LossSpec> specs_;
    Flow flow_, later_;  // of an update's first batch, and of the ones after it
    Schedule schedule_;
    Layout layout_;
    Memory arena_, gradients_;
    std::vector<Memory> moments_;
    std::vector<Segment> segments_;  // what `optimizer` steps
    Muon muon_;
    std::vector<LossScale> scales_;
    std::vector<int32_t> index_;  // the epoch's order of rows
    std::vector<float> norms_;    // sum of squares of each row of each gradient
    double norm_ = std::numeric_limits<double>::quiet_NaN();
    std::shared_ptr<Evaluator> validation_;
    bool given_ = false;  // gradients come from outside: penalties have no say
    Watch watch_;
    Memory best_;
    int64_t rows_, steps_per_epoch_, look_every_, step_ = 0, epoch_ = -1;
};

}  // namespace alexandra
