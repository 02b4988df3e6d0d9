// GGUF files (versions 2 and 3, little-endian): the whole structure is checked before anything is handed out.
//
// A GgufFile is a view of bytes that the caller keeps (a mapped file): it holds positions, not copies, so that a
// file cannot make it take more memory than a fixed share of the file's own size.
#pragma once

#include <string_view>
#include <vector>

#include "bytes.h"
#include "quant.h"

namespace alexandra {

enum class GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, text, array, u64, i64, f64 };

struct GgufValue {
    std::string_view key;
    GgufType type, element;  // element and count: of an array
    uint64_t count;
    size_t at;  // where the value, or an array's first element, begins
};

struct GgufTensor {
    std::string_view name;
    const uint8_t* dims;  // num_dims 64-bit numbers, fastest first, any alignment
    uint32_t num_dims;
    TensorType type;
    const uint8_t* data;
    uint64_t bytes;

    uint64_t dim(uint32_t i) const {
        uint64_t value = 1;
        if (i < num_dims) std::memcpy(&value, dims + 8 * i, 8);
        return value;
    }
};

constexpr size_t kGgufMaxDims = 4;

class GgufFile {
public:
    // Throws Error that says what is wrong and where.
    GgufFile(const uint8_t* data, size_t size);
    uint32_t version() const { return version_; }
    size_t num_values() const { return values_.size(); }
    GgufValue value(size_t i) const;
    const std::vector<GgufTensor>& tensors() const { return tensors_; }
    const uint8_t* data() const { return data_; }
    size_t size() const { return size_; }

private:
    void read_values(ByteReader& in, uint64_t count);
    void read_tensors(ByteReader& in, uint64_t count);
    void place_tensors(size_t begin);
    void check_names() const;

    const uint8_t* data_;
    size_t size_;
    uint32_t version_ = 0, alignment_ = 32;
    std::vector<size_t> values_;  // where each key begins
    std::vector<GgufTensor> tensors_;
};

}  // namespace alexandra
