// All kernels of generation for one instruction set. CMake compiles this file once per set, with its flags and
// name; nothing in it may have external linkage but the table, lest the linker mix instruction sets.

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <utility>

#include "../kernels.h"
#include "decode_kernels.h"

namespace alexandra::ALEXANDRA_SPACE {
namespace {
#include "../kernels/simd.inl"
#include "../kernels/math.inl"
// The vectors come first: the others are written in them.
#include "rows.inl"
#include "floats.inl"
#include "blocks.inl"
#if defined(__AMX_INT8__)
#include "../kernels/tile_config.inl"
#include "tiles.inl"
#endif
#include "attend.inl"

static void matmul(const MatmulCall& c, const Activations& x) {
    switch (c.type) {
        case TensorType::f32: return multiply_floats<TensorType::f32>(c, x);
        case TensorType::f16: return multiply_floats<TensorType::f16>(c, x);
        case TensorType::bf16: return multiply_floats<TensorType::bf16>(c, x);
        case TensorType::q8_0:
#if defined(__AMX_INT8__)
            if (x.rows >= kTileRows) return multiply_tiles<TensorType::q8_0>(c, x);
#endif
            return multiply_blocks<TensorType::q8_0>(c, x);
        case TensorType::q4_0:
#if defined(__AMX_INT8__)
            if (x.rows >= kTileRows) return multiply_tiles<TensorType::q4_0>(c, x);
#endif
            return multiply_blocks<TensorType::q4_0>(c, x);
    }
}

#define ALEXANDRA_QUOTE_(x) #x
#define ALEXANDRA_QUOTE(x) ALEXANDRA_QUOTE_(x)

constexpr DecodeKernels kTable = {
    .isa = ALEXANDRA_QUOTE(ALEXANDRA_ISA),
    .fused = kFused,
#if defined(__AMX_INT8__)
    .amx = true,
#else
    .amx = false,
#endif
    .prepare = prepare,
    .matmul = matmul,
    .rmsnorm = rmsnorm,
    .layernorm = layernorm,
    .attend = attend,
    .pointwise = pointwise,
    .multiply = multiply,
    .add = add,
    .scale = scale,
    .softmax = softmax,
    .argmax = argmax,
    .log_sum_exp = log_sum_exp,
};
}  // namespace

const DecodeKernels& table() { return kTable; }

}  // namespace alexandra::ALEXANDRA_SPACE
