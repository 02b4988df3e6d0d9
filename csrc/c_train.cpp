// alexandra_train: a program from C, checked, with the losses at the heads of the network.

#include <cmath>

#include "alexandra.h"
#include "c_model.h"

#if !ALEXANDRA_INFERENCE_ONLY

#include "c_train.h"
#include "hashes.h"

namespace alexandra {

namespace {

void within(const char* what, double value, double low, bool below_one) {
    if (std::isfinite(value) && value >= low && (!below_one || value < 1)) return;
    throw Error(Status::invalid_argument, std::string(what) + " must be " + (below_one ? "in [0, 1)" : "a number >= 0") +
                                              ", got " + std::to_string(value));
}

void at_least_one(const char* what, int64_t value) {
    if (value < 1) throw Error(Status::invalid_argument, std::string(what) + " must be at least 1, got " + std::to_string(value));
}

void one_of(const char* what, int value, int count) {
    if (value < 0 || value >= count)
        throw Error(Status::invalid_argument, std::string(what) + " must be 0 .. " + std::to_string(count - 1) + ", got " + std::to_string(value));
}

void check(const alexandra_program& p) {
    one_of("objective", p.objective, 2);
    one_of("optimizer", p.optimizer, 3);
    one_of("decay", p.decay, 5);
    within("label_smoothing", p.label_smoothing, 0, true);
    within("lr", p.lr, 0, false);
    within("beta1", p.beta1, 0, true);
    within("beta2", p.beta2, 0, true);
    within("momentum", p.momentum, 0, true);
    within("eps", p.eps, 0, false);
    within("weight_decay", p.weight_decay, 0, false);
    within("l1", p.l1, 0, false);
    within("clip_norm", p.clip_norm, 0, false);
    within("warmup_steps", double(p.warmup_steps), 0, false);
    within("total_steps", double(p.total_steps), 0, false);
    at_least_one("batch_size", p.batch_size);
    at_least_one("accumulate", p.accumulate);
    at_least_one("every", p.every);
}

Program program_of(const CModel& m, const alexandra_program& p) {
    Program program;
    program.optimizer = Optimizer(int(p.optimizer));
    program.lr = p.lr, program.beta1 = p.beta1, program.beta2 = p.beta2, program.eps = p.eps;
    program.weight_decay = p.weight_decay, program.momentum = p.momentum, program.l1 = p.l1;
    program.decay = Decay(int(p.decay));
    program.warmup_steps = p.warmup_steps, program.total_steps = p.total_steps, program.every = p.every;
    program.final_factor = p.final_factor, program.decay_factor = p.decay_factor;
    program.batch_size = p.batch_size, program.accumulate = p.accumulate;
    program.clip_norm = p.clip_norm, program.shuffle = p.shuffle != 0;
    program.order = derive(p.seed, "shuffle");
    bool noisy = false;
    for (const NodeSpec& node : m.description.nodes)
        noisy = noisy || node.op == "dropout" || (node.op == "top_k_gate" && node.numbers[6] > 0);
    for (const NodeSpec& node : m.description.nodes)
        if (noisy) program.dropouts.push_back(derive(p.seed, node.op == "top_k_gate" ? "jitter" : "dropout", node.name));
    return program;
}

void check_target(const Node& node, const LossSpec& spec, const void* target, int64_t rows) {
    const int64_t count = rows * target_features(spec, node);
    for (int64_t i = 0; i < count; ++i) {
        if (spec.kind == LossKind::cross_entropy) {
            const int32_t c = static_cast<const int32_t*>(target)[i];
            if (c < 0 || c >= node.width)
                throw Error(Status::invalid_argument, "the target of '" + node.name + "' holds class " + std::to_string(c) +
                                                          ", the output has 0 .. " + std::to_string(node.width - 1));
        } else if (spec.kind == LossKind::binary_cross_entropy) {
            const float t = static_cast<const float*>(target)[i];
            if (t != 0 && t != 1)
                throw Error(Status::invalid_argument, "the target of '" + node.name + "' holds " + std::to_string(t) +
                                                          ", allowed are 0 and 1 before a sigmoid");
        }
    }
}

}  // namespace

void train(CModel& m, const alexandra_program& given, std::vector<Rows> inputs, const void* const* targets) {
    check(given);
    m.own();
    std::vector<LossData> losses;
    for (size_t i = 0; i < m.outputs.size(); ++i) {
        const Head* head = nullptr;
        for (const Head& h : m.description.heads)
            if (h.output == m.outputs[i]) head = &h;
        LossSpec spec{.kind = LossKind::squared_error, .node = m.outputs[i]};
        if (given.objective == ALEXANDRA_CROSS_ENTROPY) {
            if (!head) throw Error(Status::invalid_argument, "the plan names no head of output '" + m.node(m.outputs[i]).name + "'");
            spec.kind = head->sigmoid ? LossKind::binary_cross_entropy : LossKind::cross_entropy;
            spec.node = head->logits;
            spec.smoothing = float(given.label_smoothing);
        }
        const Node& node = m.node(spec.node);
        if (spec.kind == LossKind::cross_entropy && node.width < 2)
            throw Error(Status::invalid_argument, "output '" + m.node(m.outputs[i]).name + "' has one value: nothing to choose from");
        check_target(node, spec, targets[i], inputs[0].rows);
        losses.push_back({spec, {targets[i], inputs[0].rows, target_features(spec, node)}});
    }
    m.trainer.reset();
    m.trainer = std::make_unique<Trainer>(m.engine, m.description.nodes, program_of(m, given), std::move(inputs), std::move(losses));
}

}  // namespace alexandra

#endif
