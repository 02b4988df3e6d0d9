// Inference: a planned network, its arena for a number of rows, and `forward`.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "ops.h"

namespace alexandra {

// Weights, kernels and threads that the networks (one per shape) and runs of a model share.
struct Engine {
    Engine(Weights weights, int threads, const std::string& isa);
    Engine(const std::vector<ParamSpec>& specs, int threads, const std::string& isa)
        : Engine(Weights(specs), threads, isa) {}
    Weights weights;
    const Kernels& kernels;
    Pool pool;
    std::mutex busy;  // one call at a time works with weights, arenas and pool
};

// Row-major data of one input: [rows][features] float32, or int32.
struct Rows {
    const void* data;
    int64_t rows;
    int features;
};

// Puts rows `index[0 .. count)` (or first .. first + count - 1 without an index) of `source` into a slab;
// lanes beyond `count` become 0.
void fill_slab(const Kernels& kernels, const Rows& source, const int32_t* index, int64_t first, int count, int lanes,
               float* slab);

class Network {
public:
    Network(std::shared_ptr<Engine> engine, const std::vector<NodeSpec>& nodes, int max_rows);

    const Plan& plan() const { return plan_; }
    const std::shared_ptr<Engine>& engine() const { return engine_; }
    size_t arena_floats() const { return arena_.floats(); }
    int max_rows() const { return layout_.capacity() * engine_->pool.threads(); }

    // One Rows per input in plan order; outputs are row-major float arrays in plan order. Any number of rows,
    // in chunks of the planned ones.
    void forward(const std::vector<Rows>& inputs, const std::vector<float*>& outputs);

private:
    void forward_part(const std::vector<Rows>& inputs, const std::vector<float*>& outputs, int64_t first, int rows,
                      int thread);

    std::shared_ptr<Engine> engine_;
    Plan plan_;
    Layout layout_;  // of one thread
    Memory arena_;
    int generation_;  // of the weights when this was planned
};

}  // namespace alexandra
