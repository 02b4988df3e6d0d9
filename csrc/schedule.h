// In which order a training pass visits the nodes, and where all threads must have met before it goes on.
//
// A phase is one round of the thread pool: by blocks of rows (forward, losses, backward), or by parts of a result
// that all rows share (gradients of parameters; statistics of a batch). A small network has two phases; a large
// one has a phase per node or run of nodes, so that memory is reused between them; checkpointing forgets the values inside a
// segment of nodes and computes them again before the segment's backward.
#pragma once

#include <vector>

#include "plan.h"

namespace alexandra {

enum class Act { gather, forward, losses, backward, join_forward, join_backward, gradients };

struct Action {
    Act act;
    int first, last;  // nodes first .. last - 1; backward and gradients visit them from the last
};

struct Phase {
    bool by_blocks;
    std::vector<Action> actions;
    bool ends_forward = false;  // the losses are known after it
    int pieces = 1;             // of a block, that threads may share: no piece meets another
};

struct Schedule {
    Schedule(const Plan& plan, const Flow& flow, bool checkpoint);
    std::vector<Phase> phases;

private:
    void add(bool by_blocks, Action action);
    void forward(const Plan& plan, const Flow& flow, int first, int last);
    void backward(const Plan& plan, const Flow& flow, int first, int last);
    bool fine_ = false;    // a phase per node
    bool closed_ = false;  // the next action opens a phase
};

// Whether `node` and the one before it can go a few groups at a time, one after the other.
bool follows_by_group(const Plan& plan, int node);

// Borders of segments 0 = b[0] < b[1] < ... = number of nodes, about the root of it, where few values cross.
std::vector<int> checkpoint_borders(const Plan& plan, const Flow& flow);

}  // namespace alexandra
