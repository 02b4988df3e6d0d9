// Training: a run of steps without Python. A step gathers a batch, goes forward and backward by blocks of
// rows, then sums the gradients of the parameters, clips and updates; each part may be split over threads
// without changing a bit.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "network.h"
#include "passes.h"

namespace alexandra {

enum class Optimizer { sgd, adam, adamw };
enum class Decay { constant, cosine, step };

// objectives/spec.Program, in numbers.
struct Program {
    Optimizer optimizer = Optimizer::adamw;
    double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0, momentum = 0;
    Decay decay = Decay::constant;
    int64_t warmup_steps = 0, total_steps = 0, every = 1;
    double final_factor = 0, decay_factor = 1;
    int batch_size = 32;
    double clip_norm = 0;
    bool shuffle = true;
    bool checkpoint = false;  // forget values inside segments of the network and compute them again
    Stream order;                  // derive(seed, "shuffle")
    std::vector<Stream> dropouts;  // per node; empty: no dropout
    double schedule(int64_t step) const;
};

// Targets of one loss: int32 class indices [rows][groups], or floats [rows][features].
struct LossData {
    LossSpec spec;
    Rows targets;
};

class Trainer {
public:
    // `inputs` and `losses` point into memory that must outlive the trainer.
    Trainer(std::shared_ptr<Engine> engine, const std::vector<NodeSpec>& nodes, Program program,
            std::vector<Rows> inputs, const std::vector<LossData>& losses);

    // `count` steps; writes the loss of each. Stops with Error(not_finite) before a step whose loss is not finite
    // changes anything; `step()` then names it.
    void run(int64_t count, double* losses);
    // Loss and gradients of step 0's batch without an update.
    double gradients_only();

    int64_t step() const { return step_; }
    void set_step(int64_t step) { step_ = step; }
    const Memory& gradients() const { return gradients_; }
    std::vector<Memory>& moments() { return moments_; }
    size_t arena_floats() const { return arena_.floats() + index_.size() + norms_.size(); }
    const Engine& engine() const { return *engine_; }

private:
    void prepare_epoch(int64_t epoch);
    double loss_and_gradients(int64_t step, bool learns);
    void gather(const Pass& pass, const int32_t* index, Blocks blocks);
    void losses(const Pass& pass, Blocks blocks);
    double total_loss(const Pass& pass) const;
    float clip_scale();
    void update(int64_t step);
    AdamStep adam_step(int64_t step, float scale) const;
    template <typename Step>
    void update_all(const Step& matrices, const Step& vectors);
    template <typename Step>
    void update_range(const Step& step, size_t first, size_t last);

    std::shared_ptr<Engine> engine_;
    Plan plan_;
    Program program_;
    std::vector<Rows> inputs_;
    std::vector<LossSpec> specs_;
    std::vector<Rows> targets_;
    Flow flow_;
    Schedule schedule_;
    Layout layout_;
    Memory arena_, gradients_;
    std::vector<Memory> moments_;
    std::vector<int32_t> index_;  // the epoch's order of rows
    std::vector<float> norms_;    // sum of squares of each row of each gradient
    int64_t rows_, steps_per_epoch_, step_ = 0, epoch_ = -1;
};

}  // namespace alexandra
