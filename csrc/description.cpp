#include "description.h"

#include <charconv>
#include <map>

#include "json_cursor.h"

namespace alexandra {

namespace {

using Names = std::map<std::string, int, std::less<>>;

std::string name_of(std::string_view text, const char* what) {
    if (text.empty() || text.size() > 1000 || text.find('\\') != std::string_view::npos)
        damaged(std::string(what) + " " + quoted(text) + " is not a name");
    return std::string(text);
}

int lookup(const Names& names, std::string_view name, const char* what) {
    const auto found = names.find(name);
    if (found == names.end()) damaged("there is no " + std::string(what) + " " + quoted(name) + " before it is used");
    return found->second;
}

// Reads the members of objects by tables of fields: each once, and no other.
class Reader {
public:
    explicit Reader(std::string_view text) : text_(text), in_(text) {}

    template <typename F>
    void fields(const char* what, std::initializer_list<std::string_view> known, F member) {
        unsigned seen = 0;
        in_.object([&](std::string_view key) {
            unsigned index = 0;
            for (std::string_view name : known) {
                if (name == key) break;
                ++index;
            }
            if (index == known.size()) damaged(std::string(what) + " has an unknown field " + quoted(key));
            if (seen >> index & 1) damaged(std::string(what) + " has the field " + quoted(key) + " twice");
            seen |= 1u << index;
            member(key);
        });
    }

    std::string name(const char* what) { return name_of(in_.string(), what); }
    std::string_view text() { return in_.string(); }
    template <typename F>
    void list(F item) {
        in_.array(item);
    }
    int whole(const char* what) {
        const uint64_t n = in_.whole();
        if (n > (uint64_t(1) << 30)) damaged(std::string(what) + " " + std::to_string(n) + " is above 2^30");
        return int(n);
    }
    double real() {
        in_.peek();
        const size_t from = in_.at();
        in_.skip();
        const std::string_view number = text_.substr(from, in_.at() - from);
        double value = 0;
        const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
        if (error != std::errc() || end != number.data() + number.size()) damaged(quoted(number) + " is not a number");
        return value;
    }
    bool truth() {
        const char first = in_.peek();
        if (first != 't' && first != 'f') damaged("true or false wanted at byte " + std::to_string(in_.at()));
        in_.skip();
        return first == 't';
    }
    std::vector<int> shape() {
        std::vector<int> axes;
        in_.array([&] {
            axes.push_back(whole("an axis"));
            if (axes.size() > 8) damaged("a shape has more than 8 axes");
        });
        return axes;
    }
    void end() { in_.end(); }

private:
    std::string_view text_;
    JsonCursor in_;
};

void read_param(Reader& in, Description& d, Names& names) {
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

void read_node(Reader& in, Description& d, Names& names, const Names& params) {
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

void read_head(Reader& in, Description& d, const Names& names) {
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
    Reader in(json);
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
