// How much memory a network and a run of it will take, before any of it is asked for.
#pragma once

#include <vector>

#include "trainer.h"

namespace alexandra {

// In floats. `inference` is a Network's arena, `arena` a Trainer's without early stopping.
struct Footprint {
    size_t weights, inference, arena, gradients, moments;
};

// Of a run over `rows` rows: the plan, the schedule and the layout that the Trainer will make, without their memory.
Footprint footprint(const std::vector<ParamSpec>& params, const std::vector<NodeSpec>& nodes, const Program& program,
                    std::vector<LossSpec> losses, int64_t rows, int threads, int max_rows);

}  // namespace alexandra
