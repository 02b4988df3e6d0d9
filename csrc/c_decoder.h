// A decoder behind alexandra_model: the plan that backends/decode_describe.py writes, its file of weights, a Batch.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "alexandra.h"
#include "bytes.h"
#include "decode_batch.h"

namespace alexandra {

// What a plan says of a weight: bytes `at` of tensor `tensor` in the file, or, where `tensor` is empty, `data`.
struct PlannedWeight {
    std::string name, tensor;
    TensorType type;
    int64_t rows, cols;
    size_t at = 0;
    std::vector<uint8_t> data;
};

struct DecoderPlan {
    std::string name;
    int context = 0;
    std::vector<int32_t> ends;
    std::vector<std::string> pieces;
    std::vector<PlannedWeight> weights;
    std::vector<DecodeNodeSpec> steps;
};

// Whether `json` is a decoder's plan; anything else is left to read_description.
bool is_decoder_plan(std::string_view json);
DecoderPlan read_decoder_plan(std::string_view json);

class CDecoder {
public:
    // Maps `path` (GGUF or safetensors); with `check`, checksums that a safetensors file carries are compared.
    CDecoder(DecoderPlan plan, const std::string& path, bool check, int threads, std::string isa);

    void plan(int slots);
    void describe(alexandra_kind kind, int index, alexandra_info* info) const;
    // Logits of every position of one sequence.
    void forward(int64_t rows, const int32_t* tokens, float* logits);
    void decode(alexandra_row* rows, int count, const alexandra_sampling& sampling);
    std::string_view text(int token) const;
    void memory(alexandra_sizes* sizes) const;

private:
    Request request_of(const alexandra_row& row, int index, const alexandra_sampling& sampling, int most) const;

    DecoderPlan plan_;
    std::unique_ptr<MappedFile> file_;
    std::vector<WeightView> views_;
    int threads_;
    std::string isa_;
    std::unique_ptr<Batch> batch_;
};

}  // namespace alexandra
