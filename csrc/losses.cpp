#include "losses.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "float_mode.h"

namespace alexandra {

std::vector<LossSpec> specs_of(const std::vector<LossData>& losses) {
    std::vector<LossSpec> specs;
    for (const LossData& loss : losses) specs.push_back(loss.spec);
    return specs;
}

LossScale scale_of(const LossData& data, const Node& node, const RowRange& rows) {
    const LossSpec& spec = data.spec;
    const int terms = loss_terms(spec, node);
    const double t = double(spec.temperature);
    const bool soft = spec.kind == LossKind::divergence || spec.kind == LossKind::binary_divergence;
    const double of_loss = soft ? t * t : 1.0, of_gradient = soft ? t : 1.0;
    if (spec.norm == Norm::count)
        return {float(of_loss / terms), float(of_gradient / (double(terms) * double(rows.count)))};
    double norm = spec.constant;
    if (spec.norm == Norm::weights) {
        bool any = false;
        norm = 0;
        for (int64_t i = 0; i < rows.count; ++i) {
            const float* weights = static_cast<const float*>(data.weights.data) + rows.row(i) * data.weights.features;
            for (int k = 0; k < data.weights.features; ++k) norm += double(weights[k]), any = any || weights[k] != 0;
        }
        if (!any) return {0, 0};
        if (norm <= 0) norm = std::numeric_limits<double>::quiet_NaN();
    }
    return {float(of_loss * double(rows.count) / norm), float(of_gradient / norm)};
}

void gather_targets(const Pass& pass, const std::vector<LossData>& losses, const RowRange& rows, int block) {
    const int lanes = pass.lanes(), count = std::min(lanes, pass.rows - block * lanes);
    const int32_t* index = rows.index ? rows.index + rows.first + block * lanes : nullptr;
    const int64_t first = index ? 0 : rows.first + block * lanes;
    for (size_t j = 0; j < losses.size(); ++j) {
        const LossData& loss = losses[j];
        auto fill = [&](const Rows& source, size_t at) {
            fill_slab(pass.kernels, source, index, first, count, lanes,
                      pass.arena + at + size_t(block) * size_t(source.features * lanes));
        };
        fill(loss.targets, pass.layout.target[j]);
        if (loss.spec.weighted) fill(loss.weights, pass.layout.weight[j]);
    }
}

namespace {

void call_kernel(const Kernels& kernels, LossKind kind, const LossCall& call) {
    const size_t n = size_t(call.shape.groups) * size_t(call.shape.width) * size_t(call.shape.lanes);
    if (kind == LossKind::cross_entropy) kernels.cross_entropy(call);
    if (kind == LossKind::binary_cross_entropy) kernels.binary_cross_entropy(call);
    if (kind == LossKind::squared_error) kernels.squared_error(call);
    if (kind == LossKind::divergence) kernels.divergence(call);
    if (kind == LossKind::binary_divergence) kernels.binary_divergence(call);
    if (kind == LossKind::given && call.dx) kernels.copy(n, call.targets, call.dx, call.accumulate);
}

}  // namespace

void block_losses(const Pass& pass, const std::vector<LossData>& losses, const std::vector<LossScale>& scales,
                  int block) {
    const int lanes = pass.lanes();
    float* loss = pass.arena + pass.layout.loss + block * lanes;
    std::memset(loss, 0, size_t(lanes) * sizeof(float));
    for (size_t j = 0; j < losses.size(); ++j) {
        const LossSpec& spec = losses[j].spec;
        const Node& node = pass.plan.nodes[size_t(spec.node)];
        const float* target = pass.arena + pass.layout.target[j] + size_t(block) * size_t(losses[j].targets.features * lanes);
        const float* weights = !spec.weighted ? nullptr : pass.arena + pass.layout.weight[j] +
                                                              size_t(block) * size_t(losses[j].weights.features * lanes);
        call_kernel(pass.kernels, spec.kind, {
            .shape = {node.groups, node.width, lanes},
            .rows = pass.rows - block * lanes,
            .x = pass.value(spec.node, block),
            .targets = target,
            .classes = reinterpret_cast<const int32_t*>(target),
            .weights = weights,
            .smoothing = spec.smoothing,
            .inverse_temperature = 1.0f / spec.temperature,
            .scale_loss = scales[j].loss,
            .scale_grad = scales[j].gradient,
            .dx = pass.flow ? pass.gradient(spec.node, block) : nullptr,
            .accumulate = spec.accumulate,
            .loss = loss,
        });
    }
}

void add_rows(const Pass& pass, double& sum) {
    for (int row = 0; row < pass.rows; ++row) sum += double(pass.arena[pass.layout.loss + size_t(row)]);
}

Evaluator::Evaluator(std::shared_ptr<Engine> engine, const std::vector<NodeSpec>& nodes, std::vector<Rows> inputs,
                     std::vector<LossData> losses, int max_rows)
    : engine_(std::move(engine)),
      losses_(std::move(losses)),
      plan_(nodes, engine_->weights),
      inputs_(std::move(inputs)),
      layout_(plan_, (max_rows + engine_->pool.threads() - 1) / engine_->pool.threads(), specs_of(losses_)),
      arena_(layout_.floats * size_t(engine_->pool.threads())),
      scales_(losses_.size()),
      rows_(size_t(layout_.capacity() * engine_->pool.threads())) {}

double Evaluator::loss() {
    const int64_t rows = inputs_[0].rows;
    for (size_t j = 0; j < losses_.size(); ++j)
        scales_[j] = scale_of(losses_[j], plan_.nodes[size_t(losses_[j].spec.node)], {nullptr, 0, rows});
    double sum = 0;
    for (int64_t first = 0; first < rows; first += int64_t(rows_.size())) {
        const int count = int(std::min<int64_t>(rows - first, int64_t(rows_.size())));
        engine_->pool.split([&](Part of) {
            const auto [begin, end] = of.of(count, layout_.lanes);
            if (begin == end) return;
            part(first + begin, end - begin, of.index);
            std::memcpy(rows_.data() + begin, arena_.data() + size_t(of.index) * layout_.floats + layout_.loss,
                        size_t(end - begin) * sizeof(float));
        });
        for (int row = 0; row < count; ++row) sum += double(rows_[size_t(row)]);
    }
    return sum / double(rows);
}

void Evaluator::part(int64_t first, int rows, int thread) {
    const Pass pass{plan_,   engine_->kernels, layout_, arena_.data() + size_t(thread) * layout_.floats,
                    engine_->weights.values(), nullptr, nullptr, nullptr, 0, rows};
    const int lanes = layout_.lanes;
    for (int block = 0; block < pass.blocks(); ++block) {
        for (size_t j = 0; j < inputs_.size(); ++j)
            fill_slab(pass.kernels, inputs_[j], nullptr, first + block * lanes, std::min(lanes, rows - block * lanes),
                      lanes, pass.value(plan_.inputs[j], block));
        gather_targets(pass, losses_, {nullptr, first, rows}, block);
    }
    for (size_t i = 0; i < plan_.nodes.size(); ++i) plan_.nodes[i].op->forward(pass, int(i), {0, pass.blocks()});
    for (int block = 0; block < pass.blocks(); ++block) block_losses(pass, losses_, scales_, block);
}

}  // namespace alexandra
