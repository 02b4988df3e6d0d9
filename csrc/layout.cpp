// Where everything lies in the arena: buffers that are never needed at the same time share memory.

#include <algorithm>

#include "ops.h"
#include "schedule.h"

namespace alexandra {

namespace {

int lanes_for(int max_rows) { return max_rows <= 16 ? 16 : 32; }

struct Span {
    int first, last;  // phases, both included
};

// A buffer is alive from each write to the last read that follows it.
struct Buffer {
    size_t size = 0;
    size_t* slot = nullptr;
    std::vector<Span> live;

    void write(int time) {
        if (live.empty() || live.back().last < time) live.push_back({time, time});
    }
    // One span from the first touch to the last.
    void touch(int time) {
        if (live.empty()) live.push_back({time, time});
        read(time);
    }
    void read(int time) {
        if (!live.empty()) live.back().last = std::max(live.back().last, time);
    }
    bool meets(const Buffer& other) const {
        for (const Span& a : live)
            for (const Span& b : other.live)
                if (a.first <= b.last && b.first <= a.last) return true;
        return false;
    }
};

// Gives each buffer its offset: the largest first, each at the lowest place that is free while it lives.
size_t place(std::vector<Buffer>& buffers) {
    size_t floats = 0;
    std::vector<const Buffer*> order, placed;
    for (const Buffer& buffer : buffers)
        if (buffer.size && !buffer.live.empty()) order.push_back(&buffer);
    std::stable_sort(order.begin(), order.end(), [](const Buffer* a, const Buffer* b) { return a->size > b->size; });
    for (const Buffer* buffer : order) {
        size_t offset = 0;
        for (const Buffer* other : placed) {  // by offset
            if (!buffer->meets(*other)) continue;
            if (offset + buffer->size <= *other->slot) break;
            offset = std::max(offset, *other->slot + other->size);
        }
        *buffer->slot = offset;
        floats = std::max(floats, offset + buffer->size);
        placed.insert(std::upper_bound(placed.begin(), placed.end(), buffer,
                                       [](const Buffer* a, const Buffer* b) { return *a->slot < *b->slot; }),
                      buffer);
    }
    return floats;
}

// Which phases of training write and read what.
struct Lives {
    const Plan& plan;
    const Flow& flow;
    std::vector<Buffer> value, gradient, saved;

    Lives(const Plan& p, const Flow& f)
        : plan(p), flow(f), value(p.nodes.size()), gradient(p.nodes.size()), saved(p.nodes.size()) {}

    size_t root(int node) const { return size_t(plan.nodes[size_t(node)].root); }

    void forward(int i, int time) {
        const Node& node = plan.nodes[size_t(i)];
        if (!flow.forward[size_t(i)]) return;
        for (int input : node.inputs) value[root(input)].read(time);
        if (!node.inputs.empty()) value[root(i)].write(time);
        if (node.op->reads & kLate) return;
        saved[size_t(i)].write(time);
    }

    void backward(int i, int time) {
        const Node& node = plan.nodes[size_t(i)];
        if (!flow.backward[size_t(i)]) return;
        if (node.op->reads & kOutput) value[root(i)].read(time);
        if (node.op->reads & kLate) saved[size_t(i)].write(time);
        saved[size_t(i)].read(time);
        gradient[root(i)].read(time);
        for (int input : node.inputs) {
            if (node.op->reads & kInputs) value[root(input)].read(time);
            if (flow.has_gradient[root(input)]) gradient[root(input)].touch(time);
        }
    }

    void gradients(int i, int time) {
        const Node& node = plan.nodes[size_t(i)];
        if (!flow.learns[size_t(i)] || !node.op->gradients) return;
        if (node.op->reads & kOutput) value[root(i)].read(time);
        if (node.op->reads & kInputs)
            for (int input : node.inputs) value[root(input)].read(time);
        saved[size_t(flow.panels[size_t(i)] < 0 ? i : flow.panels[size_t(i)])].read(time);
        gradient[root(i)].read(time);
    }

    void losses(const std::vector<LossSpec>& specs, int time) {
        for (const LossSpec& spec : specs) {
            value[root(spec.node)].read(time);
            if (flow.has_gradient[root(spec.node)]) gradient[root(spec.node)].touch(time);
        }
    }

    void walk(const Schedule& schedule, const std::vector<LossSpec>& specs) {
        for (size_t time = 0; time < schedule.phases.size(); ++time)
            for (const Action& action : schedule.phases[time].actions) visit(action, specs, int(time));
        for (int input : plan.inputs)  // the caller reads them
            if (flow.has_gradient[size_t(input)]) gradient[size_t(input)].read(int(schedule.phases.size()));
        // What a gate adds to the loss and what a statistic leaves behind are read at the very end.
        for (size_t i = 0; i < plan.nodes.size(); ++i)
            if (plan.nodes[i].op->penalty || plan.nodes[i].op->learn) saved[i].read(int(schedule.phases.size()));
    }

