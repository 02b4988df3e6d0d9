// The extension module alexandra._native: the few functions that cross between Python and the engine.
// Arrays come in and go out, the GIL is released while the engine works, errors are EngineError.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

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

namespace {

using Array = nb::ndarray<nb::c_contig, nb::device::cpu>;
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
using LossTuple = std::tuple<int, int, double, Array>;

std::vector<NodeSpec> node_specs(const std::vector<NodeTuple>& tuples) {
    std::vector<NodeSpec> specs;
    for (const auto& [name, op, inputs, shape, params, numbers] : tuples)
        specs.push_back({name, op, inputs, shape, params, numbers});
    return specs;
}

std::shared_ptr<Engine> make_engine(const std::vector<std::tuple<std::string, std::vector<int>, bool>>& params, int threads,
                                    const std::string& isa) {
    std::vector<ParamSpec> specs;
    for (const auto& [name, shape, trained] : params) specs.push_back({name, shape, trained});
    return std::make_shared<Engine>(specs, threads, isa);
}

std::shared_ptr<Trainer> make_trainer(std::shared_ptr<Engine> engine, const std::vector<NodeTuple>& nodes,
                                      const Program& program, const std::vector<Array>& inputs,
                                      const std::vector<LossTuple>& losses) {
    const std::vector<NodeSpec> specs = node_specs(nodes);
    const Plan plan(specs, engine->weights);
    const std::vector<Rows> rows = input_rows(plan, inputs);
    std::vector<LossData> data;
    for (const auto& [kind, index, smoothing, targets] : losses) {
        const Node& node = plan.nodes.at(size_t(index));
        const bool classes = kind == int(LossKind::cross_entropy);
        data.push_back({{LossKind(kind), index, float(smoothing)},
                        rows_of(targets, classes ? node.groups : node.features(), classes, "targets of " + node.name)});
        if (data.back().targets.rows != rows.at(0).rows)
            throw Error(Status::invalid_argument, "targets and inputs differ in their rows");
    }
    return std::make_shared<Trainer>(std::move(engine), specs, program, rows, data);
}

// Copies between natural arrays (one per parameter) and a block laid out like the weights.
void read_block(const Weights& weights, const float* block, std::vector<Floats>& arrays) {
    for (size_t i = 0; i < arrays.size(); ++i) weights.unpack(int(i), block, arrays[i].data());
}

void write_block(const Weights& weights, float* block, const std::vector<Floats>& arrays) {
    for (size_t i = 0; i < arrays.size(); ++i) weights.pack(int(i), arrays[i].data(), block);
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
        .def_rw("batch_size", &Program::batch_size)
        .def_rw("clip_norm", &Program::clip_norm)
        .def_rw("shuffle", &Program::shuffle)
        .def_rw("checkpoint", &Program::checkpoint);
}

void bind_engine(nb::module_& m) {
    nb::class_<Engine>(m, "Engine")
        .def(nb::new_(&make_engine), "params"_a, "threads"_a, "isa"_a)
        .def_prop_ro("isa", [](const Engine& e) { return std::string(e.kernels.isa); })
        .def_prop_ro("floats", [](const Engine& e) { return e.weights.floats(); })
        .def("read", [](Engine& e, std::vector<Floats> arrays) {
            check_arrays(e.weights, arrays);
            const nb::gil_scoped_release release;
            const std::lock_guard lock(e.busy);
            read_block(e.weights, e.weights.data(), arrays);
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

void bind_trainer(nb::module_& m) {
    nb::class_<Trainer>(m, "Trainer")
        .def(nb::new_(&make_trainer), "engine"_a, "nodes"_a, "program"_a, "inputs"_a, "losses"_a)
        .def_prop_rw("step", &Trainer::step, &Trainer::set_step)
        .def_prop_ro("arena_floats", &Trainer::arena_floats)
        .def_prop_ro("num_moments", [](Trainer& t) { return t.moments().size(); })
        .def("run", [](Trainer& t, Doubles losses) {
            nb::gil_scoped_release release;
            t.run(int64_t(losses.size()), losses.data());
        })
        .def("gradients", [](Trainer& t, std::vector<Floats> arrays) {
            check_arrays(t.engine().weights, arrays);
            double loss;
            {
                nb::gil_scoped_release release;
                loss = t.gradients_only();
            }
            read_block(t.engine().weights, t.gradients().data(), arrays);
            return loss;
        })
        .def("read_moment", [](Trainer& t, size_t which, std::vector<Floats> arrays) {
            check_arrays(t.engine().weights, arrays);
            read_block(t.engine().weights, t.moments().at(which).data(), arrays);
        })
        .def("write_moment", [](Trainer& t, size_t which, const std::vector<Floats>& arrays) {
            check_arrays(t.engine().weights, arrays);
            write_block(t.engine().weights, t.moments().at(which).data(), arrays);
        });
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
    bind_testing(m);
}
