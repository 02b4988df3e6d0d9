// Products with F32, F16 and BF16 weights: tiles of T rows by P panels of 32 columns, k in order.

constexpr int kVectors = 32 / W;  // of one row of a panel

#if ALEXANDRA_WIDTH == 16
constexpr int kTileRowsFloat = 12;
#elif ALEXANDRA_WIDTH == 8
constexpr int kTileRowsFloat = 3;
#else
constexpr int kTileRowsFloat = 1;
#endif

static ALEXANDRA_INLINE float one_half(uint16_t h) {
    const uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 0x1f, fraction = h & 0x3ff;
    if (exponent == 0x1f) return __builtin_bit_cast(float, sign | 0x7f800000u | fraction << 13);
    if (exponent) return __builtin_bit_cast(float, sign | (exponent + 112) << 23 | fraction << 13);
    const float small = float(int(fraction)) * 0x1p-24f;
    return sign ? -small : small;
}

// W half-precision numbers at p, any alignment.
static ALEXANDRA_INLINE V halves(const void* p) {
#if defined(__AVX512F__)
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(static_cast<const __m256i*>(p)));
#elif defined(__F16C__)
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
#else
    V v;
    for (int i = 0; i < W; ++i) {
        uint16_t h;
        __builtin_memcpy(&h, static_cast<const char*>(p) + 2 * i, 2);
        v[i] = one_half(h);
    }
    return v;
#endif
}

typedef I UnalignedI __attribute__((aligned(1)));
static ALEXANDRA_INLINE I ints(const void* p) { return *static_cast<const UnalignedI*>(p); }

// One vector of a panel's step of k, as it is multiplied: floats, or pairs of bfloat16.
template <TensorType type>
static ALEXANDRA_INLINE V step_weights(const uint8_t* w) {
    if constexpr (type == TensorType::f32) return load(reinterpret_cast<const float*>(w));
    if constexpr (type == TensorType::f16) return halves(w);
    if constexpr (type == TensorType::bf16) return floats(ints(w));
}

// acc += one step of k: `x` is splat, of a float or of a pair of bfloat16.
template <TensorType type>
static ALEXANDRA_INLINE V step_product(V acc, V w, V x) {
    if constexpr (type != TensorType::bf16) return fma(x, w, acc);
#if defined(__AVX512BF16__)
    return (V)_mm512_dpbf16_ps((__m512)acc, (__m512bh)w, (__m512bh)x);
#else
    const I high = I{} + int32_t(0xffff0000);
    acc = fma(floats(bits(x) & high), floats(bits(w) & high), acc);
    return fma(floats(bits(x) << 16), floats(bits(w) << 16), acc);
#endif
}

template <TensorType type>
constexpr int kVectorBytes = type == TensorType::f16 ? 2 * W : 4 * W;

template <TensorType type, int T, int P>
static void float_tile(const MatmulCall& c, const Activations& x, int row, int panel) {
    constexpr bool paired = type == TensorType::bf16;
    constexpr int bytes = kVectorBytes<type>;
    const size_t size = packed_panel_bytes(type, size_t(x.k));
    const uint8_t* w = c.packed + size_t(panel) * size;
    V acc[P][kVectors][T];
    unroll<P>([&](auto p) ALEXANDRA_INLINE_LAMBDA {
        unroll<kVectors>([&](auto v) ALEXANDRA_INLINE_LAMBDA {
            const V start = c.bias ? load(c.bias + (panel + p) * 32 + v * W) : V{};
            unroll<T>([&](auto t) ALEXANDRA_INLINE_LAMBDA { acc[p][v][t] = start; });
        });
    });
    const float* xs[T];
    const uint16_t* pairs[T];
    unroll<T>([&](auto t) ALEXANDRA_INLINE_LAMBDA {
        xs[t] = x.x + (row + t) * x.stride;
        if constexpr (paired) pairs[t] = x.halves + (row + t) * x.half_stride;
    });
    const int steps = paired ? (x.k + 1) / 2 : x.k;
    for (int k = 0; k < steps; ++k, w += kVectors * bytes) {
        V row[P][kVectors];
        unroll<P>([&](auto p) ALEXANDRA_INLINE_LAMBDA {
            unroll<kVectors>([&](auto v) ALEXANDRA_INLINE_LAMBDA {
                row[p][v] = step_weights<type>(w + p * size + v * bytes);
            });
        });
        unroll<T>([&](auto t) ALEXANDRA_INLINE_LAMBDA {
            V value;
            if constexpr (paired) {
                int32_t pair;
                __builtin_memcpy(&pair, pairs[t] + 2 * k, 4);
                value = floats(I{} + pair);
            } else {
                value = splat(xs[t][k]);
            }
            unroll<P>([&](auto p) ALEXANDRA_INLINE_LAMBDA {
                unroll<kVectors>([&](auto v) ALEXANDRA_INLINE_LAMBDA {
                    acc[p][v][t] = step_product<type>(acc[p][v][t], row[p][v], value);
                });
            });
        });
    }
    unroll<P>([&](auto p) ALEXANDRA_INLINE_LAMBDA {
        unroll<kVectors>([&](auto v) ALEXANDRA_INLINE_LAMBDA {
            unroll<T>([&](auto t) ALEXANDRA_INLINE_LAMBDA {
                store(c.y + (row + t) * c.y_stride + (panel + p) * 32 + v * W, acc[p][v][t]);
            });
        });
    });
}

typedef void (*FloatTile)(const MatmulCall&, const Activations&, int, int);
template <TensorType type, int T>
static void float_rows(const MatmulCall& c, const Activations& x, int row, int first, int last) {
    constexpr int P = kTileRowsFloat < 12 ? 1 : T <= 2 ? 4 : T <= 6 ? 2 : 1;  // what 32 registers hold
    int panel = first;
    for (; panel + P <= last; panel += P) float_tile<type, T, P>(c, x, row, panel);
    for (; panel < last; ++panel) float_tile<type, T, 1>(c, x, row, panel);
}

typedef void (*FloatRows)(const MatmulCall&, const Activations&, int, int, int);
template <TensorType type, typename>
struct FloatTable;
template <TensorType type, int... T>
struct FloatTable<type, std::integer_sequence<int, T...>> {
    static constexpr FloatRows rows[] = {float_rows<type, T + 1>...};
};

// Panels outside, so that a panel stays in the first-level cache while all rows use it.
template <TensorType type>
static void multiply_floats(const MatmulCall& c, const Activations& x) {
    typedef FloatTable<type, std::make_integer_sequence<int, kTileRowsFloat>> Table;
    const int tiles = (x.rows + kTileRowsFloat - 1) / kTileRowsFloat;
    const int span = tiles == 1 ? c.last - c.first : 1;
    for (int panel = c.first; panel < c.last; panel += span)
        for (int t = 0, row = 0; t < tiles; ++t) {
            const int height = x.rows / tiles + (t < x.rows % tiles);  // of nearly equal height
            Table::rows[height - 1](c, x, row, panel, panel + span);
            row += height;
        }
}
