#include "network.h"

#include <algorithm>

#include "allocations.h"
#include "dispatch.h"
#include "float_mode.h"

namespace alexandra {

Engine::Engine(Weights given, int threads, const std::string& isa)
    : weights(std::move(given)), kernels(choose_kernels(isa)), pool(threads) {
    if (threads < 1 || threads > 256)
        throw Error(Status::invalid_argument, "threads must be 1 .. 256, got " + std::to_string(threads));
    pool.start();
}

void fill_slab(const Kernels& kernels, const Rows& source, const int32_t* index, int64_t first, int count, int lanes,
               float* slab) {
    const float* rows[kPanel];
    const float* data = static_cast<const float*>(source.data);
    for (int lane = 0; lane < count; ++lane)
        rows[lane] = data + (index ? int64_t(index[lane]) : first + lane) * source.features;
    kernels.slab_from_rows(source.features, lanes, count, rows, slab);
}

Network::Network(std::shared_ptr<Engine> engine, const std::vector<NodeSpec>& nodes, int max_rows)
    : engine_(std::move(engine)),
      plan_(nodes, engine_->weights),
      layout_(plan_, (max_rows + engine_->pool.threads() - 1) / engine_->pool.threads()),
      arena_(layout_.floats * size_t(engine_->pool.threads())),
      generation_(engine_->weights.generation()) {}

void Network::forward(const std::vector<Rows>& inputs, const std::vector<float*>& outputs) {
    const std::lock_guard lock(engine_->busy);
    if (generation_ != engine_->weights.generation())
        throw Error(Status::invalid_argument, "the weights have moved since this network was planned");
    const FlushSubnormals mode;
    const CountAllocations nothing;
    const int64_t rows = inputs[0].rows;
    for (int64_t first = 0; first < rows; first += max_rows()) {
        const int count = int(std::min<int64_t>(rows - first, max_rows()));
        engine_->pool.split([&](Part part) {
            const auto [begin, end] = part.of(count, layout_.lanes);
            if (begin < end) forward_part(inputs, outputs, first + begin, end - begin, part.index);
        });
    }
}

// Values share memory by liveness, and threads go at their own pace: each has an arena of its own.
void Network::forward_part(const std::vector<Rows>& inputs, const std::vector<float*>& outputs, int64_t first, int rows,
                           int thread) {
    const Pass pass{plan_,   engine_->kernels, layout_, arena_.data() + size_t(thread) * layout_.floats,
                    engine_->weights.values(), nullptr, nullptr, nullptr, 0, rows};
    const int lanes = layout_.lanes;
    for (size_t j = 0; j < inputs.size(); ++j)
        for (int row = 0; row < rows; row += lanes)
            fill_slab(pass.kernels, inputs[j], nullptr, first + row, std::min(lanes, rows - row), lanes,
                      pass.value(plan_.inputs[j], row / lanes));
    for (size_t i = 0; i < plan_.nodes.size(); ++i) plan_.nodes[i].op->forward(pass, int(i), {0, pass.blocks()});
    for (size_t j = 0; j < outputs.size(); ++j) {
        const int node = plan_.outputs[j], features = plan_.nodes[size_t(node)].features();
        for (int row = 0; row < rows; row += lanes)
            pass.kernels.rows_from_slab(features, lanes, std::min(lanes, rows - row), pass.value(node, row / lanes),
                                        outputs[j] + (first + row) * features, features);
    }
}

}  // namespace alexandra
