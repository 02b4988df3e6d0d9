#include "decode.h"

#include <algorithm>
#include <cstring>

#include "float_mode.h"

namespace alexandra {

namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(Status::invalid_argument, message); }
std::string text(int64_t n) { return std::to_string(n); }

// First fit by liveness: what is free at offset `at`, for `size` floats.
class Free {
public:
    size_t take(size_t size) {
        for (size_t i = 0; i < holes_.size(); ++i)
            if (holes_[i].second >= size) {
                const size_t at = holes_[i].first;
                holes_[i].first += size;
                holes_[i].second -= size;
                if (!holes_[i].second) holes_.erase(holes_.begin() + ptrdiff_t(i));
                return at;
            }
        top_ += size;
        return top_ - size;
    }
    void give(size_t at, size_t size) {
        holes_.push_back({at, size});
        std::sort(holes_.begin(), holes_.end());
        for (size_t i = 1; i < holes_.size();)
            if (holes_[i - 1].first + holes_[i - 1].second == holes_[i].first) {
                holes_[i - 1].second += holes_[i].second;
                holes_.erase(holes_.begin() + ptrdiff_t(i));
            } else {
                ++i;
            }
    }
    size_t top() const { return top_; }

private:
    std::vector<std::pair<size_t, size_t>> holes_;
    size_t top_ = 0;
};

}  // namespace

Decoder::Decoder(const std::vector<DecodeNodeSpec>& nodes, std::vector<WeightView> weights, const DecodeConfig& config)
    : config_(config), kernels_(choose_decode_kernels(config.isa.c_str())), pool_(config.threads),
      weights_(std::move(weights)) {
    if (config.slots < 1 || config.context < 1 || config.rows < config.slots || config.threads < 1 || config.threads > 256)
        refuse("a decoder needs slots >= 1, context >= 1, rows >= slots and 1 to 256 threads, got " + text(config.slots) +
               ", " + text(config.context) + ", " + text(config.rows) + ", " + text(config.threads));
    for (const WeightView& w : weights_) {
        const TypeInfo& info = type_info(w.type);
        if (w.rows < 1 || w.cols < 1 || w.cols % info.block || w.rows > (1 << 30) || w.cols > (1 << 26))
            refuse("weight '" + w.name + "' is " + text(w.rows) + " x " + text(w.cols) + "; " + info.name +
                   " needs rows of a multiple of " + text(info.block));
    }
    plan_nodes(nodes);
    plan_tail();
    plan_caches();
    plan_weights();
    plan_arena();
}

void Decoder::plan_nodes(const std::vector<DecodeNodeSpec>& specs) {
    if (specs.empty()) refuse("a decoder has no nodes");
    for (const DecodeNodeSpec& spec : specs) {
        const int index = int(nodes_.size());
        for (int input : spec.inputs)
            if (input < 0 || input >= index) refuse("'" + spec.name + "' reads a later node");
        for (int param : spec.params)
            if (param < -1 || param >= int(weights_.size())) refuse("'" + spec.name + "' names an unknown weight");
        if (spec.width < 1 || spec.width > (1 << 26)) refuse("'" + spec.name + "' has width " + text(spec.width));
        DecodeNode node{.op = &decode_op(spec.op), .name = spec.name, .inputs = spec.inputs, .params = spec.params,
                        .numbers = spec.numbers, .width = spec.width, .root = index, .tail = false};
        node.op->check(*this, node, nodes_);
        if (node.op->alias) node.root = nodes_[size_t(spec.inputs.at(0))].root;
        nodes_.push_back(std::move(node));
    }
}

// Nodes that no attention needs run on wanted rows only: they are moved behind the others.
void Decoder::plan_tail() {
    const int n = int(nodes_.size());
    std::vector<char> needed(size_t(n), 0);
    for (int i = n - 1; i >= 0; --i) {
        const DecodeNode& node = nodes_[size_t(i)];
        const std::string_view op = node.op->name;
        if (op == "sdpa" || op == "embedding" || op == "position") needed[size_t(i)] = 1;
        if (needed[size_t(i)])
            for (int input : node.inputs) needed[size_t(input)] = 1;
    }
    std::vector<int> order;
    for (int pass = 1; pass >= 0; --pass)
        for (int i = 0; i < n; ++i)
            if (needed[size_t(i)] == pass) order.push_back(i);
    std::vector<int> place(static_cast<size_t>(n));
    std::vector<DecodeNode> sorted;
    for (int i = 0; i < n; ++i) {
        place[size_t(order[size_t(i)])] = i;
        sorted.push_back(std::move(nodes_[size_t(order[size_t(i)])]));
        sorted.back().tail = !needed[size_t(order[size_t(i)])];
    }
    for (DecodeNode& node : sorted) {
        for (int& input : node.inputs) input = place[size_t(input)];
        node.root = place[size_t(node.root)];
    }
    nodes_ = std::move(sorted);
    if (!nodes_.back().tail) refuse("the last node must come after the last attention");
    for (const DecodeNode& node : nodes_)
        for (int input : node.inputs)
            if (const int root = nodes_[size_t(input)].root; node.tail && !nodes_[size_t(root)].tail)
                if (std::find(border_.begin(), border_.end(), root) == border_.end()) border_.push_back(root);
}

