// The kernels of AVX-512 with large products on matrix tiles (AMX), which multiply bfloat16 and add in float32.
//
// A float is the exact sum of three bfloat16 numbers: the first eight bits of its significand, the next, the last. Of
// the nine products of two floats' pieces the six largest are added; the others are below 2^-21 of the whole. Pieces
// below 2^-126 count as 0: a number under 2^-110 loses its last bits. A sum over k is cut into passes of nearly equal
// length, whose sums are added in order; it does not depend on the rows, the columns or the range of m that a call was
// given. Henry, Tang and Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
// computations", 2019.

#include <immintrin.h>

#include <algorithm>
#include <utility>

#include "kernels.h"

namespace alexandra {

namespace avx512 {
const Kernels& table();
}

namespace amx {
namespace {
#include "../kernels/simd.inl"
#include "../kernels/tile_config.inl"

constexpr int kSide = kTileSide, kStep = 32;   // rows and columns of a tile of C; k of a tile of A or B
constexpr ptrdiff_t kTile = kSide * kStep;     // bfloat16 numbers of a tile
enum Piece { kHigh, kMiddle, kLow, kPieces };  // the tiles of a step, in this order
constexpr ptrdiff_t kStepSize = kPieces * kTile;
constexpr int kSumStride = 2 * kSide;
static_assert(kTileStepFloats * 2 == kStepSize);

// Tiles 0 .. 3: sums [2][2]; 4, 5: two strips of A, a row for each m; 6, 7: two columns of B, a row for each two of k.
void configure_tiles() {
    TileConfig config;
    for (int t = 0; t < 8; ++t) config.rows[t] = kSide, config.column_bytes[t] = 64;
    config.load();
}

// --- floats to pieces -------------------------------------------------------------------------------------------

typedef uint32_t U __attribute__((vector_size(64)));
ALEXANDRA_INLINE I high_bits(V x) { return bits(x) & int32_t(0xffff0000); }

// Calls put(piece, x, y) with what is left of x and y after the pieces before.
template <typename Put>
ALEXANDRA_INLINE void split(V x, V y, Put put) {
    unroll<kPieces>([&](auto piece) ALEXANDRA_INLINE_LAMBDA {
        put(piece, x, y);
        if constexpr (piece < kLow) x -= floats(high_bits(x)), y -= floats(high_bits(y));
    });
}

// 16 rows of A from row m on, of k .. k + 31 below `end`: a step of a strip. What is beyond counts as 0.
void split_strip(const Product& p, int m, int k, int end, uint16_t* to) {
    alignas(64) static const uint16_t kUpper[32] = {1,  3,  5,  7,  9,  11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31,
                                                    33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    const __m512i upper = _mm512_load_si512(kUpper);
    const int rows = std::min(p.m - m, kSide);
    V halves[2][kSide];
    for (int half = 0; half < 2; ++half, k += W) {
        V(&t)[kSide] = halves[half];
        const int count = std::clamp(end - k, 0, W);
        const float* a = p.a + m * p.a_m + k / p.segment * p.a_segment + k % p.segment * p.a_k;
        if (p.a_k == 1) {
            for (int r = 0; r < kSide; ++r) t[r] = r < rows && count ? load_first(a + r * p.a_m, count) : V{};
        } else {
            for (int j = 0; j < kSide; ++j) t[j] = j < count ? load_first(a + j * p.a_k, rows) : V{};
            transpose(t);
        }
    }
    for (int r = 0; r < kSide; ++r, to += kStep)
        split(halves[0][r], halves[1][r], [&](auto piece, V x, V y) ALEXANDRA_INLINE_LAMBDA {
            _mm512_store_si512(to + piece * kTile, _mm512_permutex2var_epi16((__m512i)x, upper, (__m512i)y));
        });
}

// 16 columns of B, of k .. k + 31 below `end`.
void split_column(const float* b, ptrdiff_t b_k, int k, int end, uint16_t* to) {
    for (int last = k + kStep; k < last; k += 2, to += kStep) {
        const V first = k < end ? load(b + k * b_k) : V{}, second = k + 1 < end ? load(b + (k + 1) * b_k) : V{};
        split(first, second, [&](auto piece, V x, V y) ALEXANDRA_INLINE_LAMBDA {
            _mm512_store_si512(to + piece * kTile, (__m512i)((U)x >> 16 | (U)high_bits(y)));
        });
    }
}

// --- tiles ------------------------------------------------------------------------------------------------------

// M strips of A and N columns of B, whose steps follow one another from a and b on; the neighbour is `next` further on.
template <int M, int N>
struct Tiles {
    const uint16_t *a, *b;
    ptrdiff_t next;

    // A tile that all its sums have read is loaded anew while the others go on.
    ALEXANDRA_INLINE void add_then_b(ptrdiff_t at) const {
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (M > 1) _tile_dpbf16ps(2, 5, 6);
        _tile_loadd(6, b + at, 64);
        if constexpr (N > 1) {
            _tile_dpbf16ps(1, 4, 7);
            if constexpr (M > 1) _tile_dpbf16ps(3, 5, 7);
            _tile_loadd(7, b + next + at, 64);
        }
    }
    ALEXANDRA_INLINE void add_then_a(ptrdiff_t at) const {
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (N > 1) _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(4, a + at, 64);
        if constexpr (M > 1) {
            _tile_dpbf16ps(2, 5, 6);
            if constexpr (N > 1) _tile_dpbf16ps(3, 5, 7);
            _tile_loadd(5, a + next + at, 64);
        }
    }
    ALEXANDRA_INLINE void load_a(ptrdiff_t at) const {
        _tile_loadd(4, a + at, 64);
        if constexpr (M > 1) _tile_loadd(5, a + next + at, 64);
    }

    // The sums over `steps`. Loads at the end read what follows in the scratch, to no effect.
    ALEXANDRA_INLINE void sum(int steps) {
        __asm__ volatile("" : : : "memory");  // GCC 12 does not know that tiles are read from memory
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
        load_a(kHigh * kTile);
        _tile_loadd(6, b + kLow * kTile, 64);
        if constexpr (N > 1) _tile_loadd(7, b + next + kLow * kTile, 64);
        for (int s = 0; s < steps; ++s, a += kStepSize, b += kStepSize) {
            add_then_b(kHigh * kTile);
            add_then_a(kLow * kTile);
            add_then_a(kMiddle * kTile);
            add_then_b(kMiddle * kTile);
            add_then_a(kHigh * kTile);
            add_then_b(kStepSize + kLow * kTile);
            load_a(kStepSize + kHigh * kTile);
        }
    }

    ALEXANDRA_INLINE void store(float* first, float* second, ptrdiff_t stride) const {
        const ptrdiff_t bytes = stride * ptrdiff_t(sizeof(float)), down = kSide * stride;
        _tile_stored(0, first, bytes);
        if constexpr (N > 1) _tile_stored(1, second, bytes);
        if constexpr (M > 1) _tile_stored(2, first + down, bytes);
        if constexpr (M > 1 && N > 1) _tile_stored(3, second + down, bytes);
    }
};

// --- a product --------------------------------------------------------------------------------------------------

// A pass over k, and the scratch of a call: strips of A, two columns of B, the sums of a block of tiles.
struct Pass {
    const Product& p;
    int k, end, steps;
    uint16_t *strips, *columns;
    float* sums;

    bool first() const { return k == 0; }
    bool last() const { return end == p.k; }
    ptrdiff_t size() const { return steps * kStepSize; }
    // Whether sums go to C as they are.
    bool plain() const { return first() && last() && !p.accumulate && !p.start && !p.relu && !p.gate; }

    // Where column tile `number` of a matrix begins.
    template <typename T>
    T* column(T* matrix, ptrdiff_t block, int number) const {
        const int tiles = p.n / kSide;
        return matrix + number / tiles * block + number % tiles * kSide;
    }

    // Sums of rows m .. m + 15 of a column, to C.
    void finish(const float* from, int m, float* c) const {
        for (int row = m; row < std::min(m + kSide, p.m); ++row, from += kSumStride) {
            float* at = c + row * p.c_m;
            V x = load(from);
            if (p.accumulate || !first())
                x += load(at);
            else if (p.start)
                x += splat(p.start[row]);
            if (last() && p.relu) x = x > 0.0f ? x : V{};
            if (last() && p.gate) x = load(p.gate + (at - p.c)) > 0.0f ? x : V{};
            store(at, x);
        }
    }

    // M strips from row m on, which lie at `a`, against N columns.
    template <int M, int N>
    void block(const uint16_t* a, int m, float* c0, float* c1) const {
        Tiles<M, N> tiles{a, columns, size()};
        tiles.sum(steps);
        if (plain() && m + M * kSide <= p.m) return tiles.store(c0 + m * p.c_m, c1 + m * p.c_m, p.c_m);
        tiles.store(sums, sums + kSide, kSumStride);
        for (int i = 0; i < M; ++i) {
            finish(sums + i * kSide * kSumStride, m + i * kSide, c0);
            if (N > 1) finish(sums + i * kSide * kSumStride + kSide, m + i * kSide, c1);
        }
    }

    template <int N>
    void against(int from, int to, int number) const {
        float *c0 = column(p.c, p.c_block, number), *c1 = column(p.c, p.c_block, number + N - 1);
        for (int i = 0; i < N; ++i)
            for (int s = 0; s < steps; ++s)
                split_column(column(p.b, p.b_block, number + i), p.b_k, k + s * kStep, end,
                             columns + i * size() + s * kStepSize);
        const uint16_t* a = strips;
        int m = from;
        for (; m + kSide < to; m += 2 * kSide, a += 2 * size()) block<2, N>(a, m, c0, c1);
        if (m < to) block<1, N>(a, m, c0, c1);
    }

    void rows(int from, int to) const {
        const auto split = [&](int s, int m) {
            split_strip(p, m, k + s * kStep, end, strips + (m - from) / kSide * size() + s * kStepSize);
        };
        if (p.a_k == 1 && p.segment >= p.k)  // as A lies in memory
            for (int m = from; m < to; m += kSide)
                for (int s = 0; s < steps; ++s) split(s, m);
        else
            for (int s = 0; s < steps; ++s)
                for (int m = from; m < to; m += kSide) split(s, m);
        const int count = p.blocks * (p.n / kSide);
        for (int number = 0; number + 1 < count; number += 2) against<2>(from, to, number);
        if (count % 2) against<1>(from, to, count - 1);
    }
};

void product(const Product& p) {
    if (!p.scratch) return avx512::table().product(p);
    const int all = (p.k + kStep - 1) / kStep, passes = (all + kTileSteps - 1) / kTileSteps;
    const int most = passes ? (all + passes - 1) / passes : 0;
    auto* strips = reinterpret_cast<uint16_t*>(p.scratch);
    uint16_t* columns = strips + (std::min(p.m, kTileRows) + 2 * kSide - 1) / kSide * most * kStepSize;
    auto* sums = reinterpret_cast<float*>(columns + 2 * most * kStepSize);
    configure_tiles();
    for (int k = 0; k < p.k; k += most * kStep) {
        const int end = std::min(p.k, k + most * kStep);
        const Pass pass{p, k, end, (end - k + kStep - 1) / kStep, strips, columns, sums};
        for (int m = 0; m < p.m; m += kTileRows) pass.rows(m, std::min(p.m, m + kTileRows));
    }
    _tile_release();
}

Kernels with_tiles(Kernels kernels) {
    kernels.isa = "amx", kernels.product = product;
    return kernels;
}

}  // namespace

const Kernels& table() {
    static const Kernels kernels = with_tiles(avx512::table());
    return kernels;
}

}  // namespace amx
}  // namespace alexandra
