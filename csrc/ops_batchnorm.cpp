// batchnorm over rows and leading axes. Params: weight, bias, mean, variance; the last two follow the batches and
// are what inference uses. numbers: eps, momentum.
#include "ops_parts.h"

#include <algorithm>
#include <cmath>

namespace alexandra {

namespace {

// Vectors of one batch, each padded to 16: its statistics, and the factors of forward and backward.
struct Vectors {
    float *mean, *squares, *inverse, *first, *second, *a, *b, *c;
    static constexpr size_t count = 8;

    Vectors(float* at, size_t n) : mean(at), squares(at + n), inverse(at + 2 * n), first(at + 3 * n),
          second(at + 4 * n), a(at + 5 * n), b(at + 6 * n), c(at + 7 * n) {}
};

size_t padded(const Node& node) { return round_up(size_t(node.width), 16); }
size_t batchnorm_batch(const Plan&, const Node& node) { return Vectors::count * padded(node); }

Vectors vectors(const Pass& pass, int node) { return {pass.batch(node), padded(node_of(pass, node))}; }

ChannelSums sums_of(const Pass& pass, int node, const float* dy, const float* mean, std::pair<int, int> range) {
    const Node& y = node_of(pass, node);
    const Vectors v = vectors(pass, node);
    return {.width = y.width, .groups = y.groups, .lanes = pass.lanes(), .rows = pass.rows,
            .x = pass.value(y.inputs[0], 0), .dy = dy, .mean = mean, .first_sum = v.first, .second_sum = v.second,
            .first = range.first, .last = range.second};
}

double count_of(const Pass& pass, int node) { return double(pass.rows) * node_of(pass, node).groups; }

// Mean and variance of the batch.
void batchnorm_join(const Pass& pass, int node, Part part) {
    const Node& y = node_of(pass, node);
    const Vectors v = vectors(pass, node);
    const std::pair<int, int> range = part.of(y.width, kStripes);
    const double n = count_of(pass, node);
    pass.kernels.channel_sums(sums_of(pass, node, nullptr, nullptr, range));
    for (int f = range.first; f < range.second; ++f) v.mean[f] = float(v.first[f] / n);
    pass.kernels.channel_sums(sums_of(pass, node, nullptr, v.mean, range));
    for (int f = range.first; f < range.second; ++f) {
        v.squares[f] = v.second[f];
        v.inverse[f] = float(1.0 / std::sqrt(v.second[f] / n + y.numbers[0]));
        v.b[f] = pass.weight(y.params[0])[f] * v.inverse[f];
    }
}

// With running statistics: the factors.
size_t batchnorm_scratch(const Plan&, const Node& node, bool training, int) { return training ? 0 : padded(node); }

void batchnorm_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const float *mean = pass.weight(y.params[2]), *factor = nullptr;
    if (pass.training()) {
        mean = vectors(pass, node).mean, factor = vectors(pass, node).b;
    } else {
        float* own = pass.scratch(blocks.thread);
        for (int f = 0; f < y.width; ++f)
            own[f] = float(pass.weight(y.params[0])[f] / std::sqrt(pass.weight(y.params[3])[f] + y.numbers[0]));
        factor = own;
    }
    pass.kernels.channel_map({
        .width = y.width, .units = blocks.count() * y.groups, .lanes = pass.lanes(), .dy = nullptr,
        .x = pass.value(y.inputs[0], blocks.first), .a = nullptr, .b = factor, .mean = mean,
        .c = pass.weight(y.params[1]), .y = pass.value(node, blocks.first), .accumulate = false,
    });
}

void batchnorm_join_backward(const Pass& pass, int node, Part part) {
    const Node& y = node_of(pass, node);
    const Vectors v = vectors(pass, node);
    const std::pair<int, int> range = part.of(y.width, kStripes);
    const double n = count_of(pass, node);
    pass.kernels.channel_sums(sums_of(pass, node, pass.gradient(node, 0), v.mean, range));
    for (int f = range.first; f < range.second; ++f) {
        const double inverse = v.inverse[f], a = pass.weight(y.params[0])[f] * inverse;
        v.a[f] = float(a);
        v.b[f] = float(-a * inverse * inverse * v.second[f] / n);
        v.c[f] = float(-a * v.first[f] / n);
    }
}

void batchnorm_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Vectors v = vectors(pass, node);
    float* dx = pass.gradient(y.inputs[0], blocks.first);
    if (!dx) return;
    pass.kernels.channel_map({
        .width = y.width, .units = blocks.count() * y.groups, .lanes = pass.lanes(),
        .dy = pass.gradient(node, blocks.first), .x = pass.value(y.inputs[0], blocks.first), .a = v.a, .b = v.b,
        .mean = v.mean, .c = v.c, .y = dx, .accumulate = accumulates(pass, node, 0),
    });
    const int used = pass.rows % pass.lanes();
    if (!used || blocks.last != pass.blocks()) return;
    // Lanes beyond the rows in use have no gradient, as everywhere.
    float* last = pass.gradient(y.inputs[0], blocks.last - 1);
    for (size_t at = 0; at < pass.slab(y.inputs[0]); at += size_t(pass.lanes()))
        clear(last + at + used, size_t(pass.lanes() - used));
}

void batchnorm_gradients(const Pass& pass, int node, Part part) {
    const Node& y = node_of(pass, node);
    const Vectors v = vectors(pass, node);
    const auto [first, last] = part.of(y.width, kStripes);
    float *weight = pass.weight_gradient(y.params[0]), *bias = pass.weight_gradient(y.params[1]);
    const std::vector<char>& accumulate = pass.flow->accumulate_params[size_t(node)];
    for (int f = first; f < last; ++f) {
        weight[f] = (accumulate[0] ? weight[f] : 0.0f) + v.inverse[f] * v.second[f];
        bias[f] = (accumulate[1] ? bias[f] : 0.0f) + v.first[f];
    }
}

// running (+)= momentum * (batch - running), the variance unbiased
void batchnorm_learn(const Pass& pass, int node, float* weights) {
    const Node& y = node_of(pass, node);
    const Vectors v = vectors(pass, node);
    const double n = count_of(pass, node), rate = y.numbers[1];
    float* mean = weights + pass.plan.params[size_t(y.params[2])].offset;
    float* variance = weights + pass.plan.params[size_t(y.params[3])].offset;
    for (int f = 0; f < y.width; ++f) {
        mean[f] = float((1.0 - rate) * mean[f] + rate * v.mean[f]);
        variance[f] = float((1.0 - rate) * variance[f] + rate * v.squares[f] / std::max(1.0, n - 1.0));
    }
}

constexpr Op kAll[] = {
    {"batchnorm", false, saves_nothing, batchnorm_forward, batchnorm_backward, batchnorm_gradients, kInputs, nullptr,
     batchnorm_scratch, batchnorm_batch, batchnorm_join, batchnorm_join_backward, nullptr, batchnorm_learn},
};
constexpr auto kRows = of_this_build(kAll);

}  // namespace

std::span<const Op> batchnorm_ops() { return kRows; }

}  // namespace alexandra
