// The kernels of generation, per instruction set, as a table of functions over row-major activations.
//
// Layout. A value is [rows][stride] floats, a row per token, stride a multiple of 32; what lies
// beyond the width is never used.
// A weight matrix [n][k] is packed into panels of columns of the result, so that a kernel reads it once, in order:
//   F32, F16  [panel of 32][k][32]                BF16  [panel of 32][k / 2, rounded up][32][2]
//   Q8_0      [panel of 16][k / 32]{16 half scales, [8][16][4] bytes}: bytes 4 g .. 4 g + 3 of a block side by side
//   Q4_0      [panel of 16][k / 32]{16 half scales, [4][16][4] bytes}: the block's own bytes, nibbles as in ggml
// Columns that do not exist are zero. Packing only moves bytes.
//
// Arithmetic. F32, F16: result = bias, then fused multiply-adds over k in order. BF16: activations are rounded to
// bfloat16; of each pair the odd product is added first (as VDPBF16PS does). Q8_0, Q4_0: activations are quantised
// to blocks of 32 with a float32 scale, for Q4_0 to signed bytes, for Q8_0 to 16 bits (256 high + low), lest their
// rounding cost more than the weights' own; the integer sum of a block is exact, and the blocks are added in order:
// result = fma(float(sum), d_w * d_x, result). A row's result never depends on the other rows, on the
// panel's neighbours, or on the threads.
#pragma once

#include <cstddef>
#include <cstdint>

namespace alexandra {

enum class TensorType : uint32_t { f32 = 0, f16 = 1, q4_0 = 2, q8_0 = 8, bf16 = 30 };

constexpr int kBlock = 32;  // values of a quantised block
constexpr int kRowFloats = 32;  // what strides of activations are multiples of

constexpr int panel_columns(TensorType type) {
    return type == TensorType::q4_0 || type == TensorType::q8_0 ? 16 : 32;
}
constexpr size_t packed_panel_bytes(TensorType type, size_t k) {
    switch (type) {
        case TensorType::f32: return k * 32 * 4;
        case TensorType::f16: return k * 32 * 2;
        case TensorType::bf16: return (k + 1) / 2 * 32 * 4;
        case TensorType::q8_0: return k / kBlock * 16 * 34;
        default: return k / kBlock * 16 * 18;
    }
}

// Rows made ready for one type of weights: floats, bfloat16, or blocks of bytes with scales and sums.
struct Activations {
    int rows, k;
    const float* x;
    ptrdiff_t stride;
    uint16_t* halves;  // [rows][half_stride], pairs
    ptrdiff_t half_stride;
    int8_t* bytes;  // [rows][byte_stride]
    int8_t* low;    // likewise, for Q8_0
    ptrdiff_t byte_stride;
    float* scales;  // [rows][blocks]
    int32_t* sums;  // [rows][blocks]
    ptrdiff_t blocks;
};

// y[row][column] = bias + x w, for the panels first .. last - 1.
struct MatmulCall {
    TensorType type;
    const uint8_t* packed;
    int first, last;
    const float* bias;  // padded like a row, or null
    float* y;
    ptrdiff_t y_stride;
    void* scratch;  // kMatmulScratch bytes of this thread
};
constexpr size_t kMatmulScratchK = 16 * 32;  // bytes of scratch per block of k, beyond a fixed part
constexpr size_t kMatmulScratch = 4096;

// Attention of `queries` rows of one sequence and one key-value head over its cache.
// Keys [position / 16][head_dim][16], values [position][value_stride]. Query i sees positions max(0, at - window + 1)
// .. at, where at = `position` + i / group; group = query heads that share the key-value head.
struct AttendCall {
    int queries, group, head_dim, value_dim, position, window;  // window 0: all
    float scale, softcap;
    const float* keys;
    const float* values;
    ptrdiff_t value_stride;
    const float* q;  // row i / group, head i % group
    ptrdiff_t q_stride;
    float* out;
    ptrdiff_t out_stride;
    float* scores;  // [queries][score_stride]
    ptrdiff_t score_stride;
};

enum class Pointwise { relu, leaky_relu, elu, gelu, silu, sigmoid, softplus, tanh, gelu_tanh };

struct DecodeKernels {
    const char* isa;
    bool fused, amx;
    void (*prepare)(TensorType, const Activations&, int first, int last);  // rows first .. last - 1
    void (*matmul)(const MatmulCall&, const Activations&);
    void (*rmsnorm)(int rows, int width, const float* x, ptrdiff_t x_stride, const float* gain, float* y,
                    ptrdiff_t y_stride, float eps);
    void (*layernorm)(int rows, int width, const float* x, ptrdiff_t x_stride, const float* gain, const float* bias,
                      float* y, ptrdiff_t y_stride, float eps);
    void (*attend)(const AttendCall&);
    void (*pointwise)(Pointwise, size_t n, const float* x, float* y, float a);
    void (*multiply)(size_t n, const float* a, const float* b, float* y);
    void (*add)(size_t n, const float* a, const float* b, float* y);
    void (*scale)(size_t n, const float* x, float a, float* y);
    void (*softmax)(int width, const float* x, float* y);
    // The lowest index of the largest of n values; NaN anywhere gives -1.
    int (*argmax)(int n, const float* x);
    // log of the sum of exp(x)
    float (*log_sum_exp)(int n, const float* x);
};

// Sets of instructions that are compiled in and present, best first; and the kernels of one ("" for the best, or
// what the environment variable ALEXANDRA_ISA names). Throws Error for a name that is not available.
const DecodeKernels& choose_decode_kernels(const char* isa);
const DecodeKernels* const* available_decode_kernels(int* count);

}  // namespace alexandra
