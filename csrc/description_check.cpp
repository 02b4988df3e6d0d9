// What each op needs of its inputs, parameters and numbers: one row for each, walked by check_node.

#include "bytes.h"
#include "description_case.h"
#include "ops.h"

namespace alexandra {

namespace {

int64_t product_of(const Shape& shape) {
    int64_t n = 1;
    for (int axis : shape) n = std::min<int64_t>(n * axis, int64_t(1) << 40);
    return n;
}

bool dense(const Case& c) {
    const int out = c.own().back();
    return same_leading(c.in(0), c.own()) && c.param(0, {out, c.width(0)}) && (c.params.size() < 2 || c.param(1, {out}));
}

bool embedding(const Case& c) {
    const Shape& table = c.params[0]->shape;
    Shape shape = c.in(0);
    shape.push_back(c.own().back());
    return c.inputs[0]->op == "input" && !c.inputs[0]->numbers.empty() && c.inputs[0]->numbers[0] == 1 &&
           shape == c.own() && table.size() == 2 && table[1] == c.own().back();
}

bool scaled_norm(const Case& c) {
    for (const ParamSpec* param : c.params)
        if (param->shape != Shape{c.own().back()}) return false;
    return c.in(0) == c.own() && c.number(0) >= 0;
}

bool concat(const Case& c) {
    int64_t width = 0;
    for (size_t i = 0; i < c.inputs.size(); ++i) {
        if (!same_leading(c.in(i), c.own())) return false;
        width += c.width(i);
    }
    return width == c.own().back();
}

bool slice(const Case& c) {
    const double start = c.number(0), stop = c.number(1);
    return same_leading(c.in(0), c.own()) && start >= 0 && start < stop && stop <= c.width(0) &&
           std::floor(start) == start && stop - start == c.own().back();
}

bool select(const Case& c) {
    return same_leading(c.in(0), c.own()) && c.width(0) == 1 && c.in(1) == c.own() && c.in(2) == c.own() &&
           c.number(0) >= 0 && c.number(0) <= 5;
}

bool input(const Case& c) { return c.node.numbers.size() <= 1 && (c.node.numbers.empty() || c.number(0) == 0 || c.number(0) == 1); }
bool reshape(const Case& c) { return product_of(c.in(0)) == product_of(c.own()); }
bool dropout(const Case& c) { return all_alike(c) && c.number(0) >= 0 && c.number(0) < 1; }

constexpr Rule kRules[] = {
    {"input", 0, 0, kAny, input},        {"output", 1, 0, 0, all_alike},   {"dense", 1, -2, 0, dense},
    {"embedding", 1, 1, 0, embedding}, {"relu", 1, 0, 0, all_alike},     {"leaky_relu", 1, 0, 1, all_alike},
    {"elu", 1, 0, 1, all_alike},       {"gelu", 1, 0, 0, all_alike},     {"silu", 1, 0, 0, all_alike},
    {"sigmoid", 1, 0, 0, all_alike},   {"softplus", 1, 0, 0, all_alike}, {"tanh", 1, 0, 0, all_alike},
    {"softmax", 1, 0, 0, all_alike},   {"layernorm", 1, 2, 1, scaled_norm}, {"rmsnorm", 1, 1, 1, scaled_norm},
    {"dropout", 1, 0, 1, dropout},     {"add", -2, 0, 0, all_alike},     {"mul", -2, 0, 0, all_alike},
    {"concat", -1, 0, 0, concat},      {"reshape", 1, 0, 0, reshape},    {"slice", 1, 0, 2, slice},
    {"select", 3, 0, 2, select},       {"gelu_tanh", 1, 0, 0, all_alike}, {"scale", 1, 0, 1, all_alike},
};

bool count_fits(int wanted, size_t given) {
    return wanted == kAny || (wanted < 0 ? given >= size_t(-wanted) : given == size_t(wanted));
}

bool params_fit(int wanted, size_t given) {
    return wanted < 0 ? given == size_t(-wanted) || given + 1 == size_t(-wanted) : count_fits(wanted, given);
}

const Rule* rule_of(const std::string& op) {
    for (const std::span<const Rule> rules : {layer_rules(), sequence_rules()})
        for (const Rule& rule : rules)
            if (op == rule.op) return &rule;
    return nullptr;
}

bool whole_numbers(const NodeSpec& node) { return node.op == "input" && !node.numbers.empty() && node.numbers[0] == 1; }

// Whole numbers are looked up, or are the segments of an attention; nothing else may read them.
bool takes_whole(const NodeSpec& node, size_t input) {
    return node.op == "embedding" || (node.op == "sdpa" && input == 3);
}

}  // namespace

std::span<const Rule> layer_rules() { return kRules; }

void check_node(const Description& description, size_t index) {
    const NodeSpec& node = description.nodes[index];
    const std::string where = "node " + quoted(node.name) + " (" + node.op + ")";
    const Rule* rule = rule_of(node.op);
    if (!rule) damaged(where + ": plans know no such op");
    find_op(node.op);
    if (node.shape.empty() || node.shape.size() > 4) damaged(where + " needs one to four axes");
    for (int axis : node.shape)
        if (axis < 1) damaged(where + " has an axis of size " + std::to_string(axis));
    if (product_of(node.shape) > (int64_t(1) << 30)) damaged(where + " has more than 2^30 values a row");
    if (!count_fits(rule->inputs, node.inputs.size()) || !params_fit(rule->params, node.params.size()) ||
        !count_fits(rule->numbers, node.numbers.size()))
        damaged(where + " has " + std::to_string(node.inputs.size()) + " inputs, " + std::to_string(node.params.size()) +
                " parameters and " + std::to_string(node.numbers.size()) + " numbers, which is not what it needs");
    Case c{node, {}, {}};
    for (size_t j = 0; j < node.inputs.size(); ++j) {
        c.inputs.push_back(&description.nodes[size_t(node.inputs[j])]);
        if (whole_numbers(*c.inputs[j]) != takes_whole(node, j))
            damaged(where + (takes_whole(node, j) ? " needs" : " cannot read") + " whole numbers at input " + std::to_string(j));
    }
    for (int p : node.params) c.params.push_back(&description.params[size_t(p)]);
    for (double number : node.numbers)
        if (!std::isfinite(number)) damaged(where + " has a number that is not finite");
    if (!rule->fits(c)) damaged(where + ": shapes, parameters and numbers do not fit each other");
}

}  // namespace alexandra
