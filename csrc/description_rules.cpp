// Rules for sequences, images and experts: attention and positions, gates, convolutions, recurrent layers.

#include "description_case.h"

namespace alexandra {

namespace {

bool batchnorm(const Case& c) {
    for (const ParamSpec* param : c.params)
        if (param->shape != Shape{c.own().back()}) return false;
    return c.in(0) == c.own() && c.number(0) >= 0 && c.number(1) >= 0 && c.number(1) <= 1;
}

bool transpose(const Case& c) {
    Shape turned = c.in(0);
    if (turned.size() < 2) return false;
    std::swap(turned[turned.size() - 1], turned[turned.size() - 2]);
    return turned == c.own();
}

bool reduce(const Case& c) {
    return c.in(0).size() >= 2 && Shape(c.in(0).begin() + 1, c.in(0).end()) == c.own() && c.whole(0, 0, 4);
}

bool matmul(const Case& c) {
    const Shape &a = c.in(0), &b = c.in(1), &y = c.own();
    if (a.size() < 2 || a.size() != b.size() || a.size() != y.size() || !c.whole(0, 0, 1)) return false;
    const size_t last = a.size() - 1;
    const bool turned = c.number(0) == 1;
    return std::equal(a.begin(), a.end() - 2, b.begin()) && std::equal(a.begin(), a.end() - 2, y.begin()) &&
           y[last - 1] == a[last - 1] && a[last] == b[turned ? last : last - 1] && y[last] == b[turned ? last - 1 : last];
}

bool position(const Case& c) {
    if (c.in(0) != c.own() || c.own().size() != 2 || !c.whole(0, 0, 1)) return false;
    const int rows = c.own()[0], width = c.own()[1];
    if (c.number(0) == 0) return c.params.empty() && c.node.numbers.size() == 2 + size_t(rows) * size_t(width);
    if (c.params.size() != 1 || c.node.numbers.size() != 2 || !c.whole(1, 0)) return false;
    const Shape& table = c.params[0]->shape;
    return table.size() == 2 && table[1] == width && c.number(1) + rows <= table[0];
}

bool rope(const Case& c) {
    if (c.in(0) != c.own() || c.own().size() != 2 || !c.whole(0, 1) || !c.whole(1, 1) || !c.whole(2, 0, 1)) return false;
    return c.own()[1] % c.count(0) == 0 && 2 * c.count(1) <= c.count(0) &&
           c.node.numbers.size() == 3 + 2 * size_t(c.own()[0]) * size_t(c.count(1));
}

// numbers: heads, kv_heads, causal, window, globals, stride, scale, softcap, buckets and then a bucket by distance
bool sdpa(const Case& c) {
    if (c.inputs.size() > 4 || c.node.numbers.size() < 9) return false;
    for (size_t i = 0; i < 3; ++i)
        if (c.in(i).size() != 2) return false;
    const int queries = c.in(0)[0], keys = c.in(1)[0];
    if (!c.whole(0, 1, 4096) || !c.whole(1, 1, 4096) || !c.whole(2, 0, 1) || !c.whole(8, 0, 1 << 20)) return false;
    if (!c.whole(3, 0) || !c.whole(4, 0) || !c.whole(5, 0) || c.number(7) < 0) return false;
    const int heads = c.count(0), kv = c.count(1), buckets = c.count(8);
    if (heads % kv || c.width(0) % heads || c.width(2) % kv || c.width(1) != kv * (c.width(0) / heads)) return false;
    if (c.in(2)[0] != keys || c.own() != Shape{queries, heads * (c.width(2) / kv)}) return false;
    if (c.inputs.size() == 4 && (c.in(3) != Shape{keys} || c.inputs[3]->numbers != std::vector<double>{1})) return false;
    if (!buckets) return c.params.empty() && c.node.numbers.size() == 9;
    for (size_t i = 9; i < c.node.numbers.size(); ++i)
        if (!c.whole(i, 0, buckets - 1)) return false;
    return c.params.size() == 1 && c.param(0, {buckets, heads}) &&
           c.node.numbers.size() == 9 + size_t(queries) + size_t(keys) - 1;
}

bool top_k_gate(const Case& c) {
    const int experts = c.own().back();
    return c.in(0) == c.own() && c.params.size() <= 1 && (c.params.empty() || c.param(0, {experts})) &&
           c.whole(0, 1, experts) && c.whole(1, 0, 1) && c.whole(2, 0, 1) && c.number(6) >= 0 && c.number(7) >= 0;
}

// numbers: hidden, activation, its number, gated; parameters: up, down and, gated, gate
bool experts(const Case& c) {
    const int width = c.width(0), count = c.width(1);
    if (!c.whole(0, 1) || !c.whole(1, -1, 8) || !c.whole(3, 0, 1) || c.in(0) != c.own()) return false;
    const int hidden = c.count(0);
    if (!same_leading(c.in(0), c.in(1)) || c.params.size() != (c.number(3) == 1 ? 3 : 2)) return false;
    return c.param(0, {count, hidden, width}) && c.param(1, {count, width, hidden}) &&
           (c.params.size() == 2 || c.param(2, {count, hidden, width}));
}

// numbers: kernel (2), stride (2), dilation, padding before (2), groups or whether it is the maximum
bool window(const Case& c) {
    if (c.in(0).size() != 3 || c.own().size() != 3) return false;
    for (size_t i = 0; i < 5; ++i)
        if (!c.whole(i, 1, 1 << 20)) return false;
    for (size_t axis = 0; axis < 2; ++axis) {
        if (!c.whole(5 + axis, 0, 1 << 20)) return false;
        const int64_t reach = int64_t(c.count(4)) * (c.count(axis) - 1) + 1, before = c.count(5 + axis);
        bool fits = false;
        for (const int64_t total : {2 * before, 2 * before + 1}) {
            const int64_t room = c.in(0)[axis] + total - reach;
            fits = fits || (room >= 0 && room / c.count(2 + axis) + 1 == c.own()[axis]);
        }
        if (!fits || before >= reach) return false;
    }
    return true;
}

bool conv2d(const Case& c) {
    if (!window(c) || !c.whole(7, 1)) return false;
    const int groups = c.count(7), channels = c.width(0), size = c.own()[2];
    if (channels % groups || size % groups || !c.param(0, {size, c.count(0), c.count(1), channels / groups})) return false;
    return c.params.size() == 1 || c.param(1, {size});
}

bool pool2d(const Case& c) { return window(c) && c.whole(7, 0, 1) && c.count(4) == 1 && c.width(0) == c.own()[2]; }

template <int gates>
bool recurrent(const Case& c) {
    if (c.in(0).size() != 2 || !c.whole(0, 0, 1) || !c.whole(1, 0, 1) || !c.whole(2, 0, 1)) return false;
    const int size = c.own().back();
    if (size > 1 << 20 || c.own() != (c.number(1) == 1 ? Shape{size} : Shape{c.in(0)[0], size})) return false;
    return c.param(0, {gates * size, c.width(0)}) && c.param(1, {gates * size, size}) && c.param(2, {gates * size}) &&
           (gates != 3 || c.param(3, {size}));
}

constexpr Rule kRules[] = {
    {"batchnorm", 1, 4, 2, batchnorm},     {"transpose", 1, 0, 0, transpose},
    {"reduce", 1, 0, 1, reduce},           {"matmul", 2, 0, 2, matmul},
    {"position", 1, kAny, kAny, position}, {"rope", 1, 0, kAny, rope},
    {"sdpa", -3, kAny, kAny, sdpa},        {"top_k_gate", 1, kAny, 9, top_k_gate},
    {"experts", 2, kAny, 4, experts},      {"conv2d", 1, -2, 8, conv2d},
    {"pool2d", 1, 0, 8, pool2d},           {"rnn", 1, 3, 3, recurrent<1>},
    {"lstm", 1, 3, 3, recurrent<4>},       {"gru", 1, 4, 3, recurrent<3>},
};

}  // namespace

std::span<const Rule> sequence_rules() { return kRules; }

}  // namespace alexandra