void Decoder::plan_caches() {
    size_t top = 0;
    const size_t context = round_up(size_t(config_.context), 16);
    for (DecodeNode& node : nodes_) {
        if (std::string(node.op->name) != "sdpa") continue;
        Cache cache{.kv_heads = int(node.number(1)), .head_dim = int(node.number(2)), .value_dim = int(node.number(3)),
                    .value_stride = 0, .keys = 0, .values = 0, .slot_floats = 0};
        cache.value_stride = ptrdiff_t(round_up(size_t(cache.value_dim), 16));
        const size_t keys = size_t(cache.kv_heads) * context * size_t(cache.head_dim);
        const size_t values = size_t(cache.kv_heads) * context * size_t(cache.value_stride);
        cache.slot_floats = round_up(keys, 16) + values;
        cache.keys = top;
        cache.values = top + round_up(keys, 16);
        top += cache.slot_floats * size_t(config_.slots);
        node.cache = int(caches_.size());
        caches_.push_back(cache);
        max_queries_ = std::max(max_queries_, std::max(24, int(node.number(0)) / cache.kv_heads));
    }
    cache_memory_ = Memory(top);
    memory_.cache = cache_memory_.floats() * 4;
    score_stride_ = ptrdiff_t(context);
}

void Decoder::plan_weights() {
    std::vector<char> matrix(weights_.size(), 0), vector(weights_.size(), 0);
    for (const DecodeNode& node : nodes_) {
        const std::string op = node.op->name;
        for (size_t i = 0; i < node.params.size(); ++i) {
            if (node.params[i] < 0) continue;
            const bool is_matrix = op == "experts" || (op == "dense" && i == 0);
            const bool is_table = op == "embedding" || op == "position" || op == "rope";
            if (is_matrix) matrix[size_t(node.params[i])] = 1;
            if (!is_matrix && !is_table) vector[size_t(node.params[i])] = 1;
        }
    }
    size_t bytes = 0, floats = 0, unpacked = 0;
    for (size_t i = 0; i < weights_.size(); ++i) {
        const WeightView& w = weights_[i];
        memory_.mapped += size_t(w.rows) * row_bytes(w.type, size_t(w.cols));
        if (matrix[i] && config_.packed) bytes += round_up(packed_bytes(w), 64);
        if (matrix[i]) unpacked = std::max(unpacked, packed_panel_bytes(w.type, size_t(w.cols)));
        if (matrix[i]) unpacked = std::max(unpacked, kMatmulScratch + size_t(w.cols) / kBlock * kMatmulScratchK);
        if (vector[i]) floats += round_up(size_t(w.rows * w.cols), kRowFloats);
    }
    unpacked_ = round_up(unpacked / 4 + 16, 16);
    scratch_floats_ = 2 * unpacked_;
    packed_memory_ = Memory((bytes + 3) / 4);
    float_memory_ = Memory(floats);
    packed_.assign(weights_.size(), nullptr);
    floats_.assign(weights_.size(), nullptr);
    uint8_t* at = reinterpret_cast<uint8_t*>(packed_memory_.data());
    float* to = float_memory_.data();
    for (size_t i = 0; i < weights_.size(); ++i) {
        const WeightView& w = weights_[i];
        if (matrix[i] && config_.packed) {
            packed_[i] = at;
            at += round_up(packed_bytes(w), 64);
        }
        if (vector[i]) {
            floats_[i] = to;
            to += round_up(size_t(w.rows * w.cols), kRowFloats);
        }
    }
    memory_.packed = (packed_memory_.floats() + float_memory_.floats()) * 4;
    load_weights();
}

