// The ops of a decoder: what each demands of its inputs, and its run over the rows of a step.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "decode.h"

namespace alexandra {

namespace {

typedef std::vector<DecodeNode> Nodes;

[[noreturn]] void refuse(const DecodeNode& node, const std::string& what) {
    throw Error(Status::invalid_argument, "'" + node.name + "' (" + node.op->name + "): " + what);
}

void need(const DecodeNode& node, size_t inputs, size_t params, size_t numbers) {
    if (node.inputs.size() != inputs || node.params.size() != params || node.numbers.size() != numbers)
        refuse(node, "needs " + std::to_string(inputs) + " inputs, " + std::to_string(params) + " parameters and " +
                         std::to_string(numbers) + " numbers");
}

int width(const Nodes& nodes, const DecodeNode& node, size_t input) { return nodes[size_t(node.inputs[input])].width; }

void need_width(const Nodes& nodes, const DecodeNode& node) {
    for (size_t i = 0; i < node.inputs.size(); ++i)
        if (width(nodes, node, i) != node.width)
            refuse(node, "an input has width " + std::to_string(width(nodes, node, i)) + ", not " + std::to_string(node.width));
}

void need_weight(const Decoder& d, const DecodeNode& node, size_t param, int64_t rows, int64_t cols) {
    if (node.params[param] < 0) refuse(node, "lacks a parameter");
    const WeightView& w = d.weight(node.params[param]);
    if (w.rows != rows || w.cols != cols)
        refuse(node, "weight '" + w.name + "' is " + std::to_string(w.rows) + " x " + std::to_string(w.cols) + ", needs " +
                         std::to_string(rows) + " x " + std::to_string(cols));
}

// Rows shared among the threads when there is enough to do.
template <typename F>
void each_row(Decoder& d, ptrdiff_t floats, const F& f) {
    const int rows = d.rows();
    if (rows < 2 || ptrdiff_t(rows) * floats < 8192) {
        for (int r = 0; r < rows; ++r) f(r);
        return;
    }
    d.pool().split([&](Part part) {
        const auto [first, last] = part.of(rows);
        for (int r = first; r < last; ++r) f(r);
    });
}

// Elementwise over all rows at once; they have one stride.
template <typename F>
void each_value(Decoder& d, const DecodeNode& node, const F& f) {
    const int blocks = int(d.rows() * node.stride() / kRowFloats);
    if (blocks < 512) return f(0, size_t(blocks) * kRowFloats);
    d.pool().split([&](Part part) {
        const auto [first, last] = part.of(blocks);
        if (first < last) f(size_t(first) * kRowFloats, size_t(last - first) * kRowFloats);
    });
}

// tokens: the input ----------------------------------------------------------------------------------------------
void check_tokens(const Decoder&, const DecodeNode& node, const Nodes&) { need(node, 0, 0, 0); }
void run_nothing(Decoder&, const DecodeNode&) {}

// embedding(tokens): params: table [vocab][width]; numbers: factor -----------------------------------------------
void check_embedding(const Decoder& d, const DecodeNode& node, const Nodes& nodes) {
    need(node, 1, 1, 1);
    if (std::string(nodes[size_t(node.inputs[0])].op->name) != "tokens") refuse(node, "reads something else than tokens");
    need_weight(d, node, 0, node.params[0] < 0 ? 0 : d.weight(node.params[0]).rows, node.width);
}
void run_embedding(Decoder& d, const DecodeNode& node) {
    const WeightView& w = d.weight(node.params[0]);
    const RowsView y = d.view(node);
    const float factor = float(node.number(0));
    each_row(d, node.width * 4, [&](int r) {
        decode(w.type, w.row(d.tokens()[r]), size_t(w.cols), y.row(r));
        if (factor != 1.0f)
            for (int i = 0; i < node.width; ++i) y.row(r)[i] *= factor;
    });
}

// position(x): x + table[position + offset]; numbers: offset ------------------------------------------------------
void check_position(const Decoder& d, const DecodeNode& node, const Nodes& nodes) {
    need(node, 1, 1, 1);
    need_width(nodes, node);
    need_weight(d, node, 0, node.params[0] < 0 ? 0 : d.weight(node.params[0]).rows, node.width);
    if (d.weight(node.params[0]).rows < d.config().context + int64_t(node.number(0)))
        refuse(node, "has rows for " + std::to_string(d.weight(node.params[0]).rows) + " positions, the context is " +
                         std::to_string(d.config().context));
}
void run_position(Decoder& d, const DecodeNode& node) {
    const WeightView& w = d.weight(node.params[0]);
    const RowsView x = d.input(node, 0), y = d.view(node);
    each_row(d, node.width * 4, [&](int r) {
        decode(w.type, w.row(d.position(r) + int(node.number(0))), size_t(w.cols), y.row(r));
        for (int i = 0; i < node.width; ++i) y.row(r)[i] = x.row(r)[i] + y.row(r)[i];
    });
}

// rmsnorm(x), layernorm(x): params: gain [, bias], whose size divides the width; numbers: eps ---------------------
void check_norm(const Decoder& d, const DecodeNode& node, const Nodes& nodes) {
    need(node, 1, std::string(node.op->name) == "rmsnorm" ? 1 : 2, 1);
    need_width(nodes, node);
    const int64_t size = node.params[0] < 0 ? 0 : d.weight(node.params[0]).cols;
    if (size < 1 || node.width % size) refuse(node, "has a gain of " + std::to_string(size) + " for width " + std::to_string(node.width));
    for (size_t i = 0; i < node.params.size(); ++i) need_weight(d, node, i, 1, size);
}
void run_rmsnorm(Decoder& d, const DecodeNode& node) {
    const RowsView x = d.input(node, 0), y = d.view(node);
    const int size = int(d.weight(node.params[0]).cols), groups = node.width / size;
    each_row(d, node.width, [&](int r) {
        d.kernels().rmsnorm(groups, size, x.row(r), size, d.floats(node.params[0]), y.row(r), size, float(node.number(0)));
    });
}
void run_layernorm(Decoder& d, const DecodeNode& node) {
    const RowsView x = d.input(node, 0), y = d.view(node);
    const int size = int(d.weight(node.params[0]).cols), groups = node.width / size;
    each_row(d, node.width, [&](int r) {
        d.kernels().layernorm(groups, size, x.row(r), size, d.floats(node.params[0]), d.floats(node.params[1]), y.row(r),
                              size, float(node.number(0)));
    });
}

// dense(x): params: weight [width][inputs], bias or -1 ---------------------------------------------------------
void check_dense(const Decoder& d, const DecodeNode& node, const Nodes& nodes) {
    need(node, 1, 2, 0);
    need_weight(d, node, 0, node.width, width(nodes, node, 0));
    if (node.params[1] >= 0) need_weight(d, node, 1, 1, node.width);
}
void run_dense(Decoder& d, const DecodeNode& node) {
    d.multiply(d.input(node, 0), d.rows(), node.inputs[0], node.params[0], node.params[1], d.view(node));
}

// rope(x): params: table [positions][dims], cosines then sines; numbers: head_dim, interleaved ---------------------
void check_rope(const Decoder& d, const DecodeNode& node, const Nodes& nodes) {
    need(node, 1, 1, 2);
    need_width(nodes, node);
    const int head = int(node.number(0));
    const int64_t dims = node.params[0] < 0 ? 0 : d.weight(node.params[0]).cols;
    if (head < 2 || node.width % head || dims < 2 || dims % 2 || dims > head)
        refuse(node, "rotates " + std::to_string(dims) + " of heads of " + std::to_string(head) + " in width " + std::to_string(node.width));
    const WeightView& w = d.weight(node.params[0]);
    if (w.type != TensorType::f32 || w.rows < d.config().context) refuse(node, "needs a float32 table of the whole context");
}
void run_rope(Decoder& d, const DecodeNode& node) {
    const WeightView& w = d.weight(node.params[0]);
    const RowsView x = d.input(node, 0), y = d.view(node);
    const int head = int(node.number(0)), dims = int(w.cols), half = dims / 2;
    const bool interleaved = node.number(1) != 0;
    each_row(d, node.width * 4, [&](int r) {
        const float* c = reinterpret_cast<const float*>(w.row(d.position(r)));
        const float* s = c + half;
        for (int h = 0; h < node.width; h += head) {
            const float* a = x.row(r) + h;
            float* b = y.row(r) + h;
            if (interleaved)
                for (int i = 0; i < half; ++i) {
                    const float even = a[2 * i], odd = a[2 * i + 1];
                    b[2 * i] = even * c[i] - odd * s[i];
                    b[2 * i + 1] = odd * c[i] + even * s[i];
                }
            else
                for (int i = 0; i < half; ++i) {
                    const float low = a[i], high = a[i + half];
                    b[i] = low * c[i] - high * s[i];
                    b[i + half] = high * c[i] + low * s[i];
                }
            for (int i = dims; i < head; ++i) b[i] = a[i];
        }
    });
}

// sdpa(q, k, v): decode_attend.cpp ---------------------------------------------------------------------------------
void check_sdpa(const Decoder&, const DecodeNode& node, const Nodes& nodes) {
    need(node, 3, 0, 7);
    const int heads = int(node.number(0)), kv = int(node.number(1)), dim = int(node.number(2)), value = int(node.number(3));
    if (heads < 1 || kv < 1 || heads % kv || dim < 1 || value < 1)
        refuse(node, std::to_string(heads) + " heads over " + std::to_string(kv) + " key-value heads");
    if (width(nodes, node, 0) != heads * dim || width(nodes, node, 1) != kv * dim || width(nodes, node, 2) != kv * value ||
        node.width != heads * value)
        refuse(node, "the widths of its inputs are not heads times their dimensions");
    if (heads / kv > 256) refuse(node, "more than 256 heads share one key-value head");
}
void run_sdpa(Decoder& d, const DecodeNode& node) { d.attend(node); }

// mul, add (a, b); pointwise(x): numbers: which, parameter; scale(x): numbers: factor; softmax(x) --------------
void check_two(const Decoder&, const DecodeNode& node, const Nodes& nodes) { need(node, 2, 0, 0), need_width(nodes, node); }
void check_pointwise(const Decoder&, const DecodeNode& node, const Nodes& nodes) {
    need(node, 1, 0, 2), need_width(nodes, node);
    if (node.number(0) < 0 || node.number(0) > double(Pointwise::gelu_tanh)) refuse(node, "is an unknown function");
}
void check_scale(const Decoder&, const DecodeNode& node, const Nodes& nodes) { need(node, 1, 0, 1), need_width(nodes, node); }
void check_one(const Decoder&, const DecodeNode& node, const Nodes& nodes) { need(node, 1, 0, 0), need_width(nodes, node); }
void run_mul(Decoder& d, const DecodeNode& node) {
    const float *a = d.input(node, 0).data, *b = d.input(node, 1).data;
    each_value(d, node, [&](size_t at, size_t n) { d.kernels().multiply(n, a + at, b + at, d.view(node).data + at); });
}
void run_add(Decoder& d, const DecodeNode& node) {
    const float *a = d.input(node, 0).data, *b = d.input(node, 1).data;
    each_value(d, node, [&](size_t at, size_t n) { d.kernels().add(n, a + at, b + at, d.view(node).data + at); });
}
void run_pointwise(Decoder& d, const DecodeNode& node) {
    const float* x = d.input(node, 0).data;
    each_value(d, node, [&](size_t at, size_t n) {
        d.kernels().pointwise(Pointwise(int(node.number(0))), n, x + at, d.view(node).data + at, float(node.number(1)));
    });
}
void run_scale(Decoder& d, const DecodeNode& node) {
    const float* x = d.input(node, 0).data;
    each_value(d, node, [&](size_t at, size_t n) { d.kernels().scale(n, x + at, float(node.number(0)), d.view(node).data + at); });
}
void run_softmax(Decoder& d, const DecodeNode& node) {
    each_row(d, node.width * 4, [&](int r) { d.kernels().softmax(node.width, d.input(node, 0).row(r), d.view(node).row(r)); });
}

// concat(a, b, ...): along the width; slice(x): numbers: start ------------------------------------------------------
void check_concat(const Decoder&, const DecodeNode& node, const Nodes& nodes) {
    int sum = 0;
    for (size_t i = 0; i < node.inputs.size(); ++i) sum += width(nodes, node, i);
    if (sum != node.width || node.inputs.empty()) refuse(node, "its inputs do not add up to its width");
}
void check_slice(const Decoder&, const DecodeNode& node, const Nodes& nodes) {
    need(node, 1, 0, 1);
    if (node.number(0) < 0 || node.number(0) + node.width > width(nodes, node, 0)) refuse(node, "reaches beyond its input");
}
void run_slice(Decoder& d, const DecodeNode& node) {
    const RowsView x = d.input(node, 0), y = d.view(node);
    for (int r = 0; r < d.rows(); ++r)
        std::memcpy(y.row(r), x.row(r) + int(node.number(0)), size_t(node.width) * sizeof(float));
}
void run_concat(Decoder& d, const DecodeNode& node) {
    const RowsView y = d.view(node);
    int at = 0;
    for (size_t i = 0; i < node.inputs.size(); ++i) {
        const RowsView x = d.input(node, i);
        const int n = d.input_width(node, i);
        for (int r = 0; r < d.rows(); ++r) std::memcpy(y.row(r) + at, x.row(r), size_t(n) * sizeof(float));
        at += n;
    }
}

// top_k_gate(logits): params: bias for the choice or -1; numbers: k, sigmoid, normalise, scale --------------------
void check_gate(const Decoder& d, const DecodeNode& node, const Nodes& nodes) {
    need(node, 1, 1, 4);
    need_width(nodes, node);
    if (node.params[0] >= 0) need_weight(d, node, 0, 1, node.width);
    if (node.number(0) < 1 || node.number(0) > node.width) refuse(node, "chooses more experts than there are");
}
void gate_row(Decoder& d, const DecodeNode& node, const float* x, float* y) {
    const int n = node.width, k = int(node.number(0));
    const float* bias = node.params[0] >= 0 ? d.floats(node.params[0]) : nullptr;
    float* score = d.spare(0, 2 * n).data;
    float* rank = score + n;
    if (node.number(1) != 0)
        for (int i = 0; i < n; ++i) score[i] = 1.0f / (1.0f + std::exp(-x[i]));
    else
        d.kernels().softmax(n, x, score);
    for (int i = 0; i < n; ++i) rank[i] = score[i] + (bias ? bias[i] : 0.0f), y[i] = 0.0f;
    float sum = 0.0f;
    for (int round = 0; round < k; ++round) {
        int best = 0;
        for (int i = 1; i < n; ++i)
            if (rank[i] > rank[best]) best = i;
        rank[best] = -INFINITY;
        y[best] = score[best];
        sum += score[best];
    }
    const float factor = float(node.number(3)) / (node.number(2) != 0 && sum > 0.0f ? sum : 1.0f);
    for (int i = 0; i < n; ++i) y[i] *= factor;
}
void run_gate(Decoder& d, const DecodeNode& node) {
    for (int r = 0; r < d.rows(); ++r) gate_row(d, node, d.input(node, 0).row(r), d.view(node).row(r));
}

// experts(x, gates): params: [gates E] ups E, downs E; numbers: E, hidden, activation, gated -------------------------
void check_experts(const Decoder& d, const DecodeNode& node, const Nodes& nodes) {
    const int experts = int(node.numbers.empty() ? 0 : node.number(0));
    const bool gated = node.numbers.size() == 4 && node.number(3) != 0;
    need(node, 2, size_t(experts) * (gated ? 3 : 2), 4);
    const int hidden = int(node.number(1)), c = width(nodes, node, 0);
    if (experts < 1 || width(nodes, node, 1) != experts || node.width != c) refuse(node, "the widths of its inputs do not fit");
    for (int i = 0; i < int(node.params.size()); ++i) {
        const bool down = i >= experts * (gated ? 2 : 1);
        need_weight(d, node, size_t(i), down ? c : hidden, down ? hidden : c);
    }
}
void run_expert(Decoder& d, const DecodeNode& node, int expert) {
    const int experts = int(node.number(0)), hidden = int(node.number(1));
    const bool gated = node.number(3) != 0;
    const RowsView x = d.input(node, 0), gates = d.input(node, 1), y = d.view(node);
    const RowsView gathered = d.spare(0, node.width), gate = d.spare(1, hidden), up = d.spare(2, hidden);
    const RowsView down = d.spare(3, node.width);
    int rows = 0;
    for (int r = 0; r < d.rows(); ++r)
        if (gates.row(r)[expert] != 0.0f)
            std::memcpy(gathered.row(rows++), x.row(r), size_t(node.width) * sizeof(float));
    if (!rows) return;
    const int ups = gated ? experts : 0, downs = ups + experts;
    const size_t floats = size_t(rows) * size_t(up.stride);
    d.multiply(gathered, rows, -1, node.params[size_t(ups + expert)], -1, up);
    if (gated) {
        d.multiply(gathered, rows, -1, node.params[size_t(expert)], -1, gate);
        d.kernels().pointwise(Pointwise(int(node.number(2))), floats, gate.data, gate.data, 0.0f);
        d.kernels().multiply(floats, gate.data, up.data, up.data);
    } else {
        d.kernels().pointwise(Pointwise(int(node.number(2))), floats, up.data, up.data, 0.0f);
    }
    d.multiply(up, rows, -1, node.params[size_t(downs + expert)], -1, down);
    for (int r = 0, from = 0; r < d.rows(); ++r) {
        const float weight = gates.row(r)[expert];
        if (weight == 0.0f) continue;
        for (int i = 0; i < node.width; ++i) y.row(r)[i] += weight * down.row(from)[i];
        ++from;
    }
}
void run_experts(Decoder& d, const DecodeNode& node) {
    const RowsView y = d.view(node);
    for (int r = 0; r < d.rows(); ++r) std::memset(y.row(r), 0, size_t(node.width) * sizeof(float));
    for (int e = 0; e < int(node.number(0)); ++e) run_expert(d, node, e);
}

const DecodeOp kOps[] = {
    {"tokens", check_tokens, run_nothing, false},     {"embedding", check_embedding, run_embedding, false},
    {"position", check_position, run_position, false}, {"rmsnorm", check_norm, run_rmsnorm, false},
    {"layernorm", check_norm, run_layernorm, false},  {"dense", check_dense, run_dense, false},
    {"rope", check_rope, run_rope, false},            {"sdpa", check_sdpa, run_sdpa, false},
    {"mul", check_two, run_mul, false},               {"add", check_two, run_add, false},
    {"pointwise", check_pointwise, run_pointwise, false}, {"scale", check_scale, run_scale, false},
    {"softmax", check_one, run_softmax, false},       {"concat", check_concat, run_concat, false},
    {"slice", check_slice, run_slice, false},         {"alias", check_one, run_nothing, true},
    {"top_k_gate", check_gate, run_gate, false},      {"experts", check_experts, run_experts, false},
};

}  // namespace

const DecodeOp& decode_op(const std::string& name) {
    std::string known;
    for (const DecodeOp& op : kOps) {
        if (name == op.name) return op;
        known += (known.empty() ? "" : ", ") + std::string(op.name);
    }
    throw Error(Status::unsupported, "a decoder cannot run '" + name + "'; known: " + known);
}

}  // namespace alexandra
