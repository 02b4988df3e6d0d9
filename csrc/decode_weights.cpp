#include "decode_weights.h"

#include <algorithm>

namespace alexandra {

namespace {

// Items of one size, column after column in rows, to [item][column]; pairs stay together where `run` is 2.
template <typename T>
void interleave(const WeightView& w, int64_t first, int columns, int run, uint8_t* out) {
    const int64_t count = std::min<int64_t>(columns, w.rows - first);
    for (int64_t c = 0; c < count; ++c) {
        const uint8_t* row = w.row(first + c);
        for (int64_t k = 0; k < w.cols; ++k)
            std::memcpy(out + size_t((k / run * columns + c) * run + k % run) * sizeof(T), row + size_t(k) * sizeof(T), sizeof(T));
    }
}

void pack_blocks(const WeightView& w, int64_t first, uint8_t* out) {
    const int bytes = type_info(w.type).bytes, words = (bytes - 2) / 4, columns = 16;
    const int64_t blocks = w.cols / kBlock, count = std::min<int64_t>(columns, w.rows - first);
    for (int64_t c = 0; c < count; ++c) {
        const uint8_t* row = w.row(first + c);
        for (int64_t b = 0; b < blocks; ++b, row += bytes) {
            uint8_t* to = out + b * columns * bytes;
            std::memcpy(to + 2 * c, row, 2);
            for (int j = 0; j < words; ++j) std::memcpy(to + 32 + (j * columns + c) * 4, row + 2 + 4 * j, 4);
        }
    }
}

}  // namespace

void pack_panel(const WeightView& w, int panel, uint8_t* out) {
    const int columns = panel_columns(w.type);
    const int64_t first = int64_t(panel) * columns;
    if (w.rows - first < columns || (w.type == TensorType::bf16 && w.cols % 2))
        std::memset(out, 0, packed_panel_bytes(w.type, size_t(w.cols)));
    switch (w.type) {
        case TensorType::f32: return interleave<uint32_t>(w, first, columns, 1, out);
        case TensorType::f16: return interleave<uint16_t>(w, first, columns, 1, out);
        case TensorType::bf16: return interleave<uint16_t>(w, first, columns, 2, out);
        default: return pack_blocks(w, first, out);
    }
}

void pack(const WeightView& w, uint8_t* out) {
    const size_t bytes = packed_panel_bytes(w.type, size_t(w.cols));
    for (int panel = 0; panel < panels_of(w); ++panel) pack_panel(w, panel, out + size_t(panel) * bytes);
}

}  // namespace alexandra
