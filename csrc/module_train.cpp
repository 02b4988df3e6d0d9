// Training for Python: programs, trainers and evaluators, in the module alexandra._native.

#include <algorithm>
#include <optional>
#include <utility>

#include <nanobind/nanobind.h>

#include "footprint.h"
#include "module_arrays.h"

namespace alexandra {

namespace {

// kind, node, {smoothing, temperature, constant}, norm, targets, weights
using LossTuple = std::tuple<int, int, std::tuple<double, double, double>, int, Array, std::optional<Array>>;

std::vector<LossData> loss_data(const Plan& plan, const std::vector<LossTuple>& losses, int64_t rows) {
    std::vector<LossData> data;
    for (const auto& [kind, index, numbers, norm, targets, weights] : losses) {
        const Node& node = plan.nodes.at(size_t(index));
        const auto [smoothing, temperature, constant] = numbers;
        LossSpec spec{.kind = LossKind(kind), .node = index, .smoothing = float(smoothing),
                      .temperature = float(temperature), .norm = Norm(norm), .constant = constant,
                      .weighted = weights.has_value()};
        const bool classes = spec.kind == LossKind::cross_entropy;
        data.push_back({spec, rows_of(targets, target_features(spec, node), classes, "targets of " + node.name)});
        if (weights) data.back().weights = rows_of(*weights, loss_terms(spec, node), false, "weights of " + node.name);
        if (data.back().targets.rows != rows || (weights && data.back().weights.rows != rows))
            throw Error(Status::invalid_argument, "targets and inputs differ in their rows");
    }
    return data;
}

std::shared_ptr<Evaluator> make_evaluator(std::shared_ptr<Engine> engine, const std::vector<NodeTuple>& nodes,
                                          const std::vector<Array>& inputs, const std::vector<LossTuple>& losses,
                                          int max_rows) {
    const std::vector<NodeSpec> specs = node_specs(nodes);
    const Plan plan(specs, engine->weights);
    const std::vector<Rows> rows = input_rows(plan, inputs);
    std::vector<LossData> data = loss_data(plan, losses, rows.at(0).rows);
    return std::make_shared<Evaluator>(std::move(engine), specs, rows, std::move(data), max_rows);
}

std::shared_ptr<Trainer> make_trainer(std::shared_ptr<Engine> engine, const std::vector<NodeTuple>& nodes,
                                      const Program& program, const std::vector<Array>& inputs,
                                      const std::vector<LossTuple>& losses, std::shared_ptr<Evaluator> validation) {
    const std::vector<NodeSpec> specs = node_specs(nodes);
    const Plan plan(specs, engine->weights, program.wishes);
    const std::vector<Rows> rows = input_rows(plan, inputs);
    std::vector<LossData> data = loss_data(plan, losses, rows.at(0).rows);
    return std::make_shared<Trainer>(std::move(engine), specs, program, rows, std::move(data), std::move(validation));
}

// A run with the GIL released. Twenty times a second it takes the GIL to let signals (Ctrl-C) be handled and to call
// `progress(step, loss)`; an exception ends the run after a whole step and goes on to the caller.
std::pair<int64_t, int64_t> run(Trainer& trainer, Doubles losses, Doubles looks, nb::object progress) {
    const int64_t count = int64_t(losses.size());
    if (trainer.look_every() && int64_t(looks.size()) < 2 * (count / trainer.look_every() + 1))
        throw Error(Status::invalid_argument, "no room for " + std::to_string(count / trainer.look_every() + 1) + " looks");
    auto poll = [&](int64_t step, double loss) {
        const nb::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals()) return false;
        try {
            if (!progress.is_none()) progress(step, loss);
        } catch (nb::python_error& error) {
            error.restore();
            return false;
        }
        return true;
    };
    RunResult result{0, 0};
    {
        const nb::gil_scoped_release release;
        result = trainer.run(count, losses.data(), looks.data(), poll);
    }
    if (PyErr_Occurred()) throw nb::python_error();
    return {result.steps, result.looks};
}

// The same for a trainer's gradients or moments: an array for each parameter that learns, in the order of parameters.
template <typename Block, typename Copy>
void each_learned(const Trainer& trainer, Block* block, const std::vector<Floats>& arrays, const Copy& copy) {
    size_t next = 0;
    for (const Param& p : trainer.plan().params) {
        if (!p.learns()) continue;
        if (next == arrays.size() || arrays[next].size() != size_t(p.rows) * size_t(p.cols))
            throw Error(Status::invalid_argument, "parameter '" + p.name + "' has the wrong size");
        for (int r = 0; r < p.rows; ++r)
            copy(block + p.gradient + r * p.stride, arrays[next].data() + ptrdiff_t(r) * p.cols, size_t(p.cols));
        ++next;
    }
    if (next != arrays.size()) throw Error(Status::invalid_argument, "wrong number of parameters");
}

void read_learned(const Trainer& trainer, const float* block, const std::vector<Floats>& arrays) {
    each_learned(trainer, block, arrays, [](const float* from, float* to, size_t n) { std::copy_n(from, n, to); });
}

void write_learned(const Trainer& trainer, float* block, const std::vector<Floats>& arrays) {
    each_learned(trainer, block, arrays, [](float* to, const float* from, size_t n) { std::copy_n(from, n, to); });
}

void bind_program(nb::module_& m) {
    nb::class_<Program>(m, "Program")
        .def(nb::init<>())
        .def("set_optimizer", [](Program& p, int kind) { p.optimizer = Optimizer(kind); })
        .def("set_decay", [](Program& p, int kind) { p.decay = Decay(kind); })
        .def("set_order", [](Program& p, uint64_t key, uint64_t nonce) { p.order = {key, nonce}; })
        .def("add_dropout", [](Program& p, uint64_t key, uint64_t nonce) { p.dropouts.push_back({key, nonce}); })
        .def_rw("lr", &Program::lr)
        .def_rw("beta1", &Program::beta1)
        .def_rw("beta2", &Program::beta2)
        .def_rw("eps", &Program::eps)
        .def_rw("weight_decay", &Program::weight_decay)
        .def_rw("momentum", &Program::momentum)
        .def_rw("warmup_steps", &Program::warmup_steps)
        .def_rw("total_steps", &Program::total_steps)
        .def_rw("every", &Program::every)
        .def_rw("final_factor", &Program::final_factor)
        .def_rw("decay_factor", &Program::decay_factor)
        .def_rw("l1", &Program::l1)
        .def_rw("batch_size", &Program::batch_size)
        .def_rw("accumulate", &Program::accumulate)
        .def_rw("clip_norm", &Program::clip_norm)
        .def_rw("shuffle", &Program::shuffle)
        .def_rw("checkpoint", &Program::checkpoint)
        .def_rw("varies", &Program::varies)
        .def_rw("part", &Program::part)
        .def("set_muon", [](Program& p, Ints params, double lr, double momentum, double weight_decay, int iterations) {
            p.muon = {std::move(params), lr, momentum, weight_decay, iterations};
        })
        .def("set_wishes", [](Program& p, Ints frozen, Ints touched, bool input_gradients) {
            p.wishes = {std::move(frozen), std::move(touched), input_gradients};
        })
        .def("set_stop", [](Program& p, int64_t every, int64_t patience, double min_delta, bool restore_best) {
            p.stops = true, p.look_every = every, p.patience = patience;
            p.min_delta = min_delta, p.restore_best = restore_best;
        });
}

void bind_watch(nb::class_<Trainer>& trainer) {
    trainer
        .def_prop_ro("watch", [](Trainer& t) {
            const Watch& w = t.watch();
            return std::make_tuple(w.best_loss, w.best_step, w.waited, w.stopped);
        })
        .def("set_watch", [](Trainer& t, double loss, int64_t step, int64_t waited, bool stopped) {
            t.watch() = {loss, step, waited, stopped};
        })
        .def("read_best", [](Trainer& t, std::vector<Floats> arrays) {
            check_arrays(t.engine().weights, arrays);
            read_block(t.engine().weights, t.best_weights().data(), arrays);
        })
        .def("write_best", [](Trainer& t, const std::vector<Floats>& arrays) {
            check_arrays(t.engine().weights, arrays);
            write_block(t.engine().weights, t.best_weights().data(), arrays);
        });
}

void bind_trainer(nb::module_& m) {
    nb::class_<Evaluator>(m, "Evaluator")
        .def(nb::new_(&make_evaluator), "engine"_a, "nodes"_a, "inputs"_a, "losses"_a, "max_rows"_a)
        .def_prop_ro("arena_floats", &Evaluator::arena_floats)
        .def("loss", [](Evaluator& e) {
            const nb::gil_scoped_release release;
            const std::lock_guard lock(e.engine()->busy);
            return e.loss();
        });
    auto trainer = nb::class_<Trainer>(m, "Trainer");
    trainer
        .def(nb::new_(&make_trainer), "engine"_a, "nodes"_a, "program"_a, "inputs"_a, "losses"_a, "validation"_a = nb::none())
        .def("feed", [](Trainer& t, const std::vector<Array>& inputs, const std::vector<LossTuple>& losses) {
            const std::vector<Rows> rows = input_rows(t.plan(), inputs);
            t.feed(rows, loss_data(t.plan(), losses, rows.at(0).rows));
        })
        .def_prop_rw("step", &Trainer::step, &Trainer::set_step)
        .def_prop_ro("arena_floats", &Trainer::arena_floats)
        .def_prop_ro("gradient_floats", [](Trainer& t) { return t.plan().gradient_floats; })
        .def_prop_ro("learned_floats", [](Trainer& t) { return t.plan().learned_floats; })
        .def_prop_ro("num_moments", [](Trainer& t) { return t.moments().size(); })
        .def_prop_ro("norm", &Trainer::norm)
        .def_prop_ro("look_every", &Trainer::look_every)
        .def("run", &run, "losses"_a, "looks"_a, "progress"_a = nb::none())
        .def("run_over", &Trainer::run_over, "parts"_a, nb::call_guard<nb::gil_scoped_release>())
        .def("gradients", [](Trainer& t, std::vector<Floats> arrays) {
            double loss;
            {
                nb::gil_scoped_release release;
                loss = t.gradients_only();
            }
            read_learned(t, t.gradients().data(), arrays);
            return loss;
        })
        .def("input_gradient", [](Trainer& t, size_t index, Floats rows) { t.input_gradient(index, rows.data()); })
        .def("read_moment", [](Trainer& t, size_t which, std::vector<Floats> arrays) {
            read_learned(t, t.moments().at(which).data(), arrays);
        })
        .def("write_moment", [](Trainer& t, size_t which, const std::vector<Floats>& arrays) {
            write_learned(t, t.moments().at(which).data(), arrays);
        });
    bind_watch(trainer);
}

// kind, node, whether its terms are weighted
using LossKindTuple = std::tuple<int, int, bool>;

nb::dict planned_bytes(const std::vector<ParamTuple>& params, const std::vector<NodeTuple>& nodes, const Program& program,
                       const std::vector<LossKindTuple>& losses, int64_t rows, int threads, int max_rows) {
    std::vector<LossSpec> specs;
    for (const auto& [kind, node, weighted] : losses)
        specs.push_back({.kind = LossKind(kind), .node = node, .weighted = weighted});
    const Footprint found = footprint(param_specs(params), node_specs(nodes), program, specs, rows, threads, max_rows);
    nb::dict bytes;
    bytes["weights"] = found.weights * sizeof(float);
    bytes["inference"] = found.inference * sizeof(float);
    bytes["arena"] = (found.inference + found.arena) * sizeof(float);
    bytes["gradients"] = found.gradients * sizeof(float);
    bytes["optimizer"] = found.moments * sizeof(float);
    return bytes;
}

}  // namespace

void bind_training(nb::module_& m) {
    bind_program(m);
    bind_trainer(m);
    m.def("planned_bytes", &planned_bytes, "params"_a, "nodes"_a, "program"_a, "losses"_a, "rows"_a, "threads"_a,
          "max_rows"_a);
}

}  // namespace alexandra
