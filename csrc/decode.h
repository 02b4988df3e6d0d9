// A decoder: position-wise ops and causal attention over a cache, planned for a number of sequences and positions.
//
// Memory has three tiers, all sized before the first step: weights (mapped, and packed for the kernels unless
// `packed` is false), the cache of keys and values, and the arena of activations, reused by liveness. A step takes
// rows, each a token of one sequence at one position; rows of a sequence are neighbours in order of position. What
// a row becomes never depends on which other rows share the step, nor on how a prompt was cut into steps.
#pragma once

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "decode_weights.h"
#include "pool.h"

namespace alexandra {

struct DecodeNodeSpec {
    std::string name, op;
    std::vector<int> inputs;
    int width;
    std::vector<int> params;      // indices of weights, -1 for none
    std::vector<double> numbers;  // attributes in the order that decode_ops.cpp states per op
};

struct DecodeConfig {
    int slots = 1, context = 512, rows = 128, threads = 1;
    bool packed = true;
    std::string isa;
};

// Rows of one sequence in a step.
struct Run {
    int slot, first, count, position;
};

// A view of some rows of a value.
struct RowsView {
    float* data;
    ptrdiff_t stride;
    float* row(int r) const { return data + r * stride; }
};

// Attention's unit of work: some rows of a run, one key-value head.
struct Unit {
    int run, first, count, head;
};

class Decoder;
struct DecodeOp;

struct DecodeNode {
    const DecodeOp* op;
    std::string name;
    std::vector<int> inputs, params;
    std::vector<double> numbers;
    int width, root;
    bool tail;         // after the last attention: only rows whose logits are wanted get here
    size_t value = 0;  // offset in the arena
    int cache = -1;    // of an attention: which one it is
    ptrdiff_t stride() const { return (width + kRowFloats - 1) / kRowFloats * kRowFloats; }
    double number(size_t i) const { return numbers.at(i); }
};

// Where one attention keeps the keys and values of a sequence.
struct Cache {
    int kv_heads, head_dim, value_dim;
    ptrdiff_t value_stride;
    size_t keys, values, slot_floats;  // offsets of slot 0, and from slot to slot
};

struct DecodeMemory {
    size_t mapped, packed, cache, arena;
};

class Decoder {
public:
    Decoder(const std::vector<DecodeNodeSpec>& nodes, std::vector<WeightView> weights, const DecodeConfig& config);

    // Runs one step over `count` rows; logits (rows of `vocab`, `logits_stride` apart) of the rows in `wanted`,
    // ascending. All checked: slots, positions, tokens, order.
    void step(int count, const int32_t* tokens, const Run* runs, int num_runs, const int* wanted, int num_wanted);
    RowsView logits() const;
    // Gives slot `to` what slot `from` holds of its first `count` positions.
    void copy_keys(int from, int to, int count);
    // Packs the weights from the bytes that their views show now.
    void load_weights();
    int vocab() const { return nodes_.back().width; }

    const DecodeConfig& config() const { return config_; }
    const DecodeKernels& kernels() const { return kernels_; }
    DecodeMemory memory() const { return memory_; }
    Pool& pool() { return pool_; }

    // For ops (decode_ops.cpp).
    RowsView view(const DecodeNode& node) const;
    RowsView input(const DecodeNode& node, size_t i) const { return view(nodes_[size_t(node.inputs.at(i))]); }
    int input_width(const DecodeNode& node, size_t i) const { return nodes_[size_t(node.inputs.at(i))].width; }
    const WeightView& weight(int index) const { return weights_.at(size_t(index)); }
    const float* floats(int index) const { return floats_.at(size_t(index)); }
    // out = bias + x w over `rows` rows; `node` is whose value x is, or -1.
    void multiply(RowsView x, int rows, int node, int weight, int bias, RowsView out);
    void attend(const DecodeNode& node);
    // A block of `rows` x (2 outer + 2 inner) floats for experts.
    RowsView spare(int which, int width) const;
    int rows() const { return rows_; }
    const int32_t* tokens() const { return tokens_; }
    int position(int row) const { return positions_[size_t(row)]; }

private:
    void plan_nodes(const std::vector<DecodeNodeSpec>& specs);
    void plan_tail();
    void plan_arena();
    void plan_caches();
    void plan_weights();
    void check_step(int count, const int32_t* tokens, const Run* runs, int num_runs, const int* wanted, int num_wanted);
    void compact(const int* wanted, int num_wanted);
    void store_keys(const DecodeNode& node);
    void prepare(RowsView x, int rows, int node, TensorType type, int k);

    DecodeConfig config_;
    const DecodeKernels& kernels_;
    Pool pool_;
    std::vector<WeightView> weights_;
    std::vector<DecodeNode> nodes_;
    std::vector<Cache> caches_;
    std::vector<const uint8_t*> packed_;  // per weight, or null
    std::vector<const float*> floats_;    // per weight that is read as floats (gains, biases, tables), or null
    Memory packed_memory_, float_memory_, cache_memory_, arena_;
    DecodeMemory memory_{};
    Activations prepared_{};
    int prepared_input_ = -1;
    TensorType prepared_type_ = TensorType::f32;
    size_t scratch_ = 0, scratch_floats_ = 0, unpacked_ = 0;  // per thread: scores, or the kernel's and a panel
    ptrdiff_t score_stride_ = 0;
    int max_queries_ = 0, widest_ = 1;
    size_t spare_ = 0, spare_floats_ = 0;
    int rows_ = 0, num_runs_ = 0, num_logits_ = 0;
    const int32_t* tokens_ = nullptr;
    const Run* runs_ = nullptr;
    std::vector<int> positions_;
    std::vector<int> border_;  // values that tail nodes read and others wrote
    std::vector<Unit> units_;  // attention's work of a step
};

struct DecodeOp {
    const char* name;
    void (*check)(const Decoder&, const DecodeNode&, const std::vector<DecodeNode>&);
    void (*run)(Decoder&, const DecodeNode&);
    bool alias;  // shows its input's memory
};
const DecodeOp& decode_op(const std::string& name);

}  // namespace alexandra
