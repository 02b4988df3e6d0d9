// Optimiser steps over n floats, n a multiple of 16 (padding has gradient 0 and stays 0).

// 1 / x for 1e-37 < x within 2 units in the last place: three Newton steps from a guess by the exponent, because
// the divider is already busy with the square root. Beyond 1e37 it is that of 1e37.
static inline V reciprocal(V x) {
    x = vmin(splat(1e37f), x);
    V y = floats(0x7ef311c7 - bits(x));
    for (int i = 0; i < 3; ++i) y = fma(y, fnma(x, y, splat(1.0f)), y);
    return y;
}

#if defined(__AVX512F__)
// The square root by Newton steps from a guess, correctly rounded for 2^-96 <= x <= 2^96: a test goes through all
// mantissas. Every other vector takes it, because the divider is busy for as long as the rest of two vectors takes.
static inline V root_by_steps(V x) {
    const V y = _mm512_maskz_rsqrt14_ps(0xffff, x);
    V s = x * y, h = y * 0.5f;
    const V e = fnma(s, h, splat(0.5f));
    s = fma(s, e, s);
    h = fma(h, e, h);
    return fma(fnma(s, s, x), h, s);
}

static inline bool stepping_range(V x) {
    const __m512i above = (__m512i)(bits(x) - 0x0f800000);  // 2^-96; x is not negative
    return _mm512_cmp_epu32_mask(above, _mm512_set1_epi32(0x60000000), _MM_CMPINT_LE) == 0xffff;
}

static inline V other_root(V x) { return __builtin_expect(stepping_range(x), 1) ? root_by_steps(x) : root(x); }
#else
static inline V other_root(V x) { return root(x); }
#endif

// The settings are copied into registers: `w` may alias them as far as the compiler knows.
template <bool kL1>
static void adam_steps(size_t n, float* w, const float* g, float* m, float* v, const AdamStep& s) {
    const V beta1 = splat(s.beta1), rest1 = splat(s.one_minus_beta1), beta2 = splat(s.beta2);
    const V rest2 = splat(s.one_minus_beta2), rate = splat(s.rate), inverse_root = splat(s.inverse_root);
    const V eps = splat(s.eps), keep = splat(s.keep), l2 = splat(s.l2), scale = splat(s.scale), l1 = splat(s.l1);
    auto step = [&](size_t i, auto root_of) ALEXANDRA_INLINE_LAMBDA {
        const V weight = load(w + i);
        const V grad = fma(l2, weight, load(g + i) * scale);
        const V first = fma(load(m + i), beta1, grad * rest1);
        const V second = fma(load(v + i), beta2, grad * grad * rest2);
        const V denominator = fma(root_of(second), inverse_root, eps);
        store(m + i, first);
        store(v + i, second);
        V kept = weight * keep;
        if constexpr (kL1) kept -= weight > V{} ? l1 : weight < V{} ? -l1 : V{};
        store(w + i, fnma(first * rate, reciprocal(denominator), kept));
    };
    size_t i = 0;
    for (; i + 2 * W <= n; i += 2 * W) {
        step(i, root);
        step(i + W, other_root);
    }
    if (i < n) step(i, root);
}

static void adam(size_t n, float* w, const float* g, float* m, float* v, const AdamStep& s) {
    s.l1 > 0 ? adam_steps<true>(n, w, g, m, v, s) : adam_steps<false>(n, w, g, m, v, s);
}

static void sgd(size_t n, float* w, const float* g, float* m, const SgdStep& s) {
    for (size_t i = 0; i < n; i += W) {
        const V weight = load(w + i);
        V step = fma(splat(s.l2), weight, load(g + i) * s.scale);
        if (m) {
            step = fma(load(m + i), splat(s.momentum), step);
            store(m + i, step);
        }
        store(w + i, fnma(step, splat(s.rate), weight));
    }
}

static float sum_of_squares(size_t n, const float* x) {
    alignas(64) float s[kStripes] = {};
    V acc[kStripes / W];
    for (int j = 0; j < kStripes / W; ++j) acc[j] = V{};
    for (size_t i = 0; i < n; i += kStripes)
        for (int j = 0; j < kStripes / W; ++j) {
            const V v = load(x + i + j * W);
            acc[j] = fma(v, v, acc[j]);
        }
    for (int j = 0; j < kStripes / W; ++j) store(s + j * W, acc[j]);
    return tree(s);
}
