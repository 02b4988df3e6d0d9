// Kernels of one instruction set for many networks side by side (population_kernels.h). CMake compiles this file
// once per set; as in kernels.cpp nothing but the table has external linkage.

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <utility>

#include "population_kernels.h"

#pragma GCC diagnostic ignored "-Wunused-function"  // the shared files hold more than is used here

namespace alexandra::ALEXANDRA_ISA {
namespace {
#include "simd.inl"
// simd.inl comes first: the others are written in its vectors.
#include "math.inl"
#include "norm.inl"
#include "optimizer.inl"
#include "population.inl"
#include "population_product.inl"
#include "random.inl"

#include "population_order.inl"

constexpr LaneKernels kTable = {
    .product = crew_product,
    .row_sums = lane_row_sums,
    .norm_forward = lane_norm_forward,
    .norm_backward = lane_norm_backward,
    .cross_entropy = lane_cross_entropy,
    .binary_cross_entropy = lane_binary_cross_entropy,
    .squared_error = lane_squared_error,
    .adam = lane_adam,
    .sgd = lane_sgd,
    .square_sums = lane_square_sums,
    .add_rows = lane_add_rows,
    .gather = lane_gather,
    .shuffle = lane_shuffle,
};
}  // namespace

const LaneKernels& lane_table() { return kTable; }

}  // namespace alexandra::ALEXANDRA_ISA
