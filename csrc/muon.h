// Muon (Jordan et al., 2024): steps of hidden matrices along their momentum, brought near a matrix of orthonormal rows
// or columns by iterations of Newton and Schulz. The numbers are those of objectives/spec.Muon.
#pragma once

#include <vector>

#include "arena.h"
#include "plan.h"
#include "pool.h"

namespace alexandra {

// Who takes such steps, and how. Without `params` nobody does.
struct MuonRule {
    std::vector<int> params;  // matrices
    double lr = 0.02, momentum = 0.95, weight_decay = 0;
    int iterations = 5;
};

// Each matrix is worked on by one thread, in an order of its own: what comes out does not depend on how many there are.
class Muon {
public:
    Muon() = default;
    Muon(const Plan& plan, const MuonRule& rule, int threads);

    // Blocks as the plan lays them out; a gradient counts `scale` times, and the learning rate `factor` times.
    struct Blocks {
        float* weights;
        const float* gradients;
        float* momenta;
    };
    void step(Pool& pool, const Kernels& kernels, const Blocks& blocks, float scale, double factor);

    // What it works in, for all threads; and what one of these would.
    size_t floats() const { return work_.floats(); }
    static size_t planned(const Plan& plan, const MuonRule& rule, int threads);
    // What learns by other rules.
    static std::vector<Segment> rest(const Plan& plan, const MuonRule& rule);

private:
    void turn(const Kernels& kernels, const Param& param, const Blocks& blocks, float scale, double factor, float* work);

    MuonRule rule_;
    std::vector<std::vector<Param>> shares_;  // of each thread
    Memory work_;
    size_t each_ = 0;  // floats of `work_` for a thread
};

}  // namespace alexandra
