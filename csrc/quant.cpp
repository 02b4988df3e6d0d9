#include "quant.h"

#include <cmath>
#include <cstring>

#include "error.h"

namespace alexandra {

namespace {

constexpr TypeInfo kTypes[] = {
    {TensorType::f32, "F32", 1, 4},    {TensorType::f16, "F16", 1, 2},   {TensorType::bf16, "BF16", 1, 2},
    {TensorType::q8_0, "Q8_0", 32, 34}, {TensorType::q4_0, "Q4_0", 32, 18},
};

void check_block(const float* x, float scale) {
    for (int i = 0; i < kBlock; ++i)
        if (!std::isfinite(x[i]))
            throw Error(Status::not_finite, "cannot quantise " + std::to_string(x[i]) + "; only finite numbers");
    if (std::fabs(scale) >= 65520.0f)
        throw Error(Status::invalid_argument,
                    "cannot quantise a block whose scale " + std::to_string(scale) + " is beyond half precision");
}

// 1 / d as ggml has it, 0 where there is nothing to divide by.
float inverse(float d) {
    const float id = d == 0.0f ? 0.0f : 1.0f / d;
    return std::isfinite(id) ? id : 0.0f;
}

void encode_q4_0(const float* x, uint8_t* out) {
    float most = x[0], size = 0.0f;
    for (int i = 0; i < kBlock; ++i)
        if (std::fabs(x[i]) > size) size = std::fabs(x[i]), most = x[i];
    const float d = most / -8.0f, id = inverse(d);
    check_block(x, d);
    const uint16_t half = half_from_float(d);
    std::memcpy(out, &half, 2);
    const auto level = [&](int i) {
        const float q = x[i] * id + 8.5f;
        return q >= 15.0f ? 15 : int(q);
    };
    for (int j = 0; j < kBlock / 2; ++j) out[2 + j] = uint8_t(level(j) | level(j + kBlock / 2) << 4);
}

void encode_q8_0(const float* x, uint8_t* out) {
    float size = 0.0f;
    for (int i = 0; i < kBlock; ++i) size = std::fmax(size, std::fabs(x[i]));
    const float d = size / 127.0f, id = inverse(d);
    check_block(x, d);
    const uint16_t half = half_from_float(d);
    std::memcpy(out, &half, 2);
    for (int j = 0; j < kBlock; ++j) out[2 + j] = uint8_t(int8_t(std::round(x[j] * id)));
}

template <typename F>
void each_half(const uint8_t* data, size_t values, float* out, F f) {
    for (size_t i = 0; i < values; ++i) {
        uint16_t h;
        std::memcpy(&h, data + 2 * i, 2);
        out[i] = f(h);
    }
}

template <typename F>
void put_halves(const float* x, size_t values, uint8_t* out, F f) {
    for (size_t i = 0; i < values; ++i) {
        const uint16_t h = f(x[i]);
        std::memcpy(out + 2 * i, &h, 2);
    }
}

}  // namespace

const TypeInfo* type_info(uint32_t type) {
    for (const TypeInfo& info : kTypes)
        if (uint32_t(info.type) == type) return &info;
    return nullptr;
}

const TypeInfo& type_info(TensorType type) { return *type_info(uint32_t(type)); }

TensorType type_named(const std::string& name) {
    for (uint32_t type = 0; type < 64; ++type)
        if (const TypeInfo* info = type_info(type); info && name == info->name) return info->type;
    throw Error(Status::unsupported, "tensor type '" + name + "' is not known; known: " + known_types());
}

std::string known_types() {
    std::string names;
    for (const TypeInfo& info : kTypes) names += (names.empty() ? "" : ", ") + std::string(info.name);
    return names;
}

void encode(TensorType type, const float* x, size_t values, uint8_t* out) {
    switch (type) {
        case TensorType::f32: std::memcpy(out, x, values * 4); break;
        case TensorType::f16: put_halves(x, values, out, half_from_float); break;
        case TensorType::bf16: put_halves(x, values, out, bf16_from_float); break;
        case TensorType::q8_0:
            for (size_t i = 0; i < values; i += kBlock, out += 34) encode_q8_0(x + i, out);
            break;
        case TensorType::q4_0:
            for (size_t i = 0; i < values; i += kBlock, out += 18) encode_q4_0(x + i, out);
            break;
    }
}

void decode(TensorType type, const uint8_t* data, size_t values, float* out) {
    const auto scale = [&](const uint8_t* block) {
        uint16_t h;
        std::memcpy(&h, block, 2);
        return float_from_half(h);
    };
    switch (type) {
        case TensorType::f32: std::memcpy(out, data, values * 4); break;
        case TensorType::f16: each_half(data, values, out, float_from_half); break;
        case TensorType::bf16: each_half(data, values, out, float_from_bf16); break;
        case TensorType::q8_0:
            for (size_t i = 0; i < values; i += kBlock, data += 34)
                for (int j = 0; j < kBlock; ++j) out[i + size_t(j)] = float(int8_t(data[2 + j])) * scale(data);
            break;
        case TensorType::q4_0:
            for (size_t i = 0; i < values; i += kBlock, data += 18)
                for (int j = 0; j < kBlock / 2; ++j) {
                    out[i + size_t(j)] = float((data[2 + j] & 15) - 8) * scale(data);
                    out[i + size_t(j) + kBlock / 2] = float((data[2 + j] >> 4) - 8) * scale(data);
                }
            break;
    }
}

}  // namespace alexandra
