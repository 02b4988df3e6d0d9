// What each primitive does with many networks side by side: the table beside that of ops.h. A value is
// [rows][features][lanes]; formulas, order of sums and results are those of ops.cpp, lane by lane.
#pragma once

#include "ops.h"
#include "population.h"

namespace alexandra {

struct LanePass {
    const LanePlan& lane;
    float* arena;
    const float* weights;
    float* gradients;
    const Stream* const* dropout;  // per lane a stream per node, or null: dropout is off
    const uint32_t* steps;         // per lane
    const int32_t* used;           // [rows][lanes], or null when every network has all rows
    int rows;

    const Plan& plan() const { return lane.plan; }
    const Kernels& kernels() const { return lane.kernels; }
    int lanes() const { return lane.lanes; }
    size_t size(int node) const {
        return size_t(lane.plan.nodes[size_t(node)].features()) * size_t(rows) * size_t(lane.lanes);
    }
    float* value(int node) const { return arena + lane.value[size_t(node)]; }
    float* gradient(int node) const {
        const size_t at = lane.gradient[size_t(node)];
        return at == kNowhere ? nullptr : arena + at;
    }
    float* saved(int node) const { return arena + lane.saved[size_t(node)]; }
    const float* weight(int param) const { return weights + lane.param_at[size_t(param)] * size_t(lane.lanes); }
    float* weight_gradient(int param) const {
        return gradients + lane.param_at[size_t(param)] * size_t(lane.lanes);
    }
};

struct LaneOp {
    const char* name;
    size_t (*saved)(const Node&);  // values per row kept from forward to backward
    void (*forward)(const LanePass&, int node);
    void (*backward)(const LanePass&, int node);
    void (*gradients)(const LanePass&, int node);  // null without parameters
};

const LaneOp& find_lane_op(const std::string& name);

// Whether every op of `nodes` can run side by side.
bool has_lane_ops(const std::vector<NodeSpec>& nodes);

}  // namespace alexandra
