// A network as text: the JSON that alexandra/backends/native_plan.py writes, read strictly and checked in full
// before anything is planned. What it says of shapes and parameters is compared with what each op needs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "plan.h"

namespace alexandra {

// How a parameter begins: uniform, normal, zeros or ones (ir/weights.INITS).
struct Init {
    std::string kind;
    int64_t fan_in = 1, fan_out = 1;
};

// Where cross-entropy reads an output: the node of its logits, and whether a sigmoid follows.
struct Head {
    int output, logits;
    bool sigmoid;
};

struct Description {
    std::string name, spec_hash;
    std::vector<ParamSpec> params;
    std::vector<Init> inits;
    std::vector<NodeSpec> nodes;
    std::vector<Head> heads;
};

constexpr size_t kMaxDescription = size_t(64) << 20;

Description read_description(std::string_view json);

// Error(invalid_argument) unless node `index` fits the nodes and parameters before it.
void check_node(const Description& description, size_t index);

}  // namespace alexandra
