// What stands behind alexandra_model: a description, weights, and the networks planned for them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bytes.h"
#include "description.h"
#include "network.h"
#include "safetensors.h"
#if !ALEXANDRA_INFERENCE_ONLY
#include "trainer.h"
#endif

namespace alexandra {

struct CModel {
    Description description;
    std::shared_ptr<Engine> engine;
    std::unique_ptr<Network> network;
    int max_rows = 0;
    std::vector<int> inputs, outputs;  // numbers of nodes
    std::vector<float*> places;        // of forward's outputs and inputs, to keep it free of allocations
    std::vector<Rows> rows;
#if !ALEXANDRA_INFERENCE_ONLY
    std::unique_ptr<Trainer> trainer;
#endif
    // The vocabulary of whole numbers of an input, 0 where nothing looks them up.
    int64_t below(int node) const;
    const Node& node(int index) const { return network->plan().nodes[size_t(index)]; }
    void plan(int rows);
    void own();
};

// Weights of `description` in the safetensors file at `path`, mapped where they lie (or copied, where they do not lie
// on whole floats); with `check` every checksum is compared.
Weights weights_from_file(const Description& description, const std::string& path, bool check);
// Error(invalid_argument) where the file carries checksums and that of the float32 tensor does not match.
void check_tensor(const SafetensorsFile& file, const SafeTensor& tensor, const std::string& path);
// The first weights, as ir/weights.initialise draws them.
Weights first_weights(const Description& description, int64_t seed);
// The two files that WeightSet.save writes, each whole under its name or not there.
void save_weights(const Description& description, const Weights& weights, const std::string& path);

}  // namespace alexandra
