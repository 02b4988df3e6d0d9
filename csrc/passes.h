// Runs the phases of a schedule over one batch.
#pragma once

#include <algorithm>
#include <cmath>

#include "ops.h"
#include "pool.h"
#include "schedule.h"

namespace alexandra {

void forward_nodes(const Pass& pass, int first, int last, Blocks blocks);
void backward_nodes(const Pass& pass, int first, int last, Blocks blocks);
// One action of a phase by parts.
void share(const Pass& pass, const Action& action, Part part);
// What gates and the like add to the loss.
double penalties(const Pass& pass);
// Parameters that follow statistics of the batch instead of a gradient take a step.
void learn(const Pass& pass, float* weights);

// visit(blocks) for a thread's share of the batch: whole blocks where they come out even, else pieces of them.
template <typename Visit>
void each_share(const Pass& pass, int threads, int pieces, Part part, const Visit& visit) {
    if (pieces == 1 || pass.blocks() % threads == 0) {
        const auto [begin, end] = part.of(pass.blocks());
        if (begin < end) visit({begin, end, part.index});
        return;
    }
    const auto [begin, end] = part.of(pass.blocks() * pieces);
    for (int at = begin; at < end;) {
        const int block = at / pieces, from = at % pieces, to = std::min(pieces, from + end - at);
        visit({block, block + 1, part.index, from, to});
        at += to - from;
    }
}

// Forward, losses, backward and gradients. `gather(blocks)` fills inputs and targets, `losses(blocks)` does the
// losses, `total()` gives the loss (with penalties) once they are known; the pass ends there when it is not finite.
template <typename Gather, typename Losses, typename Total>
double run_batch(Pool& pool, const Pass& pass, const Schedule& schedule, const Gather& gather, const Losses& losses,
                 const Total& total) {
    double loss = 0;
    for (const Phase& phase : schedule.phases) {
        pool.split([&](Part part) {
            if (!phase.by_blocks) {
                for (const Action& action : phase.actions) share(pass, action, part);
                return;
            }
            each_share(pass, pool.threads(), phase.pieces, part, [&](Blocks blocks) {
                for (const Action& action : phase.actions) {
                    if (action.act == Act::gather) gather(blocks);
                    if (action.act == Act::forward) forward_nodes(pass, action.first, action.last, blocks);
                    if (action.act == Act::losses) losses(blocks);
                    if (action.act == Act::backward) backward_nodes(pass, action.first, action.last, blocks);
                }
            });
        });
        if (!phase.ends_forward) continue;
        loss = total();
        if (!std::isfinite(loss)) return loss;
    }
    return loss;
}

}  // namespace alexandra
