// What the files of the Python module share: arrays as they cross, checked, and nodes as tuples.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <tuple>
#include <vector>

#include "network.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace alexandra {

using Array = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Doubles = nb::ndarray<double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// Checks an array of rows against what a node holds per row.
inline Rows rows_of(const Array& array, int features, bool integer, const std::string& name) {
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

inline std::vector<Rows> input_rows(const Plan& plan, const std::vector<Array>& arrays) {
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

// Nodes, program and losses cross as tuples; native.py builds them.
using Ints = std::vector<int>;
using NodeTuple = std::tuple<std::string, std::string, Ints, Ints, Ints, std::vector<double>>;
using ParamTuple = std::tuple<std::string, Ints, bool>;

inline std::vector<NodeSpec> node_specs(const std::vector<NodeTuple>& tuples) {
    std::vector<NodeSpec> specs;
    for (const auto& [name, op, inputs, shape, params, numbers] : tuples)
        specs.push_back({name, op, inputs, shape, params, numbers});
    return specs;
}

inline std::vector<ParamSpec> param_specs(const std::vector<ParamTuple>& tuples) {
    std::vector<ParamSpec> specs;
    for (const auto& [name, shape, trained] : tuples) specs.push_back({name, shape, trained});
    return specs;
}

// Copies between natural arrays (one per parameter) and a block laid out like the weights.
inline void read_block(const Weights& weights, const float* block, std::vector<Floats>& arrays) {
    for (size_t i = 0; i < arrays.size(); ++i) weights.unpack(int(i), block, arrays[i].data());
}

inline void write_block(const Weights& weights, float* block, const std::vector<Floats>& arrays) {
    for (size_t i = 0; i < arrays.size(); ++i) weights.pack(int(i), arrays[i].data(), block);
}

inline void check_arrays(const Weights& weights, const std::vector<Floats>& arrays) {
    if (arrays.size() != weights.params().size()) throw Error(Status::invalid_argument, "wrong number of parameters");
    for (size_t i = 0; i < arrays.size(); ++i)
        if (const Param& p = weights.params()[i]; arrays[i].size() != size_t(p.rows) * size_t(p.cols))
            throw Error(Status::invalid_argument, "parameter '" + p.name + "' has the wrong size");
}

}  // namespace alexandra
