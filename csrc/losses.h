// Losses at the nodes of a plan: what their terms are divided by, and the calls of their kernels.
#pragma once

#include <vector>

#include "network.h"

namespace alexandra {

// Targets of one loss: int32 class indices [rows][groups], or floats [rows][features]; and a weight for each term.
struct LossData {
    LossSpec spec;
    Rows targets;
    Rows weights = {nullptr, 0, 0};
};

// Factors of a row's loss (the rows of an update are added and divided by their number) and of its gradient.
struct LossScale {
    float loss, gradient;
};

// The rows of an update: index[first .. first + count - 1], or those numbers themselves without an index.
struct RowRange {
    const int32_t* index;
    int64_t first, count;
    int64_t row(int64_t i) const { return index ? index[first + i] : first + i; }
};

// Not finite when weights that are not all 0 sum to 0 or less.
LossScale scale_of(const LossData& data, const Node& node, const RowRange& rows);

// Fills targets and weights of every loss for `count` rows of one block.
void gather_targets(const Pass& pass, const std::vector<LossData>& losses, const RowRange& rows, int block);

// Every loss of one block: its gradients into the arena, and the sum of the losses for each row.
void block_losses(const Pass& pass, const std::vector<LossData>& losses, const std::vector<LossScale>& scales, int block);

// Adds the losses of the pass's rows to `sum`, in float64 and in order.
void add_rows(const Pass& pass, double& sum);

// The loss alone of given rows, without a gradient and without dropout, in chunks of the planned rows.
class Evaluator {
public:
    Evaluator(std::shared_ptr<Engine> engine, const std::vector<NodeSpec>& nodes, std::vector<Rows> inputs,
              std::vector<LossData> losses, int max_rows);

    // The caller holds the engine's lock.
    double loss();
    size_t arena_floats() const { return arena_.floats() + rows_.size(); }
    const std::shared_ptr<Engine>& engine() const { return engine_; }

private:
    void part(int64_t first, int rows, int thread);

    std::shared_ptr<Engine> engine_;
    std::vector<LossData> losses_;
    Plan plan_;
    std::vector<Rows> inputs_;
    Layout layout_;  // of one thread
    Memory arena_;
    std::vector<LossScale> scales_;
    std::vector<float> rows_;  // the losses of a chunk's rows
};

std::vector<LossSpec> specs_of(const std::vector<LossData>& losses);

}  // namespace alexandra
