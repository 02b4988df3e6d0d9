// Tensor types that files hold (numbers of ggml), and the quantiser and dequantiser of its Q4_0 and Q8_0.
//
// Q4_0: blocks of 32 values in 18 bytes, a half-precision scale d and 16 bytes; byte j holds value j in its low
// and value j + 16 in its high nibble, value = (q - 8) d. Q8_0: 34 bytes, d and 32 signed bytes, value = q d.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

#include "decode_kernels.h"

namespace alexandra {

struct TypeInfo {
    TensorType type;
    const char* name;
    int block, bytes;  // values and bytes of a block
};

// The row of `type`, or null for a type that the engine does not know.
const TypeInfo* type_info(uint32_t type);
const TypeInfo& type_info(TensorType type);
// By its name; Error(unsupported) for another.
TensorType type_named(const std::string& name);
// "F32, F16, ..."
std::string known_types();

inline bool quantised(TensorType type) { return type == TensorType::q4_0 || type == TensorType::q8_0; }

inline size_t row_bytes(TensorType type, size_t values) {
    const TypeInfo& info = type_info(type);
    return values / size_t(info.block) * size_t(info.bytes);
}

inline float float_from_half(uint16_t h) {
    const uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 0x1f, fraction = h & 0x3ff;
    if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
    if (exponent) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
    const float small = float(fraction) * 0x1p-24f;
    return sign ? -small : small;
}

// Round to nearest, ties to even.
inline uint16_t half_from_float(float x) {
    const uint32_t raw = std::bit_cast<uint32_t>(x), sign = (raw >> 16) & 0x8000, size = raw & 0x7fffffff;
    if (size >= 0x7f800000u) return uint16_t(sign | 0x7c00 | (size > 0x7f800000u ? 0x200 : 0));
    if (size >= 0x477ff000u) return uint16_t(sign | 0x7c00);  // 65520 and above
    if (size < 0x38800000u) {                                  // below 2^-14: a multiple of 2^-24
        const float shifted = std::bit_cast<float>(size) + 0.5f;
        return uint16_t(sign | (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0.5f)));
    }
    const uint32_t even = (size >> 13) & 1;
    return uint16_t(sign | ((size - 0x38000000u + 0xfff + even) >> 13));
}

inline float float_from_bf16(uint16_t h) { return std::bit_cast<float>(uint32_t(h) << 16); }

inline uint16_t bf16_from_float(float x) {
    const uint32_t raw = std::bit_cast<uint32_t>(x);
    if ((raw & 0x7fffffff) > 0x7f800000u) return uint16_t(raw >> 16 | 0x40);
    return uint16_t((raw + 0x7fff + ((raw >> 16) & 1)) >> 16);
}

// `values` floats (a multiple of the type's block) from or to `type`. Encoding throws Error for values that are
// not finite where blocks cannot hold them.
void encode(TensorType type, const float* x, size_t values, uint8_t* out);
void decode(TensorType type, const uint8_t* data, size_t values, float* out);

}  // namespace alexandra
