#include "passes.h"

namespace alexandra {

void forward_nodes(const Pass& pass, int first, int last, Blocks blocks) {
    for (int i = first; i < last; ++i)
        if (!pass.flow || pass.flow->forward[size_t(i)]) pass.plan.nodes[size_t(i)].op->forward(pass, i, blocks);
}

void backward_nodes(const Pass& pass, int first, int last, Blocks blocks) {
    for (int i = last; i-- > first;)
        if (pass.flow->backward[size_t(i)]) pass.plan.nodes[size_t(i)].op->backward(pass, i, blocks);
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
