#include "footprint.h"

#include <algorithm>

#include "schedule.h"

namespace alexandra {

Footprint footprint(const std::vector<ParamSpec>& params, const std::vector<NodeSpec>& nodes, const Program& program,
                    std::vector<LossSpec> losses, int64_t rows, int threads, int max_rows) {
    if (rows < 1 || program.batch_size < 1 || threads < 1 || max_rows < 1)
        throw Error(Status::invalid_argument, "rows, batch_size, threads and max_rows must be at least 1");
    const Weights weights = Weights::outline(params);
    const Layout inference(Plan(nodes, weights), (max_rows + threads - 1) / threads);
    const Plan plan(nodes, weights, program.wishes);
    const Flow flow(plan, losses);
    const Schedule schedule(plan, flow, program.checkpoint);
    const int batch = int(std::min<int64_t>(rows, program.batch_size));
    const Layout layout(plan, flow, losses, schedule, batch, threads);
    return {
        .weights = weights.floats(),
        .inference = round_up(inference.floats * size_t(threads), 16),
        .arena = round_up(layout.floats, 16) + size_t(rows) + program.num_norms(plan) +
                 Muon::planned(plan, program.muon, threads),
        .gradients = plan.gradient_floats,
        .moments = plan.learned_floats * size_t(program.num_moments()),
    };
}

}  // namespace alexandra
