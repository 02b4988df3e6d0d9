// Populations in Python: plans of shapes, populations, and the fleet that trains them. Arrays cross as memory that the caller
// keeps alive; backends/population.py checks and owns them.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <tuple>
#include <utility>

#include "dispatch.h"
#include "population.h"
#include "population_ops.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace alexandra {

namespace {

using Array = nb::ndarray<nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using NodeTuple = std::tuple<std::string, std::string, std::vector<int>, std::vector<int>, std::vector<int>,
                             std::vector<double>>;
using ParamTuple = std::pair<std::string, std::vector<int>>;
using LossTuple = std::tuple<int, int, double>;  // kind, node, label smoothing

std::vector<NodeSpec> node_specs(const std::vector<NodeTuple>& tuples) {
    std::vector<NodeSpec> specs;
    for (const auto& [name, op, inputs, shape, params, numbers] : tuples)
        specs.push_back({name, op, inputs, shape, params, numbers});
    return specs;
}

std::shared_ptr<LanePlan> make_plan(const std::vector<NodeTuple>& nodes, const std::vector<ParamTuple>& params,
                                    const std::vector<LossTuple>& losses, int batch, const std::string& isa) {
    std::vector<ParamSpec> specs;
    for (const auto& [name, shape] : params) specs.push_back({name, shape});
    std::vector<LossSpec> wanted;
    for (const auto& [kind, node, smoothing] : losses) wanted.push_back({.kind = LossKind(kind), .node = node, .smoothing = float(smoothing)});
    return std::make_shared<LanePlan>(node_specs(nodes), specs, wanted, batch, isa);
}

Rows rows_of(const Array& array, int features, bool integer, const std::string& name) {
    if (array.dtype() != (integer ? nb::dtype<int32_t>() : nb::dtype<float>()))
        throw Error(Status::invalid_argument, "'" + name + "' must be " + (integer ? "int32" : "float32"));
    if (array.ndim() < 1 || array.size() != array.shape(0) * size_t(features))
        throw Error(Status::invalid_argument, "'" + name + "' needs " + std::to_string(features) + " values a row");
    return {array.data(), int64_t(array.shape(0)), features};
}

// The rows of several arrays, which must be equally many.
void same_rows(const std::vector<Rows>& rows, int64_t wanted) {
    for (const Rows& one : rows)
        if (one.rows != wanted) throw Error(Status::invalid_argument, "the arrays of a network differ in their rows");
}

std::vector<Rows> input_rows(const LanePlan& plan, const std::vector<Array>& arrays) {
    const std::vector<int>& inputs = plan.plan.inputs;
    if (arrays.size() != inputs.size())
        throw Error(Status::invalid_argument, "needs " + std::to_string(inputs.size()) + " inputs");
    std::vector<Rows> rows;
    for (size_t i = 0; i < arrays.size(); ++i) {
        const Node& node = plan.plan.nodes[size_t(inputs[i])];
        rows.push_back(rows_of(arrays[i], node.features(), node.integer, node.name));
    }
    if (!rows.empty()) same_rows(rows, rows[0].rows);
    return rows;
}

std::vector<Rows> target_rows(const LanePlan& plan, const std::vector<Array>& arrays, int64_t rows) {
    if (arrays.size() != plan.losses.size()) throw Error(Status::invalid_argument, "wrong number of targets");
    std::vector<Rows> found;
    for (size_t j = 0; j < arrays.size(); ++j)
        found.push_back(rows_of(arrays[j], plan.target_width(j), plan.losses[j].kind == LossKind::cross_entropy, "targets"));
    same_rows(found, rows);
    return found;
}

using Arrays = std::vector<Array>;
// program, epochs, target loss, inputs, targets, validation inputs and targets, weights
using SeatTuple = std::tuple<Program, int64_t, double, Arrays, Arrays, Arrays, Arrays, Floats>;

Seat seat_of(const LanePlan& plan, const SeatTuple& tuple) {
    const auto& [program, epochs, target_loss, inputs, targets, validation, validation_targets, weights] = tuple;
    if (weights.size() != plan.params)
        throw Error(Status::invalid_argument, "needs " + std::to_string(plan.params) + " weights");
    if (program.dropouts.size() && program.dropouts.size() != plan.plan.nodes.size())
        throw Error(Status::invalid_argument, "needs a stream per node");
    Seat seat{program, epochs, target_loss, input_rows(plan, inputs), {}, {}, {}, weights.data()};
    seat.targets = target_rows(plan, targets, seat.rows());
    if (validation.empty()) return seat;
    seat.validation = input_rows(plan, validation);
    seat.validation_targets = target_rows(plan, validation_targets, seat.look_rows());
    return seat;
}

std::shared_ptr<Population> make_population(std::shared_ptr<LanePlan> plan, const std::vector<SeatTuple>& tuples) {
    std::vector<Seat> seats;
    for (const SeatTuple& tuple : tuples) seats.push_back(seat_of(*plan, tuple));
    return std::make_shared<Population>(std::move(plan), std::move(seats));
}

std::shared_ptr<Fleet> make_fleet(const std::vector<std::shared_ptr<Population>>& populations, int threads) {
    if (threads < 1 || threads > 256)
        throw Error(Status::invalid_argument, "threads must be 1 .. 256, got " + std::to_string(threads));
    return std::make_shared<Fleet>(populations, threads);
}

// (ending, steps, best step, failed with, mean losses, looks) of a network that is done, or nothing.
nb::object outcome(Population& population, size_t number) {
    if (number >= population.size()) throw Error(Status::invalid_argument, "network " + std::to_string(number));
    const Outcome& o = population.outcome(number);
    if (o.ending == Ending::none) return nb::none();
    return nb::cast(std::make_tuple(int(o.ending), o.steps, o.best_step, o.failed_with, o.means, o.looks));
}

using Longs = nb::ndarray<uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Words = nb::ndarray<uint32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// The first words of many streams: out[stream][word].
void random_words(const Longs& keys, const Longs& nonces, Words out) {
    if (keys.size() != out.shape(0) || nonces.size() != out.shape(0))
        throw Error(Status::invalid_argument, "needs a key and a nonce per stream");
    const Kernels& kernels = choose_kernels("");
    for (size_t i = 0; i < out.shape(0); ++i)
        kernels.philox_words(keys.data()[i], nonces.data()[i], 0, 0, out.shape(1), out.data() + i * out.shape(1));
}

}  // namespace

void bind_population(nb::module_& m) {
    nb::class_<LanePlan>(m, "LanePlan")
        .def(nb::new_(&make_plan), "nodes"_a, "params"_a, "losses"_a, "batch"_a, "isa"_a)
        .def_prop_ro("lanes", [](const LanePlan& p) { return p.lanes; })
        .def_prop_ro("isa", [](const LanePlan& p) { return std::string(p.kernels.isa); })
        .def_prop_ro("floats", [](const LanePlan& p) { return p.floats; });
    nb::class_<Population>(m, "Population")
        .def(nb::new_(&make_population), "plan"_a, "seats"_a)
        .def("outcome", &outcome);
    nb::class_<Fleet>(m, "Fleet")
        .def(nb::new_(&make_fleet), "populations"_a, "threads"_a)
        .def_prop_ro("ended", &Fleet::ended)
        .def("run", &Fleet::run, "seconds"_a, nb::call_guard<nb::gil_scoped_release>());
    m.def("random_words", &random_words, "keys"_a, "nonces"_a, "out"_a);
    m.def("runs_side_by_side", [](const std::vector<NodeTuple>& nodes) { return has_lane_ops(node_specs(nodes)); });
}

}  // namespace alexandra
