#include "description.h"

#include "plan_reader.h"

namespace alexandra {

namespace {

void read_param(PlanReader& in, Description& d, Names& names) {
    ParamSpec spec;
    Init init;
    in.fields("a parameter", {"name", "shape", "trained", "init", "fan_in", "fan_out"}, [&](std::string_view key) {
        if (key == "name") spec.name = in.name("parameter");
        if (key == "shape") spec.shape = in.shape();
        if (key == "trained") spec.trained = in.truth();
        if (key == "init") init.kind = in.name("init");
        if (key == "fan_in") init.fan_in = in.whole("fan_in");
        if (key == "fan_out") init.fan_out = in.whole("fan_out");
    });
    if (spec.name.empty()) damaged("a parameter has no name");
    if (spec.shape.empty() || spec.shape.size() > 4) damaged("parameter " + quoted(spec.name) + " needs one to four axes");
    for (int axis : spec.shape)
        if (axis < 1) damaged("parameter " + quoted(spec.name) + " has an axis of size " + std::to_string(axis));
    if (!names.emplace(spec.name, int(d.params.size())).second) damaged("parameter " + quoted(spec.name) + " stands twice");
    d.params.push_back(std::move(spec));
    d.inits.push_back(std::move(init));
}

void read_node(PlanReader& in, Description& d, Names& names, const Names& params) {
    NodeSpec spec;
    in.fields("a node", {"name", "op", "inputs", "shape", "params", "numbers"}, [&](std::string_view key) {
        if (key == "name") spec.name = in.name("node");
        if (key == "op") spec.op = in.name("op");
        if (key == "inputs") in.list([&] { spec.inputs.push_back(lookup(names, in.text(), "node")); });
        if (key == "shape") spec.shape = in.shape();
        if (key == "params") in.list([&] { spec.params.push_back(lookup(params, in.text(), "parameter")); });
        if (key == "numbers") in.list([&] { spec.numbers.push_back(in.real()); });
    });
    if (spec.name.empty() || spec.op.empty()) damaged("a node needs a name and an op");
    if (!names.emplace(spec.name, int(d.nodes.size())).second) damaged("node " + quoted(spec.name) + " stands twice");
    d.nodes.push_back(std::move(spec));
    check_node(d, d.nodes.size() - 1);
}

void read_head(PlanReader& in, Description& d, const Names& names) {
    Head head{-1, -1, false};
    in.fields("a head", {"output", "logits", "sigmoid"}, [&](std::string_view key) {
        if (key == "output") head.output = lookup(names, in.text(), "node");
        if (key == "logits") head.logits = lookup(names, in.text(), "node");
        if (key == "sigmoid") head.sigmoid = in.truth();
    });
    if (head.output < 0 || d.nodes[size_t(head.output)].op != "output") damaged("a head needs an output");
    if (head.logits < 0) head.logits = d.nodes[size_t(head.output)].inputs[0];
    if (d.nodes[size_t(head.logits)].shape != d.nodes[size_t(head.output)].shape || d.nodes[size_t(head.logits)].op == "input")
        damaged("node " + quoted(d.nodes[size_t(head.logits)].name) + " cannot be the logits of " +
                quoted(d.nodes[size_t(head.output)].name));
    d.heads.push_back(head);
}

}  // namespace

Description read_description(std::string_view json) {
    if (json.size() > kMaxDescription)
        damaged("a plan of " + std::to_string(json.size()) + " bytes; at most " + std::to_string(kMaxDescription));
    Description d;
    Names params, nodes;
    std::string format;
    int version = 0;
    PlanReader in(json);
    in.fields("the plan", {"format", "version", "name", "spec_hash", "params", "nodes", "heads"}, [&](std::string_view key) {
        if (key == "format") format = in.name("format");
        if (key == "version") version = in.whole("version");
        if (key == "name") d.name = in.name("network");
        if (key == "spec_hash") d.spec_hash = in.name("hash");
        if (key == "params") in.list([&] { read_param(in, d, params); });
        if (key == "nodes") in.list([&] { read_node(in, d, nodes, params); });
        if (key == "heads") in.list([&] { read_head(in, d, nodes); });
    });
    in.end();
    if (format != "alexandra-plan" || version != 1)
        damaged("a plan says format 'alexandra-plan', version 1; this one " + quoted(format) + ", " + std::to_string(version));
    size_t inputs = 0, outputs = 0;
    for (const NodeSpec& node : d.nodes) inputs += node.op == "input", outputs += node.op == "output";
    if (!inputs || !outputs) damaged("a plan needs an input and an output");
    return d;
}

}  // namespace alexandra
