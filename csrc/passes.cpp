#include "passes.h"

#include <algorithm>

namespace alexandra {

namespace {

bool runs(const Pass& pass, int node, bool backward) {
    if (backward) return pass.flow->backward[size_t(node)];
    return !pass.flow || pass.flow->forward[size_t(node)];
}

// Nodes begin .. end - 1 may go a few groups at a time, which stay near from node to node: what a node reads and writes
// fits the second-level cache, and large weights are brought into tiles once a chunk.
constexpr size_t kCached = size_t(1) << 20;  // floats of a run of nodes that one chunk of groups has
int chunk_of(const Pass& pass, int begin, int end) {
    size_t floats = 0;
    for (int i = begin; i < end; ++i) floats += size_t(pass.plan.nodes[size_t(i)].width) * size_t(pass.lanes());
    const size_t fit = floats ? kCached / floats & ~size_t(1) : 64;
    return int(fit < 8 ? 8 : fit > 64 ? 64 : fit);
}

// visit(node, blocks) for nodes begin .. end - 1, forward or from the last, as one run of groups or one by one.
template <typename Visit>
void visit_run(const Pass& pass, int begin, int end, bool backward, Blocks blocks, const Visit& visit) {
    auto all = [&](Blocks part) {
        for (int k = begin; k < end; ++k)
            if (const int i = backward ? begin + end - 1 - k : k; runs(pass, i, backward)) visit(i, part);
    };
    const int groups = pass.plan.nodes[size_t(begin)].groups, chunk = chunk_of(pass, begin, end);
    const int first = blocks.to < 0 ? 0 : blocks.from, last = blocks.to < 0 ? groups : blocks.to;
    if (end - begin < 2 || last - first <= chunk) return all(blocks);
    for (int block = blocks.first; block < blocks.last; ++block)
        for (int from = first; from < last; from += chunk)
            all({block, block + 1, blocks.thread, from, std::min(from + chunk, last)});
}

}  // namespace

bool follows_by_group(const Plan& plan, int node) {
    if (node == 0) return false;
    const Node &a = plan.nodes[size_t(node - 1)], &b = plan.nodes[size_t(node)];
    return a.groups > 1 && a.groups == b.groups && (a.op->reads & b.op->reads & kByGroup);
}

void forward_nodes(const Pass& pass, int first, int last, Blocks blocks) {
    for (int begin = first, end; begin < last; begin = end) {
        for (end = begin + 1; end < last && follows_by_group(pass.plan, end);) ++end;
        visit_run(pass, begin, end, false, blocks,
                  [&](int i, Blocks part) { pass.plan.nodes[size_t(i)].op->forward(pass, i, part); });
    }
}

void backward_nodes(const Pass& pass, int first, int last, Blocks blocks) {
    for (int end = last, begin; end > first; end = begin) {
        for (begin = end - 1; begin > first && follows_by_group(pass.plan, begin);) --begin;
        visit_run(pass, begin, end, true, blocks,
                  [&](int i, Blocks part) { pass.plan.nodes[size_t(i)].op->backward(pass, i, part); });
    }
}

void share(const Pass& pass, const Action& action, Part part) {
    for (int i = action.last; i-- > action.first;) {
        const Op& op = *pass.plan.nodes[size_t(i)].op;
        if (action.act == Act::join_forward) op.join_forward(pass, i, part);
        if (action.act == Act::join_backward) op.join_backward(pass, i, part);
        if (action.act == Act::gradients && op.gradients && pass.flow->learns[size_t(i)]) op.gradients(pass, i, part);
    }
}

namespace {

// Whether the program froze what follows the batch.
bool held(const Pass& pass, size_t node) {
    for (int p : pass.plan.nodes[node].params)
        if (const Param& param = pass.plan.params[size_t(p)]; !param.trained && param.held) return true;
    return false;
}

}  // namespace

double penalties(const Pass& pass) {
    double sum = 0;
    for (size_t i = 0; i < pass.plan.nodes.size(); ++i)
        if (const Op& op = *pass.plan.nodes[i].op; op.penalty && pass.flow->forward[i]) sum += op.penalty(pass, int(i));
    return sum;
}

void learn(const Pass& pass, float* weights) {
    for (size_t i = 0; i < pass.plan.nodes.size(); ++i)
        if (const Op& op = *pass.plan.nodes[i].op; op.learn && pass.flow->forward[i] && !held(pass, i))
            op.learn(pass, int(i), weights);
}

}  // namespace alexandra
