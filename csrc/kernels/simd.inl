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

constexpr int W = ALEXANDRA_WIDTH;
typedef float V __attribute__((vector_size(4 * ALEXANDRA_WIDTH)));
typedef int32_t I __attribute__((vector_size(4 * ALEXANDRA_WIDTH)));

static inline V load(const float* p) { return *reinterpret_cast<const V*>(p); }
static inline void store(float* p, V x) { *reinterpret_cast<V*>(p) = x; }
static inline V splat(float x) { return V{} + x; }

static inline V fma(V a, V b, V c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
    return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
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
    return vsqrtq_f32(x);
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

// s[j] += s[j + 8], then 4, 2, 1: the one tree of every striped sum.
static inline float tree(float* s) {
    for (int half = kStripes / 2; half; half /= 2)
        for (int j = 0; j < half; ++j) s[j] += s[j + half];
    return s[0];
}
