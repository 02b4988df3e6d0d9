// A network planned: its nodes with shapes, where parameters, values and gradients lie, and who writes first.
//
// Nothing here computes. A Plan is made once from the primitives of a graph; a Layout fixes all memory for a
// number of rows; Flow says what backward has to do for given losses.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "arena.h"
#include "kernels.h"

namespace alexandra {

struct ParamSpec {
    std::string name;
    std::vector<int> shape;
    bool trained = true;  // has a gradient and is updated by it
};

struct NodeSpec {
    std::string name, op;
    std::vector<int> inputs, shape, params;
    std::vector<double> numbers;  // attributes, in the order that ops.cpp states per op
};

// One parameter as a matrix [rows][cols], rows `stride` floats apart; a vector is one row. Of three axes the first
// two are the rows, of four the first.
struct Param {
    std::string name;
    int rows, cols;
    ptrdiff_t stride;
    size_t offset;
    bool matrix, trained;
    bool held = false;    // frozen by the program
    size_t gradient = 0;  // offset in a block of gradients (Plan)
    size_t floats() const { return size_t(rows) * size_t(stride); }
    bool learns() const { return trained && !held; }
};

// Parameters of a network in one block: matrices first, so that decay applies to one range, then vectors, then
// what is not trained. Or, for inference alone, in somebody else's memory, such as a mapped file.
class Weights {
public:
    explicit Weights(const std::vector<ParamSpec>& specs);
    // Where everything would lie, without the memory.
    static Weights outline(const std::vector<ParamSpec>& specs);
    // Natural arrays at `base` + offsets (in floats), which `owner` keeps; nothing is copied.
    Weights(const std::vector<ParamSpec>& specs, std::shared_ptr<const void> owner, const float* base,
            const std::vector<size_t>& offsets);
    // Brings mapped weights into a block of their own, to be changed. Plans made before do not fit any more.
    void own();
    bool mapped() const { return bool(owner_); }
    // Of what the plans of now were made.
    int generation() const { return generation_; }

    float* data();  // to be changed: not of mapped ones
    const float* values() const { return owner_ ? base_ : memory_.data(); }
    size_t floats() const { return floats_; }
    size_t matrix_floats() const { return matrix_floats_; }
    size_t trained_floats() const { return trained_floats_; }
    const std::vector<Param>& params() const { return params_; }

    // Between natural arrays and a block laid out like this one (weights, gradients or moments).
    void pack(int param, const float* natural, float* block) const;
    void unpack(int param, const float* block, float* natural) const;

private:
    Weights() = default;
    void lay_out();
    std::vector<ParamSpec> specs_;
    std::vector<Param> params_;
    size_t matrix_floats_ = 0, trained_floats_ = 0, floats_ = 0;
    Memory memory_;
    std::shared_ptr<const void> owner_;
    const float* base_ = nullptr;
    int generation_ = 0;
};

struct Op;  // ops.h

struct Node {
    const Op* op;
    std::string name;
    std::vector<int> inputs, params;
    std::vector<double> numbers;
    std::vector<int> shape;
    int groups, width;  // leading axes flattened, last axis
    bool integer;
    int root;     // the node whose memory this one shows (itself, or an alias' source)
    bool trains;  // depends on a parameter
    bool relu = false;      // a dense whose only reader is a relu, which it applies itself
    bool in_place = false;  // that relu: its value and gradient are those of the dense
    bool joined = false;    // an activation that the product of two which alone reads it does itself
    int gate = -1;          // that product: which input the activation is
    std::vector<float> table = {};  // what an op computes once from its attributes and shapes
    std::vector<int> index = {};    // likewise, whole numbers
    int features() const { return groups * width; }
};

// What a run asks of its plan.
struct PlanWishes {
    std::vector<int> frozen = {};   // parameters that keep their values: they cost no gradient
    std::vector<int> touched = {};  // nodes whose own value or gradient the caller uses: no relu joins them
    bool input_gradients = false;
};

// Floats that lie together in the weights and in a block of gradients or moments.
struct Segment {
    size_t weight, gradient, floats;
    bool matrix;
};

struct Plan {
    Plan(const std::vector<NodeSpec>& specs, const Weights& weights, const PlanWishes& wishes = {});
    std::vector<Node> nodes;
    std::vector<Param> params;
    std::vector<int> inputs, outputs;
    std::vector<Segment> segments;                   // what learns, in the weights' order
    size_t learned_floats = 0, gradient_floats = 0;  // of the segments; and with what ops write beside them
    bool narrow = false;  // blocks of 16 rows, because a row is long
    std::vector<int> readers() const;  // how often each value is read

private:
    void join_relus(const std::vector<int>& touched);
    void join_gates(const std::vector<int>& touched);
    void place_gradients();
};

// `given`: the target is the gradient itself, and the loss 0.
enum class LossKind { cross_entropy, binary_cross_entropy, squared_error, divergence, binary_divergence, given };
// What the sum of the terms is divided by: their number, the sum of their weights, or a constant.
enum class Norm { count, weights, constant };

struct LossSpec {
    LossKind kind;
    int node;         // logits, or the output of squared_error
    float smoothing = 0;
    float temperature = 1;
    Norm norm = Norm::count;
    double constant = 1;
    bool weighted = false;
    bool accumulate = false;  // set by Flow: another loss writes this gradient first
};

// Numbers a row of a loss' targets, and of its terms (each may have a weight).
int target_features(const LossSpec& loss, const Node& node);
int loss_terms(const LossSpec& loss, const Node& node);

// What a training pass has to do, and where a write is the first one of its target.
struct Flow {
    Flow(const Plan& plan, std::vector<LossSpec>& losses);
    std::vector<char> forward;                         // node is an ancestor of a loss
    std::vector<char> backward;                        // node has a gradient to pass on
    std::vector<char> learns;                          // backward, and a parameter of its own learns
    std::vector<char> has_gradient;                    // root has a gradient slab
    std::vector<char> gated;  // a relu in place, and the dense that reads it alone and does its backward
    std::vector<int> panels;  // of a dense: the dense that lays their common input out as rows
    std::vector<std::vector<char>> accumulate;         // [node][input]
    std::vector<std::vector<char>> accumulate_params;  // [node][param]

private:
    void share_panels(const Plan& plan, int dense);
};

constexpr size_t kNowhere = ~size_t(0);

struct Schedule;  // schedule.h

// Offsets in floats into one arena, whose memory is reused by liveness: between nodes in inference, between the
// phases of a schedule in training.
struct Layout {
    Layout(const Plan& plan, int max_rows, const std::vector<LossSpec>& losses = {});     // inference
    Layout(const Plan& plan, const Flow& flow, const std::vector<LossSpec>&, const Schedule&, int max_rows,
           int threads);  // training
    int lanes, blocks;
    std::vector<size_t> value, gradient, saved, target, weight;  // the last two by loss
    std::vector<size_t> batch;             // what all rows of a batch share, per node
    size_t scratch, scratch_floats;        // one for each thread
    size_t loss = kNowhere;
    size_t floats = 0;
    int capacity() const { return lanes * blocks; }

private:
    size_t take(size_t count);
    void take_losses(const Plan& plan, const std::vector<LossSpec>& losses);
    void take_fixed(const Plan& plan, bool training, int threads);
};

}  // namespace alexandra
