// The extension module alexandra._native: the few functions that cross between Python and the engine.
// Arrays come in and go out, the GIL is released while the engine works, errors are EngineError.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "dispatch.h"
#include "network.h"
#include "trainer.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace alexandra {

void bind_testing(nb::module_& m);  // testing.cpp
void bind_lexicon(nb::module_& m);  // lexicon.cpp
void bind_data(nb::module_& m);     // module_data.cpp
void bind_population(nb::module_& m);  // module_population.cpp
void bind_decode(nb::module_& m);   // module_decode.cpp

namespace {

using Array = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Doubles = nb::ndarray<double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Checks an array of rows against what a node holds per row.
Rows rows_of(const Array& array, int features, bool integer, const std::string& name) {
    const nb::dlpack::dtype wanted = integer ? nb::dtype<int32_t>() : nb::dtype<float>();
    if (array.dtype() != wanted)
        throw Error(Status::invalid_argument, "'" + name + "' must be " + (integer ? "int32" : "float32"));
    if (array.ndim() < 1) throw Error(Status::invalid_argument, "'" + name + "' has no axis of rows");
    const int64_t rows = int64_t(array.shape(0));
    if (int64_t(array.size()) != rows * features)
        throw Error(Status::invalid_argument, "'" + name + "' has " + std::to_string(array.size()) + " values, needs " +
                                                  std::to_string(rows) + " x " + std::to_string(features));
    return {array.data(), rows, features};
}

std::vector<Rows> input_rows(const Plan& plan, const std::vector<Array>& arrays) {
    if (arrays.size() != plan.inputs.size())
        throw Error(Status::invalid_argument, "needs " + std::to_string(plan.inputs.size()) + " inputs, got " +
                                                  std::to_string(arrays.size()));
    std::vector<Rows> rows;
    for (size_t i = 0; i < arrays.size(); ++i) {
        const Node& node = plan.nodes[size_t(plan.inputs[i])];
        rows.push_back(rows_of(arrays[i], node.features(), node.integer, node.name));
        if (rows[i].rows != rows[0].rows) throw Error(Status::invalid_argument, "inputs differ in their rows");
    }
    return rows;
}

void forward(Network& network, const std::vector<Array>& inputs, std::vector<Floats>& outputs) {
    const std::vector<Rows> rows = input_rows(network.plan(), inputs);
    if (outputs.size() != network.plan().outputs.size())
        throw Error(Status::invalid_argument, "wrong number of outputs");
    std::vector<float*> places;
    for (size_t i = 0; i < outputs.size(); ++i) {
        const Node& node = network.plan().nodes[size_t(network.plan().outputs[i])];
        if (int64_t(outputs[i].size()) != rows[0].rows * node.features())
            throw Error(Status::invalid_argument, "output '" + node.name + "' has the wrong size");
        places.push_back(outputs[i].data());
    }
    nb::gil_scoped_release release;
    network.forward(rows, places);
}

// Nodes, program and losses cross as tuples; native.py builds them.
using Ints = std::vector<int>;
using NodeTuple = std::tuple<std::string, std::string, Ints, Ints, Ints, std::vector<double>>;
// kind, node, {smoothing, temperature, constant}, norm, targets, weights
using LossTuple = std::tuple<int, int, std::tuple<double, double, double>, int, Array, std::optional<Array>>;

std::vector<NodeSpec> node_specs(const std::vector<NodeTuple>& tuples) {
    std::vector<NodeSpec> specs;
    for (const auto& [name, op, inputs, shape, params, numbers] : tuples)
        specs.push_back({name, op, inputs, shape, params, numbers});
    return specs;
}

// With `source`, the weights stay in that memory, `offsets` bytes from its start.
std::shared_ptr<Engine> make_engine(const std::vector<std::tuple<std::string, std::vector<int>, bool>>& params, int threads,
                                    const std::string& isa, std::optional<Array> source, const std::vector<size_t>& offsets) {
    std::vector<ParamSpec> specs;
    for (const auto& [name, shape, trained] : params) specs.push_back({name, shape, trained});
    if (!source) return std::make_shared<Engine>(specs, threads, isa);
    std::vector<size_t> floats;
    for (size_t i = 0; i < offsets.size() && i < specs.size(); ++i) {
        size_t size = sizeof(float);
        for (int axis : specs[i].shape) size *= size_t(axis);
        if (offsets[i] % sizeof(float) || offsets[i] > source->nbytes() || size > source->nbytes() - offsets[i])
            throw Error(Status::invalid_argument, "'" + specs[i].name + "' does not lie in the given memory");
        floats.push_back(offsets[i] / sizeof(float));
    }
    auto owner = std::make_shared<Array>(*source);
    const float* base = static_cast<const float*>(owner->data());
    return std::make_shared<Engine>(Weights(specs, std::move(owner), base, floats), threads, isa);
}

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

// Copies between natural arrays (one per parameter) and a block laid out like the weights.
void read_block(const Weights& weights, const float* block, std::vector<Floats>& arrays) {
    for (size_t i = 0; i < arrays.size(); ++i) weights.unpack(int(i), block, arrays[i].data());
}

void write_block(const Weights& weights, float* block, const std::vector<Floats>& arrays) {
    for (size_t i = 0; i < arrays.size(); ++i) weights.pack(int(i), arrays[i].data(), block);
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

void check_arrays(const Weights& weights, const std::vector<Floats>& arrays) {
    if (arrays.size() != weights.params().size()) throw Error(Status::invalid_argument, "wrong number of parameters");
    for (size_t i = 0; i < arrays.size(); ++i)
        if (const Param& p = weights.params()[i]; arrays[i].size() != size_t(p.rows) * size_t(p.cols))
            throw Error(Status::invalid_argument, "parameter '" + p.name + "' has the wrong size");
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
        .def("set_wishes", [](Program& p, Ints frozen, Ints touched, bool input_gradients) {
            p.wishes = {std::move(frozen), std::move(touched), input_gradients};
        })
        .def("set_stop", [](Program& p, int64_t every, int64_t patience, double min_delta, bool restore_best) {
            p.stops = true, p.look_every = every, p.patience = patience;
            p.min_delta = min_delta, p.restore_best = restore_best;
        });
}

void bind_engine(nb::module_& m) {
    nb::class_<Engine>(m, "Engine")
        .def(nb::new_(&make_engine), "params"_a, "threads"_a, "isa"_a, "source"_a = nb::none(), "offsets"_a = std::vector<size_t>{})
        .def_prop_ro("mapped", [](const Engine& e) { return e.weights.mapped(); })
        .def("own", [](Engine& e) {
            const nb::gil_scoped_release release;
            const std::lock_guard lock(e.busy);
            e.weights.own();
        })
        .def_prop_ro("isa", [](const Engine& e) { return std::string(e.kernels.isa); })
        .def_prop_ro("floats", [](const Engine& e) { return e.weights.floats(); })
        .def("read", [](Engine& e, std::vector<Floats> arrays) {
            check_arrays(e.weights, arrays);
            const nb::gil_scoped_release release;
            const std::lock_guard lock(e.busy);
            read_block(e.weights, e.weights.values(), arrays);
        })
        .def("write", [](Engine& e, const std::vector<Floats>& arrays) {
            check_arrays(e.weights, arrays);
            const nb::gil_scoped_release release;
            const std::lock_guard lock(e.busy);
            write_block(e.weights, e.weights.data(), arrays);
        });
    nb::class_<Network>(m, "Network")
        .def(nb::new_([](std::shared_ptr<Engine> engine, const std::vector<NodeTuple>& nodes, int max_rows) {
                 return std::make_shared<Network>(std::move(engine), node_specs(nodes), max_rows);
             }),
             "engine"_a, "nodes"_a, "max_rows"_a)
        .def_prop_ro("arena_floats", &Network::arena_floats)
        .def_prop_ro("max_rows", &Network::max_rows)
        .def("forward", [](Network& n, const std::vector<Array>& inputs, std::vector<Floats> outputs) {
            forward(n, inputs, outputs);
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
        .def_prop_ro("look_every", &Trainer::look_every)
        .def("run", &run, "losses"_a, "looks"_a, "progress"_a = nb::none())
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

}  // namespace
}  // namespace alexandra

NB_MODULE(_native, m) {
    using namespace alexandra;
    m.doc() = "The native engine of alexandra.";
    nb::exception<Error>(m, "EngineError");
    m.def("built_isas", [] { return std::string(ALEXANDRA_ISA_LIST); });
    m.def("available_isas", &available_isas);
    bind_program(m);
    bind_engine(m);
    bind_trainer(m);
    bind_population(m);
    bind_testing(m);
    bind_lexicon(m);
    bind_data(m);
    bind_decode(m);
}
