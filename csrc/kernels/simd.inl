// Vectors of one instruction set: GCC's vector extension at the native width, and the few operations that it
// has no spelling for (fused multiply-add, square root). Included inside the namespace of the instruction set.

#if defined(__AVX512F__)
#define ALEXANDRA_WIDTH 16
constexpr bool kFused = true;
#elif defined(__AVX2__) && defined(__FMA__)
#define ALEXANDRA_WIDTH 8
constexpr bool kFused = true;
#elif defined(__aarch64__)
#define ALEXANDRA_WIDTH 4
constexpr bool kFused = true;
#else
#define ALEXANDRA_WIDTH 4
constexpr bool kFused = false;
#endif

#define ALEXANDRA_INLINE inline __attribute__((always_inline))
#define ALEXANDRA_INLINE_LAMBDA __attribute__((always_inline))

constexpr int W = ALEXANDRA_WIDTH;
typedef float V __attribute__((vector_size(4 * ALEXANDRA_WIDTH)));
typedef int32_t I __attribute__((vector_size(4 * ALEXANDRA_WIDTH)));

static inline V load(const float* p) { return *reinterpret_cast<const V*>(p); }
static inline void store(float* p, V x) { *reinterpret_cast<V*>(p) = x; }

static inline V splat(float x) {
#if defined(__AVX512F__)
    return _mm512_set1_ps(x);
#elif defined(__AVX2__)
    return _mm256_set1_ps(x);
#else
    return V{x, x, x, x};
#endif
}

static inline V fma(V a, V b, V c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
    return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
    return (V)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

// c - a * b, fused like fma.
static inline V fnma(V a, V b, V c) {
#if defined(__AVX512F__)
    return _mm512_fnmadd_ps(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
    return _mm256_fnmadd_ps(a, b, c);
#elif defined(__aarch64__)
    return (V)vfmsq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return c - a * b;
#endif
}

static inline V root(V x) {
#if defined(__AVX512F__)
    return _mm512_maskz_sqrt_ps(0xffff, x);  // the unmasked spelling warns in GCC 12
#elif defined(__AVX2__)
    return _mm256_sqrt_ps(x);
#elif defined(__SSE2__)
    return _mm_sqrt_ps(x);
#elif defined(__aarch64__)
    return (V)vsqrtq_f32((float32x4_t)x);
#else
    V y;
    for (int i = 0; i < W; ++i) y[i] = __builtin_sqrtf(x[i]);
    return y;
#endif
}

// Where the comparison is unordered (NaN), the second argument of max and min comes out.
static inline V vmax(V a, V b) { return a > b ? a : b; }
static inline V vmin(V a, V b) { return a < b ? a : b; }
static inline I bits(V x) { return reinterpret_cast<I>(x); }
static inline V floats(I x) { return reinterpret_cast<V>(x); }
static inline V absolute(V x) { return floats(bits(x) & 0x7fffffff); }

// Nearest integer for |x| < 2^22, as float; `round_bits(r)` of the shifted value gives it as an integer.
constexpr float kShift = 12582912.0f;  // 1.5 * 2^23
static inline V shifted(V x) { return x + kShift; }

// f(0), f(1) ... f(N - 1) with constants for arguments.
template <int I>
struct Index {
    constexpr operator int() const { return I; }
};
template <typename F, int... I>
static ALEXANDRA_INLINE void unroll_each(F&& f, std::integer_sequence<int, I...>) {
    (f(Index<I>{}), ...);
}
template <int N, typename F>
static ALEXANDRA_INLINE void unroll(F&& f) {
    unroll_each(f, std::make_integer_sequence<int, N>{});
}

typedef V Unaligned __attribute__((aligned(4)));
static inline V load_any(const float* p) { return *reinterpret_cast<const Unaligned*>(p); }
static inline void store_any(float* p, V x) { *reinterpret_cast<Unaligned*>(p) = x; }

// The first `count` <= W floats at p, then zeros; nothing beyond them is touched.
static inline V load_first(const float* p, int count) {
#if defined(__AVX512F__)
    return _mm512_maskz_loadu_ps(__mmask16((1u << count) - 1u), p);
#else
    V x = {};
    for (int i = 0; i < count; ++i) x[i] = p[i];
    return x;
#endif
}

static inline void store_first(float* p, V x, int count) {
#if defined(__AVX512F__)
    _mm512_mask_storeu_ps(p, __mmask16((1u << count) - 1u), x);
#else
    for (int i = 0; i < count; ++i) p[i] = x[i];
#endif
}

// Transposes W vectors of W floats: blocks of 1, 2, 4, ... change sides with their neighbours.
template <int S, int... J>
static ALEXANDRA_INLINE void swap_blocks(V& a, V& b, std::integer_sequence<int, J...>) {
    const V low = __builtin_shuffle(a, b, I{((J & S) ? W + J - S : J)...});
    b = __builtin_shuffle(a, b, I{((J & S) ? W + J : J + S)...});
    a = low;
}

template <int S>
static ALEXANDRA_INLINE void transpose_from(V (&t)[W]) {
    if constexpr (S < W) {
        unroll<W>([&](auto r) ALEXANDRA_INLINE_LAMBDA {
            if constexpr (!(r & S)) swap_blocks<S>(t[r], t[r + S], std::make_integer_sequence<int, W>{});
        });
        transpose_from<2 * S>(t);
    }
}

static ALEXANDRA_INLINE void transpose(V (&t)[W]) { transpose_from<1>(t); }

// s[j] += s[j + 8], then 4, 2, 1: the one tree of every striped sum.
static inline float tree(float* s) {
    for (int half = kStripes / 2; half; half /= 2)
        for (int j = 0; j < half; ++j) s[j] += s[j + half];
    return s[0];
}