    void visit(const Action& action, const std::vector<LossSpec>& specs, int time) {
        if (action.act == Act::losses) return losses(specs, time);
        if (action.act == Act::gather)
            for (int input : plan.inputs) value[size_t(input)].write(time);
        if (action.act == Act::forward)
            for (int i = action.first; i < action.last; ++i) forward(i, time);
        if (action.act == Act::backward || action.act == Act::join_backward)
            for (int i = action.last; i-- > action.first;) backward(i, time);
        if (action.act == Act::gradients)
            for (int i = action.last; i-- > action.first;) gradients(i, time);
        if (action.act == Act::join_forward)
            for (int input : plan.nodes[size_t(action.first)].inputs) value[root(input)].read(time);
    }
};

}  // namespace

size_t Layout::take(size_t count) {
    const size_t at = floats;
    floats += round_up(count, 16);
    return at;
}

// Targets and weights of each loss, and the loss of each row.
void Layout::take_losses(const Plan& plan, const std::vector<LossSpec>& losses) {
    const size_t rows = size_t(capacity());
    for (const LossSpec& loss : losses) {
        const Node& node = plan.nodes[size_t(loss.node)];
        target.push_back(take(rows * size_t(target_features(loss, node))));
        weight.push_back(loss.weighted ? take(rows * size_t(loss_terms(loss, node))) : kNowhere);
    }
    loss = losses.empty() ? kNowhere : take(rows);
}

void Layout::take_fixed(const Plan& plan, bool training, int threads) {
    batch.assign(plan.nodes.size(), kNowhere);
    size_t most = 0;
    for (size_t i = 0; i < plan.nodes.size(); ++i) {
        const Node& node = plan.nodes[i];
        if (training && node.op->batch) batch[i] = take(node.op->batch(plan, node));
        if (node.op->scratch) most = std::max(most, node.op->scratch(plan, node, training, lanes));
    }
    scratch_floats = round_up(most, 16);
    scratch = take(scratch_floats * size_t(threads));
}

Layout::Layout(const Plan& plan, const Flow& flow, const std::vector<LossSpec>& losses, const Schedule& schedule,
               int max_rows, int threads)
    : lanes(plan.narrow ? 16 : lanes_for(max_rows)), blocks((max_rows + lanes - 1) / lanes) {
    const size_t n = plan.nodes.size(), rows = size_t(capacity());
    value.assign(n, kNowhere), gradient.assign(n, kNowhere), saved.assign(n, kNowhere);
    Lives lives(plan, flow);
    lives.walk(schedule, losses);
    std::vector<Buffer> buffers;
    auto keep = [&](Buffer& buffer, size_t per_row, size_t& slot) {
        buffer.size = per_row * rows, buffer.slot = &slot;
        buffers.push_back(buffer);
    };
    for (size_t i = 0; i < n; ++i) {
        const Node& node = plan.nodes[i];
        if (!flow.forward[i]) continue;
        if (size_t(node.root) == i) {
            keep(lives.value[i], size_t(node.features()), value[i]);
            if (flow.has_gradient[i]) keep(lives.gradient[i], size_t(node.features()), gradient[i]);
        }
        const bool shares = flow.panels[i] >= 0 && flow.panels[i] != int(i);
        if (!node.in_place && !node.joined && !shares) keep(lives.saved[i], node.op->saved(plan, node, true), saved[i]);
    }
    floats = place(buffers);
    for (size_t i = 0; i < n; ++i)
        value[i] = value[size_t(plan.nodes[i].root)], gradient[i] = gradient[size_t(plan.nodes[i].root)];
    take_losses(plan, losses);
    take_fixed(plan, true, threads);
}

Layout::Layout(const Plan& plan, int max_rows, const std::vector<LossSpec>& losses)
    : lanes(plan.narrow ? 16 : lanes_for(max_rows)), blocks((max_rows + lanes - 1) / lanes) {
    const size_t n = plan.nodes.size(), rows = size_t(capacity());
    value.assign(n, kNowhere), saved.assign(n, kNowhere), gradient.assign(n, kNowhere);
    std::vector<Buffer> buffers(2 * n);
    for (size_t i = 0; i < n; ++i) {
        const Node& node = plan.nodes[i];
        Buffer& own = buffers[size_t(node.root)];
        if (size_t(node.root) == i) own.size = size_t(node.features()) * rows, own.slot = &value[i], own.write(int(i));
        for (int input : node.inputs) buffers[size_t(plan.nodes[size_t(input)].root)].read(int(i));
        if (std::string(node.op->name) == "output") own.read(int(n));
        if (std::string(node.op->name) == "input") own.live = {{0, int(i)}};  // inputs are all there at the start
        Buffer& scratch = buffers[n + i];
        scratch.size = node.op->saved(plan, node, false) * rows, scratch.slot = &saved[i];
        scratch.write(int(i));
    }
    for (const LossSpec& loss : losses) buffers[size_t(plan.nodes[size_t(loss.node)].root)].read(int(n));
    floats = place(buffers);
    for (size_t i = 0; i < n; ++i) value[i] = value[size_t(plan.nodes[i].root)];
    take_losses(plan, losses);
    take_fixed(plan, false, 1);
}

}  // namespace alexandra
