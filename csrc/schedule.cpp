#include "schedule.h"

#include <algorithm>
#include <cmath>

#include "ops.h"

namespace alexandra {

namespace {

// Above this many floats a row a network counts as large: a phase per node costs it nothing that shows.
constexpr size_t kLarge = 8192;

size_t floats_per_row(const Plan& plan, const Flow& flow) {
    size_t floats = 0;
    for (size_t i = 0; i < plan.nodes.size(); ++i)
        if (flow.forward[i] && size_t(plan.nodes[i].root) == i) floats += size_t(plan.nodes[i].features());
    return floats;
}

// Groups or heads of keys of every node of the phase, 1 when they are not the same for all.
int pieces_of(const Plan& plan, const Phase& phase) {
    int pieces = 0;
    for (const Action& action : phase.actions) {
        if (action.act != Act::forward && action.act != Act::backward) return 1;
        for (int i = action.first; i < action.last; ++i) {
            const Node& node = plan.nodes[size_t(i)];
            if (node.op->alias) continue;
            const unsigned reads = node.op->reads;
            const int own = reads & kByGroup ? node.groups : reads & kByHead ? int(node.numbers[1]) : 1;
            if (pieces && own != pieces) return 1;
            pieces = own;
        }
    }
    return std::max(pieces, 1);
}

}  // namespace

Schedule::Schedule(const Plan& plan, const Flow& flow, bool checkpoint) {
    const int n = int(plan.nodes.size());
    fine_ = checkpoint || floats_per_row(plan, flow) > kLarge;
    const std::vector<int> borders = checkpoint ? checkpoint_borders(plan, flow) : std::vector<int>{0, n};
    add(true, {Act::gather, 0, n});
    closed_ = fine_;
    for (size_t s = 0; s + 1 < borders.size(); ++s) forward(plan, flow, borders[s], borders[s + 1]);
    add(true, {Act::losses, 0, n});
    closed_ = fine_;
    for (size_t s = borders.size() - 1; s-- > 0;) {
        if (s + 2 < borders.size()) forward(plan, flow, borders[s], borders[s + 1]);
        backward(plan, flow, borders[s], borders[s + 1]);
    }
    if (!fine_) add(false, {Act::gradients, 0, n});
    for (Phase& phase : phases) {
        for (const Action& action : phase.actions) phase.ends_forward |= action.act == Act::losses;
        phase.pieces = pieces_of(plan, phase);
    }
}

// Joins the open phase of this kind, or opens one.
void Schedule::add(bool by_blocks, Action action) {
    if (phases.empty() || closed_ || phases.back().by_blocks != by_blocks) phases.push_back({by_blocks, {}});
    phases.back().actions.push_back(action);
    closed_ = !by_blocks;
}

void Schedule::forward(const Plan& plan, const Flow& flow, int first, int last) {
    int begin = first;
    for (int i = first; i < last; ++i) {
        const Op& op = *plan.nodes[size_t(i)].op;
        if (op.join_forward && flow.forward[size_t(i)]) {
            if (begin < i) add(true, {Act::forward, begin, i});
            add(false, {Act::join_forward, i, i + 1});
            begin = i;
        }
        if (!fine_ || op.alias || (i + 1 < last && follows_by_group(plan, i + 1))) continue;
        add(true, {Act::forward, begin, i + 1});
        begin = i + 1, closed_ = true;
    }
    if (begin < last) add(true, {Act::forward, begin, last});
}

void Schedule::backward(const Plan& plan, const Flow& flow, int first, int last) {
    int end = last;
    for (int i = last; i-- > first;) {
        const Op& op = *plan.nodes[size_t(i)].op;
        if (op.join_backward && flow.backward[size_t(i)]) {
            if (i + 1 < end) add(true, {Act::backward, i + 1, end});
            add(false, {Act::join_backward, i, i + 1});
            end = i + 1;
        }
        if (!fine_ || !flow.backward[size_t(i)] || (i > first && follows_by_group(plan, i))) continue;
        add(true, {Act::backward, i, end});
        bool learns = false;
        for (int k = i; k < end; ++k) learns = learns || (plan.nodes[size_t(k)].op->gradients && flow.learns[size_t(k)]);
        if (learns) add(false, {Act::gradients, i, end});
        end = i, closed_ = true;
    }
    if (first < end) add(true, {Act::backward, first, end});
}

std::vector<int> checkpoint_borders(const Plan& plan, const Flow& flow) {
    const int n = int(plan.nodes.size());
    std::vector<int> last_use(size_t(n), -1);
    for (int i = 0; i < n; ++i)
        for (int input : plan.nodes[size_t(i)].inputs)
            if (flow.forward[size_t(i)]) last_use[size_t(plan.nodes[size_t(input)].root)] = i;
    std::vector<size_t> crossing(size_t(n) + 1);  // floats a row that a border before node i keeps
    for (int i = 0; i < n; ++i)
        for (int at = i + 1; at <= last_use[size_t(i)]; ++at) crossing[size_t(at)] += size_t(plan.nodes[size_t(i)].features());
    const int length = std::max(1, int(std::ceil(std::sqrt(double(n)))));
    std::vector<int> borders{0};
    for (;;) {
        const int from = borders.back() + std::max(1, length / 2), to = borders.back() + length + length / 2;
        if (to >= n) break;
        int best = to;
        for (int at = to; at >= from; --at)
            if (crossing[size_t(at)] < crossing[size_t(best)]) best = at;
        borders.push_back(best);
    }
    borders.push_back(n);
    return borders;
}

}  // namespace alexandra
