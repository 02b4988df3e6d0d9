// All kernels of one instruction set. CMake compiles this file once per set, with its flags and name; nothing
// in it may have external linkage but the table, lest the linker mix instruction sets.

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <utility>

#include "kernels.h"

namespace alexandra::ALEXANDRA_ISA {
namespace {
#include "simd.inl"
// simd.inl comes first: the others are written in its vectors.
#include "math.inl"
#include "move.inl"
#include "norm.inl"
#include "loss.inl"
#include "optimizer.inl"
#include "product.inl"
#include "random.inl"
#include "unary.inl"
#include "lane_product.inl"
#include "attention.inl"
#include "sequence.inl"

#define ALEXANDRA_QUOTE_(x) #x
#define ALEXANDRA_QUOTE(x) ALEXANDRA_QUOTE_(x)

constexpr Kernels kAll = {
    .isa = ALEXANDRA_QUOTE(ALEXANDRA_ISA),
    .vector_floats = W,
    .fused = kFused,
    .product = product,
    .unary = unary,
    .gated_forward = gated_forward,
    .gated_backward = gated_backward,
    .relu_backward = relu_backward,
    .copy = copy,
    .multiply = multiply,
    .select = select,
    .softmax_forward = softmax_forward,
    .softmax_backward = softmax_backward,
    .layernorm_forward = layernorm_forward,
    .layernorm_backward = layernorm_backward,
    .rmsnorm_forward = rmsnorm_forward,
    .rmsnorm_backward = rmsnorm_backward,
    .row_sums = row_sums,
    .lane_product = lane_product,
    .attention_forward = attention_forward,
    .attention_backward = attention_backward,
    .rotate = rotate,
    .channel_sums = channel_sums,
    .channel_map = channel_map,
    .lstm_forward = lstm_forward,
    .lstm_backward = lstm_backward,
    .maximum = maximum,
    .take_maximum = take_maximum,
    .cross_entropy = cross_entropy,
    .binary_cross_entropy = binary_cross_entropy,
    .squared_error = squared_error,
    .divergence = divergence,
    .binary_divergence = binary_divergence,
    .adam = adam,
    .sgd = sgd,
    .sum_of_squares = sum_of_squares,
    .slab_from_rows = slab_from_rows,
    .panels_from_slab = panels_from_slab,
    .rows_from_slab = rows_from_slab,
    .philox_words = philox_words,
    .dropout_mask = dropout_mask,
    .elementary = elementary,
    .multiply_adds = multiply_adds,
};

// A build for inference alone does not name what training does, so that the linker leaves it out.
constexpr Kernels of_this_build(Kernels k) {
#if ALEXANDRA_INFERENCE_ONLY
    k.relu_backward = nullptr, k.softmax_backward = nullptr, k.layernorm_backward = nullptr;
    k.rmsnorm_backward = nullptr, k.attention_backward = nullptr, k.lstm_backward = nullptr;
    k.row_sums = nullptr, k.channel_sums = nullptr, k.take_maximum = nullptr, k.panels_from_slab = nullptr;
    k.cross_entropy = nullptr, k.binary_cross_entropy = nullptr, k.squared_error = nullptr;
    k.divergence = nullptr, k.binary_divergence = nullptr, k.dropout_mask = nullptr;
    k.adam = nullptr, k.sgd = nullptr, k.sum_of_squares = nullptr;
#endif
    return k;
}

constexpr Kernels kTable = of_this_build(kAll);
}  // namespace

const Kernels& table() { return kTable; }

}  // namespace alexandra::ALEXANDRA_ISA
