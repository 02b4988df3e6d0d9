#include "plan.h"

#include <algorithm>
#include <cstring>

#include "ops.h"

namespace alexandra {

namespace {

// Rows of a matrix start 64-byte aligned and avoid strides of a multiple of 1 KiB, whose rows would fall into
// few sets of the first-level cache.
ptrdiff_t padded_stride(int cols) {
    const size_t stride = round_up(size_t(cols), 16);
    return ptrdiff_t(stride % 256 ? stride : stride + 16);
}

int product_of(const std::vector<int>& shape, size_t count, const std::string& name) {
    int64_t n = 1;
    for (size_t i = 0; i < count; ++i) {
        if (shape[i] < 1) throw Error(Status::invalid_argument, name + ": axis of size " + std::to_string(shape[i]));
        n *= shape[i];
        if (n > (int64_t(1) << 30)) throw Error(Status::invalid_argument, name + ": more than 2^30 values a row");
    }
    return int(n);
}

Param param_at(const ParamSpec& spec, size_t offset) {
    const std::vector<int>& shape = spec.shape;
    if (shape.empty() || shape.size() > 4)
        throw Error(Status::unsupported, spec.name + ": a parameter has one to four axes");
    const int all = product_of(shape, shape.size(), spec.name);
    const int rows = shape.size() == 1 ? 1 : shape.size() == 3 ? shape[0] * shape[1] : shape[0];
    const int cols = all / rows;
    return {spec.name, rows, cols, padded_stride(cols), offset, shape.size() >= 2, spec.trained};
}

}  // namespace

Weights::Weights(const std::vector<ParamSpec>& specs) : specs_(specs) {
    lay_out();
    memory_ = Memory(floats_);
}

Weights Weights::outline(const std::vector<ParamSpec>& specs) {
    Weights found;
    found.specs_ = specs;
    found.lay_out();
    return found;
}

Weights::Weights(const std::vector<ParamSpec>& specs, std::shared_ptr<const void> owner, const float* base,
                 const std::vector<size_t>& offsets)
    : specs_(specs), owner_(std::move(owner)), base_(base) {
    if (offsets.size() != specs.size()) throw Error(Status::invalid_argument, "a place is needed for every parameter");
    for (size_t i = 0; i < specs.size(); ++i) {
        params_.push_back(param_at(specs[i], offsets[i]));
        params_[i].stride = params_[i].cols;
        floats_ += params_[i].floats();
    }
}

void Weights::lay_out() {
    params_.resize(specs_.size());
    size_t offset = 0;
    auto place = [&](size_t i) {
        params_[i] = param_at(specs_[i], offset);
        offset += params_[i].floats();
    };
    for (const bool matrix : {true, false}) {
        for (size_t i = 0; i < specs_.size(); ++i)
            if (specs_[i].trained && (specs_[i].shape.size() >= 2) == matrix) place(i);
        if (matrix) matrix_floats_ = offset;
    }
    trained_floats_ = offset;
    for (size_t i = 0; i < specs_.size(); ++i)
        if (!specs_[i].trained) place(i);
    floats_ = offset;
}

void Weights::own() {
    if (!owner_) return;
    const std::vector<Param> from = params_;
    lay_out();
    memory_ = Memory(floats_);
    for (size_t i = 0; i < from.size(); ++i) pack(int(i), base_ + from[i].offset, memory_.data());
    owner_.reset();
    ++generation_;
}

float* Weights::data() {
    if (owner_) throw Error(Status::invalid_argument, "mapped weights cannot be changed");
    return memory_.data();
}

void Weights::pack(int param, const float* natural, float* block) const {
    const Param& p = params_[size_t(param)];
    for (int r = 0; r < p.rows; ++r)
        std::memcpy(block + p.offset + size_t(r) * size_t(p.stride), natural + size_t(r) * size_t(p.cols),
                    size_t(p.cols) * sizeof(float));
}

void Weights::unpack(int param, const float* block, float* natural) const {
    const Param& p = params_[size_t(param)];
    for (int r = 0; r < p.rows; ++r)
        std::memcpy(natural + size_t(r) * size_t(p.cols), block + p.offset + size_t(r) * size_t(p.stride),
                    size_t(p.cols) * sizeof(float));
}

int target_features(const LossSpec& loss, const Node& node) {
    return loss.kind == LossKind::cross_entropy ? node.groups : node.features();
}

int loss_terms(const LossSpec& loss, const Node& node) {
    return loss.kind == LossKind::cross_entropy || loss.kind == LossKind::divergence ? node.groups : node.features();
}

Plan::Plan(const std::vector<NodeSpec>& specs, const Weights& weights, const PlanWishes& wishes)
    : params(weights.params()) {
    for (int param : wishes.frozen) params.at(size_t(param)).held = true;
    for (size_t i = 0; i < specs.size(); ++i) {
        const NodeSpec& spec = specs[i];
        const Op& op = find_op(spec.op);
        for (int input : spec.inputs)
            if (input < 0 || size_t(input) >= i)
                throw Error(Status::invalid_argument, spec.name + ": input " + std::to_string(input));
        for (int param : spec.params)
            if (param < 0 || size_t(param) >= params.size())
                throw Error(Status::invalid_argument, spec.name + ": parameter " + std::to_string(param));
        if (spec.shape.empty()) throw Error(Status::unsupported, spec.name + ": a value needs an axis");
        Node node{&op,      spec.name, spec.inputs, spec.params, spec.numbers, spec.shape, 1, spec.shape.back(), false, int(i),
                  false};
        node.groups = product_of(spec.shape, spec.shape.size(), spec.name) / node.width;
        if (spec.op == "input") node.integer = !spec.numbers.empty() && spec.numbers[0] != 0;
        node.trains = wishes.input_gradients && spec.op == "input" && !node.integer;
        for (int param : spec.params) node.trains = node.trains || params[size_t(param)].learns();
        for (int input : spec.inputs) node.trains = node.trains || nodes[size_t(input)].trains;
        if (op.alias) node.root = nodes[size_t(spec.inputs[0])].root;
        if (spec.op == "input") inputs.push_back(int(i));
        if (spec.op == "output") outputs.push_back(int(i));
        narrow = narrow || node.groups > 1;
        if (op.prepare) op.prepare(*this, node);
        nodes.push_back(std::move(node));
    }
    join_relus(wishes.touched);
    join_gates(wishes.touched);
    place_gradients();
}

// What learns lies in a block of gradients as in the weights; behind it is room for what ops write for parameters
// that do not learn beside one that does.
void Plan::place_gradients() {
    std::vector<Param*> order;
    for (Param& param : params) order.push_back(&param);
    std::stable_sort(order.begin(), order.end(), [](const Param* a, const Param* b) { return a->offset < b->offset; });
    for (Param* param : order) {
        if (!param->learns()) continue;
        param->gradient = learned_floats;
        learned_floats += param->floats();
        if (!segments.empty() && segments.back().matrix == param->matrix &&
            segments.back().weight + segments.back().floats == param->offset)
            segments.back().floats += param->floats();
        else
            segments.push_back({param->offset, param->gradient, param->floats(), param->matrix});
    }
    gradient_floats = learned_floats;
    std::vector<char> beside(params.size());
    for (const Node& node : nodes)
        if (std::any_of(node.params.begin(), node.params.end(), [&](int p) { return params[size_t(p)].learns(); }))
            for (int p : node.params) beside[size_t(p)] = 1;
    for (size_t p = 0; p < params.size(); ++p) {
        if (params[p].learns() || !beside[p]) continue;
        params[p].gradient = gradient_floats;
        gradient_floats += params[p].floats();
    }
}

// How many times the value of each node is read.
std::vector<int> Plan::readers() const {
    std::vector<int> count(nodes.size());
    for (const Node& node : nodes)
        for (int input : node.inputs) ++count[size_t(input)];
    return count;
}

// SwiGLU and its like: the activation keeps no value, slope or gradient of its own.
void Plan::join_gates(const std::vector<int>& touched) {
    const std::vector<int> count = readers();
    for (Node& node : nodes) {
        if (std::string(node.op->name) != "mul" || node.inputs.size() != 2) continue;
        for (int which = 0; which < 2 && node.gate < 0; ++which) {
            const int input = node.inputs[size_t(which)];
            Node& active = nodes[size_t(input)];
            if (unary_kind(active.op->name) < 0 || active.in_place || count[size_t(input)] != 1) continue;
            if (std::find(touched.begin(), touched.end(), input) != touched.end()) continue;
            node.gate = which, active.joined = true;
            active.root = nodes[size_t(active.inputs[0])].root;
        }
    }
}

void Plan::join_relus(const std::vector<int>& touched) {
    const std::vector<int> count = readers();
    for (Node& node : nodes) {
        if (std::string(node.op->name) != "relu") continue;
        Node& source = nodes[size_t(node.inputs[0])];
        if (std::string(source.op->name) != "dense" || count[size_t(node.inputs[0])] != 1) continue;
        if (std::find(touched.begin(), touched.end(), node.inputs[0]) != touched.end()) continue;
        source.relu = node.in_place = true;
        node.root = node.inputs[0];
    }
    for (Node& node : nodes) node.root = nodes[size_t(node.root)].root;  // aliases of those relus
}

// The first dense in the order of backward lays out what others read too.
void Flow::share_panels(const Plan& plan, int dense) {
    auto source = [&](int i) -> const Node& { return plan.nodes[size_t(plan.nodes[size_t(i)].inputs[0])]; };
    panels[size_t(dense)] = dense;
    for (size_t other = plan.nodes.size(); other-- > size_t(dense) + 1;)
        if (panels[other] == int(other) && source(int(other)).root == source(dense).root &&
            source(int(other)).width == source(dense).width)
            panels[size_t(dense)] = int(other);
}

Flow::Flow(const Plan& plan, std::vector<LossSpec>& losses)
    : forward(plan.nodes.size()),
      backward(plan.nodes.size()),
      learns(plan.nodes.size()),
      has_gradient(plan.nodes.size()),
      gated(plan.nodes.size()),
      panels(plan.nodes.size(), -1) {
    std::vector<int> readers = plan.readers();
    for (LossSpec& loss : losses) {
        ++readers[size_t(loss.node)];
        const size_t root = size_t(plan.nodes[size_t(loss.node)].root);
        forward[size_t(loss.node)] = 1;
        loss.accumulate = has_gradient[root];
        has_gradient[root] = plan.nodes[root].trains;
    }
    std::vector<char> touched(plan.params.size());
    accumulate.resize(plan.nodes.size());
    accumulate_params.resize(plan.nodes.size());
    for (size_t i = plan.nodes.size(); i-- > 0;) {
        const Node& node = plan.nodes[i];
        if (!forward[i]) continue;
        for (int input : node.inputs) forward[size_t(input)] = 1;
        accumulate[i].resize(node.inputs.size());
        if (node.op->alias || !has_gradient[size_t(node.root)]) continue;
        if (node.joined) continue;
        backward[i] = !(node.in_place && gated[i]);  // gated: by the dense that reads it
        if (node.in_place) continue;
        for (int param : node.params) learns[i] = learns[i] || plan.params[size_t(param)].learns();
        if (std::string(node.op->name) == "dense" && plan.params[size_t(node.params[0])].learns())
            share_panels(plan, int(i));
        for (int param : node.params) {
            accumulate_params[i].push_back(touched[size_t(param)]);
            touched[size_t(param)] = 1;
        }
        for (size_t j = 0; j < node.inputs.size(); ++j) {
            const size_t root = size_t(plan.nodes[size_t(node.inputs[j])].root);
            if (!plan.nodes[root].trains) continue;
            accumulate[i][j] = has_gradient[root];
            has_gradient[root] = 1;
            const size_t input = size_t(node.inputs[j]);
            if (std::string(node.op->name) == "dense" && plan.nodes[input].in_place && readers[input] == 1)
                gated[i] = gated[input] = 1;
        }
    }
}

}  // namespace alexandra
