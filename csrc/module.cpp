// The extension module alexandra._native: the few functions that cross between Python and the engine.
// Arrays come in and go out, the GIL is released while the engine works, errors are EngineError.

#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <nanobind/nanobind.h>

#include "allocations.h"
#include "dispatch.h"
#include "module_arrays.h"

namespace alexandra {

void bind_training(nb::module_& m);  // module_train.cpp
void bind_population(nb::module_& m);  // module_population.cpp
void bind_testing(nb::module_& m);  // testing.cpp
void bind_lexicon(nb::module_& m);  // lexicon.cpp
void bind_data(nb::module_& m);     // module_data.cpp
void bind_decode(nb::module_& m);   // module_decode.cpp

namespace {

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

// With `source`, the weights stay in that memory, `offsets` bytes from its start.
std::shared_ptr<Engine> make_engine(const std::vector<ParamTuple>& params, int threads, const std::string& isa,
                                    std::optional<Array> source, const std::vector<size_t>& offsets) {
    const std::vector<ParamSpec> specs = param_specs(params);
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

}  // namespace
}  // namespace alexandra

NB_MODULE(_native, m) {
    using namespace alexandra;
    m.doc() = "The native engine of alexandra.";
    nb::exception<Error>(m, "EngineError");
    m.def("built_isas", [] { return std::string(ALEXANDRA_ISA_LIST); });
    m.def("available_isas", &available_isas);
    bind_engine(m);
    bind_lexicon(m);
    bind_data(m);
    bind_decode(m);
#if !ALEXANDRA_INFERENCE_ONLY
    bind_training(m);
    bind_population(m);
    bind_testing(m);
    m.attr("trains") = true;
#else
    m.attr("trains") = false;
#endif
    m.def("counted_allocations", &counted_allocations);
}
