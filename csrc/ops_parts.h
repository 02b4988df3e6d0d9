// What the files ops_*.cpp share: their tables, and the few lines that every op needs.
#pragma once

#include <array>
#include <cstring>
#include <span>
#include <utility>

#include "ops.h"

namespace alexandra {

std::span<const Op> attention_ops();
std::span<const Op> batchnorm_ops();
std::span<const Op> convolution_ops();
std::span<const Op> dense_ops();
std::span<const Op> experts_ops();
std::span<const Op> gate_ops();
std::span<const Op> matrix_ops();
std::span<const Op> norm_ops();
std::span<const Op> pointwise_ops();
std::span<const Op> recurrent_ops();
std::span<const Op> shape_ops();

// The rows as this build needs them: one for inference alone does not name what training does, so that the linker
// leaves it out.
template <size_t N>
constexpr std::array<Op, N> of_this_build(const Op (&rows)[N]) {
    std::array<Op, N> kept{};
    for (size_t i = 0; i < N; ++i) {
        kept[i] = rows[i];
#if ALEXANDRA_INFERENCE_ONLY
        kept[i].backward = nullptr, kept[i].gradients = nullptr, kept[i].batch = nullptr;
        kept[i].join_forward = kept[i].join_backward = nullptr;
        kept[i].penalty = nullptr, kept[i].learn = nullptr;
#endif
    }
    return kept;
}

inline size_t saves_nothing(const Plan&, const Node&, bool) { return 0; }
inline void no_forward(const Pass&, int, Blocks) {}

inline const Node& node_of(const Pass& pass, int node) { return pass.plan.nodes[size_t(node)]; }

inline Groups groups_of(const Pass& pass, int node) {
    const Node& n = node_of(pass, node);
    return {n.groups, n.width, pass.lanes()};
}

// Groups of all blocks, numbered through: the vectors that an op with kByGroup works on.
struct Units {
    const Pass& pass;
    int node, first, count;

    Units(const Pass& p, int n, Blocks blocks) : pass(p), node(n) {
        const int groups = node_of(p, n).groups;
        first = blocks.first * groups + blocks.from;
        count = blocks.to < 0 ? blocks.count() * groups : blocks.to - blocks.from;
    }
    // Where the first of them begins in something that holds `floats` a row and group.
    ptrdiff_t at(int floats) const { return ptrdiff_t(first) * floats * pass.lanes(); }
    size_t floats() const { return size_t(count) * size_t(node_of(pass, node).width) * size_t(pass.lanes()); }
    Groups groups() const { return {count, node_of(pass, node).width, pass.lanes()}; }
    float* value(int of) const { return pass.value(of, 0) + at(node_of(pass, of).width); }
    float* gradient(int of) const {
        float* base = pass.gradient(of, 0);
        return base ? base + at(node_of(pass, of).width) : nullptr;
    }
    float* saved(int floats) const { return pass.saved(node) + at(floats); }
};

inline bool accumulates(const Pass& pass, int node, size_t input) {
    return pass.flow->accumulate[size_t(node)][input];
}

inline void clear(float* x, size_t n) { std::memset(x, 0, n * sizeof(float)); }

// dW[m][features] (+)= sum over all rows and groups of dy[m] x; x laid out as rows in panels (panels_from_slab at row
// (block * groups + group) * lanes, capacity * groups rows in all).
struct WeightSum {
    const float *dy, *panels;
    int groups, width, features;  // width: of dy
    float* out;
    ptrdiff_t stride;
    bool accumulate;
    float* scratch = nullptr;  // for Product
};
void weight_gradients(const Pass& pass, WeightSum sum, std::pair<int, int> range);
// The same over rows first .. first + count - 1 of panels that hold `capacity` rows.
void sum_rows(const Kernels& kernels, const WeightSum& sum, ptrdiff_t capacity, int lanes, ptrdiff_t first, int count,
              std::pair<int, int> range);

// The gradient of a vector that is added to every row (parameter `which`), for a range of features.
void bias_gradients(const Pass& pass, int node, size_t which, std::pair<int, int> range);

}  // namespace alexandra
