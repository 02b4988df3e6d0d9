// Elementary functions on vectors, by range reduction and near-minimax polynomials (weighted least squares to
// convergence on Chebyshev points, coefficients rounded one by one). Tests compare them with float64.

// 2^n for integers -126 <= n <= 127 in the exponent field.
static inline V power_of_two(I n) { return floats((n + 127) << 23); }

// exp(x + tail) for a small tail. Overflows to infinity above 88.72, is 0 below -103.97; NaN stays NaN.
static inline V exp_with_tail(V x, V tail) {
    const V clamped = vmin(splat(89.0f), vmax(splat(-104.0f), x));
    const V n = shifted(clamped * 1.44269504f) - kShift;
    V r = fma(n, splat(-0.693359375f), clamped);  // ln 2 in two parts, the first with few bits
    r = fma(n, splat(2.12194440e-4f), r) + tail;
    V q = splat(0.0013943254f);
    q = fma(q, r, splat(0.00836939365f));
    q = fma(q, r, splat(0.0416663736f));
    q = fma(q, r, splat(0.166665152f));
    q = fma(q, r, splat(0.5f));
    const V p = fma(r * r, q, r) + 1.0f;
    const I whole = __builtin_convertvector(n, I), half = whole >> 1;
    return x == x ? p * power_of_two(half) * power_of_two(whole - half) : x;
}

static inline V vexp(V x) { return exp_with_tail(x, V{}); }

// exp(x) - 1 for x <= 0 without cancellation.
static inline V expm1_negative(V x) {
    V q = splat(2.4950139e-05f);
    q = fma(q, x, splat(0.000199650502f));
    q = fma(q, x, splat(0.00138886401f));
    q = fma(q, x, splat(0.00833317451f));
    q = fma(q, x, splat(0.0416666679f));
    q = fma(q, x, splat(0.166666672f));
    q = fma(q, x, splat(0.5f));
    return x > -0.5f ? fma(x * x, q, x) : vexp(x) - 1.0f;
}

// log(1 + f) for sqrt(1/2) - 1 <= f <= sqrt(2) - 1, plus e * ln 2.
static inline V log_reduced(V f, V e) {
    V p = splat(0.0691561252f);
    p = fma(p, f, splat(-0.117893703f));
    p = fma(p, f, splat(0.118726194f));
    p = fma(p, f, splat(-0.12384402f));
    p = fma(p, f, splat(0.142187163f));
    p = fma(p, f, splat(-0.166692495f));
    p = fma(p, f, splat(0.200022236f));
    p = fma(p, f, splat(-0.249999866f));
    p = fma(p, f, splat(0.333333105f));
    const V square = f * f;
    V r = fma(p * f, square, e * -2.12194440e-4f);
    r = fma(square, splat(-0.5f), r);
    return fma(e, splat(0.693359375f), f + r);
}

// Natural logarithm of normal positive numbers; 0 gives -inf, negative numbers NaN, infinity infinity.
static inline V vlog(V x) {
    const I raw = bits(x);
    I exponent = (raw >> 23) - 126;  // x = m * 2^exponent with m in [0.5, 1)
    V m = floats((raw & 0x007fffff) | 0x3f000000);
    const I low = m < 0.70710678f;
    m = low ? m + m : m;
    exponent = exponent + low;  // true is -1
    V y = log_reduced(m - 1.0f, __builtin_convertvector(exponent, V));
    y = x == 0.0f ? splat(-__builtin_inff()) : y;
    y = x < 0.0f ? splat(__builtin_nanf("")) : y;
    return (x == x) & (x < __builtin_inff()) ? y : x;
}

// log(1 + u) for 0 <= u <= 1.
static inline V log1p_unit(V u) {
    const I high = u > 0.41421356f;
    const V f = high ? (u - 1.0f) * 0.5f : u;
    return log_reduced(f, high ? splat(1.0f) : V{});
}

static inline V vtanh(V x) {
    const V s = x * x;
    V p = splat(-0.00589954341f);
    p = fma(p, s, splat(0.0207999609f));
    p = fma(p, s, splat(-0.0537850745f));
    p = fma(p, s, splat(0.133319393f));
    p = fma(p, s, splat(-0.333332986f));
    const V small = fma(x * s, p, x);
    const V a = absolute(x);
    const V large = 1.0f - 2.0f / (vexp(a + a) + 1.0f);
    const V signed_large = floats(bits(large) | (bits(x) & int32_t(0x80000000)));
    return a < 0.6f ? small : (x == x ? signed_large : x);
}

static inline V vsigmoid(V x) {
    const V e = vexp(-absolute(x));
    return (x >= 0.0f ? splat(1.0f) : e) / (1.0f + e);
}

static inline V vsoftplus(V x) { return (x > 0.0f ? x : V{}) + log1p_unit(vexp(-absolute(x))); }

// The normal distribution function by erfc(z) = exp(-z^2) u P(u), u = 1 / (1 + z / 2), z = |x| / sqrt(2);
// `gauss` receives exp(-x^2 / 2). The square is taken of x, whose rounding error is known exactly.
static inline V normal_cdf(V x, V* gauss) {
    const V a = vmin(splat(16.0f), absolute(x));  // the tail is 0 there
    const V square = a * a;
    const V g = exp_with_tail(square * -0.5f, fma(a, a, -square) * -0.5f);
    const V z = a * 0.707106781f;
    const V u = 1.0f / fma(z, splat(0.5f), splat(1.0f));
    V p = splat(0.0329363868f);
    p = fma(p, u, splat(-0.174856931f));
    p = fma(p, u, splat(0.341085732f));
    p = fma(p, u, splat(-0.231977344f));
    p = fma(p, u, splat(-0.0740083903f));
    p = fma(p, u, splat(0.0663724393f));
    p = fma(p, u, splat(0.0426326208f));
    p = fma(p, u, splat(0.188761905f));
    p = fma(p, u, splat(0.244668111f));
    p = fma(p, u, splat(0.282298744f));
    p = fma(p, u, splat(0.28208673f));
    const V tail = 0.5f * g * (p * u);
    *gauss = g;
    return x > 0.0f ? 1.0f - tail : tail;
}