void Decoder::load_weights() {
    for (size_t i = 0; i < weights_.size(); ++i) {
        const WeightView& w = weights_[i];
        if (packed_[i]) pack(w, const_cast<uint8_t*>(packed_[i]));
        if (!floats_[i]) continue;
        float* to = const_cast<float*>(floats_[i]);
        for (int64_t r = 0; r < w.rows; ++r) decode(w.type, w.row(r), size_t(w.cols), to + r * w.cols);
    }
}

void Decoder::plan_arena() {
    const size_t rows = size_t(config_.rows), n = nodes_.size();
    std::vector<size_t> last(n);
    for (size_t i = 0; i < n; ++i) {
        last[i] = i;
        for (int input : nodes_[i].inputs) last[size_t(nodes_[size_t(input)].root)] = i;
    }
    last[n - 1] = n;
    last[size_t(nodes_[n - 1].root)] = n;
    for (int value : border_) last[size_t(value)] = n;  // compacted together, so none may take another's place
    Free free;
    for (size_t i = 0; i < n; ++i) {
        DecodeNode& node = nodes_[i];
        if (node.root == int(i)) node.value = free.take(rows * size_t(node.stride()));
        for (size_t j = 0; j <= i; ++j)
            if (last[j] == i && nodes_[j].root == int(j)) free.give(nodes_[j].value, rows * size_t(nodes_[j].stride()));
        for (int param : node.params)
            if (param >= 0) widest_ = std::max(widest_, int(weight(param).cols));
        if (std::string_view(node.op->name) == "top_k_gate")
            spare_floats_ = std::max(spare_floats_, round_up(2 * size_t(node.width), kRowFloats));
        if (std::string_view(node.op->name) == "experts")
            spare_floats_ = std::max(spare_floats_, rows * round_up(size_t(std::max(node.width, int(node.number(1)))), kRowFloats));
    }
    for (DecodeNode& node : nodes_) node.value = nodes_[size_t(node.root)].value;
    size_t top = free.top();
    const auto take = [&](size_t floats) { return top += round_up(floats, 16), top - round_up(floats, 16); };
    Activations& p = prepared_;
    const size_t width = round_up(size_t(widest_), 64);
    p.half_stride = p.byte_stride = ptrdiff_t(width);
    p.blocks = ptrdiff_t(width / kBlock);
    const size_t halves = take(rows * width / 2), bytes = take(rows * width / 4), low = take(rows * width / 4);
    const size_t scales = take(rows * width / kBlock), sums = take(rows * width / kBlock);
    scratch_floats_ = std::max(scratch_floats_, size_t(max_queries_) * size_t(score_stride_));
    scratch_ = take(scratch_floats_ * size_t(config_.threads));
    spare_ = take(4 * spare_floats_);
    arena_ = Memory(top);
    units_.reserve(rows * size_t(std::max(1, [&] {
        int heads = 1;
        for (const Cache& cache : caches_) heads = std::max(heads, cache.kv_heads);
        return heads;
    }())));
    float* base = arena_.data();
    p.halves = reinterpret_cast<uint16_t*>(base + halves);
    p.bytes = reinterpret_cast<int8_t*>(base + bytes);
    p.low = reinterpret_cast<int8_t*>(base + low);
    p.scales = base + scales;
    p.sums = reinterpret_cast<int32_t*>(base + sums);
    positions_.reserve(rows);
    memory_.arena = arena_.floats() * 4 + rows * sizeof(int);
}

RowsView Decoder::view(const DecodeNode& node) const {
    return {const_cast<float*>(arena_.data()) + node.value, node.stride()};
}

RowsView Decoder::logits() const { return view(nodes_.back()); }

RowsView Decoder::spare(int which, int width) const {
    float* base = const_cast<float*>(arena_.data()) + spare_ + size_t(which) * spare_floats_;
    return {base, ptrdiff_t(round_up(size_t(width), kRowFloats))};
}

