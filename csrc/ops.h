// What each primitive does with slabs: the table that plan and passes walk.
#pragma once

#include <cstdint>
#include <string_view>

#include "philox.h"
#include "plan.h"
#include "pool.h"

namespace alexandra {

// One pass over a batch: where everything lies. `gradients` and `flow` are null in inference.
struct Pass {
    const Plan& plan;
    const Kernels& kernels;
    const Layout& layout;
    float* arena;
    const float* weights;
    float* gradients;
    const Flow* flow;
    const Stream* dropout;  // a stream per node, or null: dropout is off
    uint32_t step;
    int rows;
    int first_row = 0;        // within the update that the batch is a part of
    float penalty_scale = 1;  // factor on the gradients of what gates add to the loss

    int lanes() const { return layout.lanes; }
    int blocks() const { return (rows + layout.lanes - 1) / layout.lanes; }
    size_t slab(int node) const { return size_t(plan.nodes[size_t(node)].features()) * size_t(layout.lanes); }
    float* value(int node, int block) const { return arena + layout.value[size_t(node)] + size_t(block) * slab(node); }
    // Null when nothing wants the gradient of `node`.
    float* gradient(int node, int block) const {
        const size_t at = layout.gradient[size_t(node)];
        return at == kNowhere ? nullptr : arena + at + size_t(block) * slab(node);
    }
    float* saved(int node) const { return arena + layout.saved[size_t(node)]; }
    float* batch(int node) const { return arena + layout.batch[size_t(node)]; }
    float* scratch(int thread) const { return arena + layout.scratch + size_t(thread) * layout.scratch_floats; }
    bool training() const { return flow != nullptr; }
    const float* weight(int param) const { return weights + plan.params[size_t(param)].offset; }
    float* weight_gradient(int param) const { return gradients + plan.params[size_t(param)].gradient; }
};

// Blocks first .. last - 1 of the batch, done by a thread; of one block perhaps only pieces from .. to - 1 (groups, or
// heads of keys).
struct Blocks {
    int first, last, thread = 0;
    int from = 0, to = -1;  // to < 0: all pieces
    int count() const { return last - first; }
};

// What backward and gradients read beside gradients and what forward saved.
enum Reads : unsigned {
    kNothing = 0,
    kInputs = 1,
    kOutput = 2,
    kLate = 4,  // what is saved is first written by backward
    kByGroup = 8,  // no group meets another: forward and backward take a range of them
    kByHead = 16,  // no head of keys meets another: likewise
};

struct Op {
    const char* name;
    bool alias;  // shows its input's memory; has no code of its own
    size_t (*saved)(const Plan&, const Node&, bool training);  // floats per row kept from forward to backward
    void (*forward)(const Pass&, int node, Blocks);
    void (*backward)(const Pass&, int node, Blocks);    // gradients of the inputs
    void (*gradients)(const Pass&, int node, Part);     // gradients of the parameters; null without any
    unsigned reads = kInputs | kOutput;

    // Further rows that few ops have.
    void (*prepare)(const Plan&, Node&) = nullptr;  // fills the node's tables
    size_t (*scratch)(const Plan&, const Node&, bool training, int lanes) = nullptr;  // floats for each thread
    // Of ops whose rows meet in training: floats that the batch shares; what has to be known of all rows before
    // forward, before backward; what joins the loss; how parameters follow the batch after a step.
    size_t (*batch)(const Plan&, const Node&) = nullptr;
    void (*join_forward)(const Pass&, int node, Part) = nullptr;
    void (*join_backward)(const Pass&, int node, Part) = nullptr;
    double (*penalty)(const Pass&, int node) = nullptr;
    void (*learn)(const Pass&, int node, float* weights) = nullptr;
};

const Op& find_op(const std::string& name);
// The activation of that name as a Unary, -1 for none.
int unary_kind(std::string_view name);

}  // namespace alexandra
