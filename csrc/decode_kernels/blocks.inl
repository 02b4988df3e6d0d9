// Products with Q8_0 and Q4_0 weights, fused: blocks are unpacked in registers and multiplied as integers.
// The weights' bytes meet four bytes of x in each 32-bit lane; a lane is a column of the result.

// Q4_0: acc + nibbles (unsigned) . x, minus 8 x by the start value. Q8_0 with VNNI: bytes + 128, minus 128 x.
#if defined(__AVX512VNNI__)
constexpr int kOffset8 = 128;
static ALEXANDRA_INLINE I dot_nibbles(I acc, I w, int32_t x) {
    return (I)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, _mm512_set1_epi32(x));
}
static ALEXANDRA_INLINE I dot_bytes(I acc, I w, int32_t x) { return dot_nibbles(acc, w, x); }
#else
constexpr int kOffset8 = 0;
static ALEXANDRA_INLINE I dot_bytes(I acc, I w, int32_t x) {
#if defined(__AVX512BW__)
    const __m512i xs = _mm512_set1_epi32(x), v = (__m512i)w;
    const __m512i even = _mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8), odd = _mm512_srai_epi16(v, 8);
    const __m512i x_even = _mm512_srai_epi16(_mm512_slli_epi16(xs, 8), 8), x_odd = _mm512_srai_epi16(xs, 8);
    return acc + (I)_mm512_madd_epi16(even, x_even) + (I)_mm512_madd_epi16(odd, x_odd);
#elif defined(__AVX2__)
    const __m256i xs = _mm256_set1_epi32(x), v = (__m256i)w;
    const __m256i even = _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8), odd = _mm256_srai_epi16(v, 8);
    const __m256i x_even = _mm256_srai_epi16(_mm256_slli_epi16(xs, 8), 8), x_odd = _mm256_srai_epi16(xs, 8);
    return acc + (I)_mm256_madd_epi16(even, x_even) + (I)_mm256_madd_epi16(odd, x_odd);
#else
    for (int i = 0; i < 4; ++i) acc += ((w << (24 - 8 * i)) >> 24) * int32_t(int8_t(uint32_t(x) >> 8 * i));
    return acc;
#endif
}
static ALEXANDRA_INLINE I dot_nibbles(I acc, I w, int32_t x) {
#if defined(__AVX512BW__)
    const __m512i pairs = _mm512_maddubs_epi16((__m512i)w, _mm512_set1_epi32(x));
    return acc + (I)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#elif defined(__AVX2__)
    const __m256i pairs = _mm256_maddubs_epi16((__m256i)w, _mm256_set1_epi32(x));
    return acc + (I)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#else
    return dot_bytes(acc, w, x);
#endif
}
#endif

template <TensorType type>
constexpr int kPanelBlock = type == TensorType::q4_0 ? 16 * 18 : 16 * 34;  // bytes of a panel's block
template <TensorType type>
constexpr int kOffset = type == TensorType::q4_0 ? 8 : kOffset8;

// The eight groups of four bytes of the block at `b` (past its scales), for columns [W g, W g + W).
template <TensorType type>
static ALEXANDRA_INLINE void unpack(const uint8_t* b, int g, I (&w)[8]) {
    if constexpr (type == TensorType::q4_0)
        unroll<4>([&](auto j) ALEXANDRA_INLINE_LAMBDA {
            const I both = ints(b + j * 64 + g * 4 * W);
            w[j] = both & 0x0f0f0f0f;
            w[j + 4] = (both >> 4) & 0x0f0f0f0f;
        });
    else
        unroll<8>([&](auto j) ALEXANDRA_INLINE_LAMBDA {
            w[j] = ints(b + j * 64 + g * 4 * W);
            if constexpr (kOffset8 != 0) w[j] ^= int32_t(0x80808080);
        });
}

template <TensorType type, int T>
static void block_tile(const MatmulCall& c, const Activations& x, int row, int panel) {
    const int blocks = x.k / kBlock;
    const uint8_t* w = c.packed + size_t(panel) * size_t(blocks) * kPanelBlock<type>;
    V acc[kGroups][T];
    for (int g = 0; g < kGroups; ++g)
        for (int t = 0; t < T; ++t) acc[g][t] = c.bias ? load(c.bias + panel * 16 + g * W) : V{};
    const int8_t* bytes = x.bytes + row * x.byte_stride;
    [[maybe_unused]] const int8_t* low = x.low + row * x.byte_stride;
    const float* scales = x.scales + row * x.blocks;
    const int32_t* sums = x.sums + row * x.blocks;
    for (int b = 0; b < blocks; ++b, w += kPanelBlock<type>) {
        if constexpr (T == 1)
            for (int line = 0; line < kPanelBlock<type>; line += 64) __builtin_prefetch(w + 2048 + line);
        for (int g = 0; g < kGroups; ++g) {
            const V scale_w = halves(w + g * 2 * W);
            I unpacked[8];
            unpack<type>(w + 32, g, unpacked);
            unroll<T>([&](auto t) ALEXANDRA_INLINE_LAMBDA {
                int32_t start = -kOffset<type> * sums[t * x.blocks + b];
                I sum = I{} + start;
                const ptrdiff_t at = t * x.byte_stride + b * kBlock;
                [[maybe_unused]] I high = {};
                unroll<8>([&](auto j) ALEXANDRA_INLINE_LAMBDA {
                    int32_t four, rest;
                    __builtin_memcpy(&four, bytes + at + 4 * j, 4);
                    if constexpr (type == TensorType::q4_0) {
                        sum = dot_nibbles(sum, unpacked[j], four);
                    } else {
                        __builtin_memcpy(&rest, low + at + 4 * j, 4);
                        high = dot_bytes(high, unpacked[j], four);
                        sum = dot_bytes(sum, unpacked[j], rest);
                    }
                });
                if constexpr (type == TensorType::q8_0) sum += high << 8;
                acc[g][t] = fma(__builtin_convertvector(sum, V), scale_w * splat(scales[t * x.blocks + b]), acc[g][t]);
            });
        }
    }
    for (int g = 0; g < kGroups; ++g)
        for (int t = 0; t < T; ++t) store(c.y + (row + t) * c.y_stride + panel * 16 + g * W, acc[g][t]);
}

constexpr int kTileRowsBlock = ALEXANDRA_WIDTH == 16 ? 8 : 4;
typedef void (*BlockTile)(const MatmulCall&, const Activations&, int, int);
template <TensorType type, typename>
struct BlockTable;
template <TensorType type, int... T>
struct BlockTable<type, std::integer_sequence<int, T...>> {
    static constexpr BlockTile tiles[] = {block_tile<type, T + 1>...};
};

template <TensorType type>
static void multiply_blocks(const MatmulCall& c, const Activations& x) {
    typedef BlockTable<type, std::make_integer_sequence<int, kTileRowsBlock>> Table;
    const int tiles = (x.rows + kTileRowsBlock - 1) / kTileRowsBlock;
    for (int panel = c.first; panel < c.last; ++panel)
        for (int t = 0, row = 0; t < tiles; ++t) {
            const int height = x.rows / tiles + (t < x.rows % tiles);
            Table::tiles[height - 1](c, x, row, panel);
            row += height;
        }
}