void Decoder::check_step(int count, const int32_t* tokens, const Run* runs, int num_runs, const int* wanted,
                         int num_wanted) {
    if (count < 1 || count > config_.rows) refuse("a step takes 1 to " + text(config_.rows) + " rows, got " + text(count));
    int next = 0;
    for (int i = 0; i < num_runs; ++i) {
        const Run& run = runs[i];
        if (run.first != next || run.count < 1 || run.slot < 0 || run.slot >= config_.slots || run.position < 0 ||
            run.position + run.count > config_.context)
            refuse("a run of " + text(run.count) + " rows at position " + text(run.position) + " of slot " +
                   text(run.slot) + " does not fit " + text(config_.slots) + " slots of " + text(config_.context) + " positions");
        for (int j = 0; j < i; ++j)
            if (runs[j].slot == run.slot) refuse("slot " + text(run.slot) + " stands twice in a step");
        next += run.count;
    }
    if (next != count) refuse("the runs hold " + text(next) + " rows, not " + text(count));
    for (int i = 0; i < num_wanted; ++i)
        if (wanted[i] < 0 || wanted[i] >= count || (i && wanted[i] <= wanted[i - 1])) refuse("wanted rows must ascend");
    const DecodeNode* embedding = nullptr;
    for (const DecodeNode& node : nodes_)
        if (std::string_view(node.op->name) == "embedding") embedding = &node;
    if (!embedding) return;
    const int64_t vocab = weight(embedding->params[0]).rows;
    for (int i = 0; i < count; ++i)
        if (tokens[i] < 0 || tokens[i] >= vocab)
            refuse("token " + text(tokens[i]) + " is not below the vocabulary of " + text(vocab));
}

void Decoder::step(int count, const int32_t* tokens, const Run* runs, int num_runs, const int* wanted, int num_wanted) {
    check_step(count, tokens, runs, num_runs, wanted, num_wanted);
    const FlushSubnormals mode;
    rows_ = count;
    tokens_ = tokens;
    runs_ = runs;
    num_runs_ = num_runs;
    positions_.resize(size_t(count));
    for (int i = 0; i < num_runs; ++i)
        for (int r = 0; r < runs[i].count; ++r) positions_[size_t(runs[i].first + r)] = runs[i].position + r;
    bool compacted = false;
    for (const DecodeNode& node : nodes_) {
        if (node.tail && !compacted) {
            if (num_wanted == 0) break;
            compact(wanted, num_wanted);
            compacted = true;
        }
        node.op->run(*this, node);
    }
    prepared_input_ = -1;
    num_logits_ = num_wanted;
}

// Wanted rows move up to the first rows of every value that the tail reads.
void Decoder::compact(const int* wanted, int num_wanted) {
    for (int value : border_) {
        const RowsView rows = view(nodes_[size_t(value)]);
        for (int i = 0; i < num_wanted; ++i)
            if (wanted[i] != i) std::memcpy(rows.row(i), rows.row(wanted[i]), size_t(rows.stride) * sizeof(float));
    }
    for (int i = 0; i < num_wanted; ++i) positions_[size_t(i)] = positions_[size_t(wanted[i])];
    rows_ = num_wanted;
    prepared_input_ = -1;
}

void Decoder::prepare(RowsView x, int rows, int node, TensorType type, int k) {
    const int root = node < 0 ? -1 : nodes_[size_t(node)].root;
    prepared_.rows = rows;
    prepared_.k = k;
    prepared_.x = x.data;
    prepared_.stride = x.stride;
    if (type == TensorType::f32 || type == TensorType::f16) return;
    if (root >= 0 && prepared_input_ == root && prepared_type_ == type) return;
    prepared_input_ = root;
    prepared_type_ = type;
    if (rows == 1) return kernels_.prepare(type, prepared_, 0, 1);
    pool_.split([&](Part part) {
        const auto [first, last] = part.of(rows);
        kernels_.prepare(type, prepared_, first, last);
    });
}

void Decoder::multiply(RowsView x, int rows, int node, int index, int bias, RowsView out) {
    const WeightView& w = weight(index);
    prepare(x, rows, node, w.type, int(w.cols));
    const int panels = panels_of(w), columns = panel_columns(w.type);
    const uint8_t* packed = packed_[size_t(index)];
    pool_.split([&](Part part) {
        const auto [first, last] = part.of(panels, 32 / columns);
        float* scratch = arena_.data() + scratch_ + scratch_floats_ * size_t(part.index);
        MatmulCall call{.type = w.type, .packed = packed, .first = first, .last = last,
                        .bias = bias >= 0 ? floats(bias) : nullptr, .y = out.data, .y_stride = out.stride,
                        .scratch = scratch};
        if (packed) return kernels_.matmul(call, prepared_);
        call.packed = reinterpret_cast<uint8_t*>(scratch + unpacked_);
        call.first = 0, call.last = 1;
        for (int panel = first; panel < last; ++panel) {
            pack_panel(w, panel, reinterpret_cast<uint8_t*>(scratch + unpacked_));
            call.y = out.data + ptrdiff_t(panel) * columns;
            call.bias = bias >= 0 ? floats(bias) + ptrdiff_t(panel) * columns : nullptr;
            kernels_.matmul(call, prepared_);
        }
    });
}

}  // namespace alexandra
