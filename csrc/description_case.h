// One node of a description with what it reads: what the rules of ops are asked about.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>

#include "description.h"

namespace alexandra {

using Shape = std::vector<int>;

struct Case {
    const NodeSpec& node;
    std::vector<const NodeSpec*> inputs;
    std::vector<const ParamSpec*> params;

    const Shape& in(size_t i) const { return inputs.at(i)->shape; }
    const Shape& own() const { return node.shape; }
    int width(size_t i) const { return inputs.at(i)->shape.back(); }
    double number(size_t i) const { return node.numbers.at(i); }
    bool param(size_t i, const Shape& shape) const { return params.at(i)->shape == shape; }
    // Whether number `i` is whole and in low .. high.
    bool whole(size_t i, double low, double high = 1 << 30) const {
        return i < node.numbers.size() && std::floor(number(i)) == number(i) && number(i) >= low && number(i) <= high;
    }
    int count(size_t i) const { return int(number(i)); }
};

constexpr int kAny = 1000;  // of params and numbers: the rule itself counts them

// How many inputs, parameters and numbers an op has (-n: n or more; of params n or one less), and whether they fit.
struct Rule {
    const char* op;
    int inputs, params, numbers;
    bool (*fits)(const Case&);
};

inline bool same_leading(const Shape& a, const Shape& b) {
    return a.size() == b.size() && std::equal(a.begin(), a.end() - 1, b.begin());
}

inline bool all_alike(const Case& c) {
    return std::all_of(c.inputs.begin(), c.inputs.end(), [&](const NodeSpec* i) { return i->shape == c.own(); });
}

std::span<const Rule> layer_rules();     // description_check.cpp
std::span<const Rule> sequence_rules();  // description_rules.cpp

}  // namespace alexandra
