// Weight matrices of a decoder: views of mapped bytes, and their packed form (decode_kernels.h).
#pragma once

#include <string>
#include <vector>

#include "arena.h"
#include "quant.h"

namespace alexandra {

// A tensor as a matrix [rows][cols] of `type`, row after row; a vector is one row. The bytes belong to the caller.
struct WeightView {
    std::string name;
    TensorType type;
    int64_t rows, cols;
    const uint8_t* data;
    const uint8_t* row(int64_t r) const { return data + size_t(r) * row_bytes(type, size_t(cols)); }
};

inline int panels_of(const WeightView& w) { return int((w.rows + panel_columns(w.type) - 1) / panel_columns(w.type)); }
inline size_t packed_bytes(const WeightView& w) {
    return size_t(panels_of(w)) * packed_panel_bytes(w.type, size_t(w.cols));
}

// One panel of `w` at `out`, and all of them.
void pack_panel(const WeightView& w, int panel, uint8_t* out);
void pack(const WeightView& w, uint8_t* out);

}  // namespace alexandra
