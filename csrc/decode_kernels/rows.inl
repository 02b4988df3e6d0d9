// Row-major activations: norms, elementwise functions, softmax, and making rows ready for a type of weights.
// Sums over a row have 16 striped accumulators and one tree, as everywhere in the engine.

constexpr int kGroups = kStripes / W;  // vectors of 16 stripes

template <typename F>
static ALEXANDRA_INLINE float row_sum(int n, F f) {
    V s[kGroups] = {};
    int i = 0;
    for (; i + kStripes <= n; i += kStripes)
        for (int g = 0; g < kGroups; ++g) s[g] = f(i + g * W, W, s[g]);
    for (int g = 0; i + g * W < n; ++g) {
        const int left = n - i - g * W;
        s[g] = f(i + g * W, left < W ? left : W, s[g]);
    }
    alignas(64) float flat[kStripes];
    for (int g = 0; g < kGroups; ++g) store(flat + g * W, s[g]);
    return tree(flat);
}

static ALEXANDRA_INLINE V take(const float* p, int count) { return count == W ? load_any(p) : load_first(p, count); }

static void rmsnorm(int rows, int width, const float* x, ptrdiff_t x_stride, const float* gain, float* y,
                    ptrdiff_t y_stride, float eps) {
    for (int r = 0; r < rows; ++r, x += x_stride, y += y_stride) {
        const float squares = row_sum(width, [&](int i, int n, V acc) ALEXANDRA_INLINE_LAMBDA {
            const V v = take(x + i, n);
            return fma(v, v, acc);
        });
        const V factor = splat(1.0f / __builtin_sqrtf(squares / float(width) + eps));
        int i = 0;
        for (; i + W <= width; i += W) store_any(y + i, load_any(x + i) * factor * load_any(gain + i));
        if (i < width)
            store_first(y + i, load_first(x + i, width - i) * factor * load_first(gain + i, width - i), width - i);
    }
}

static void layernorm(int rows, int width, const float* x, ptrdiff_t x_stride, const float* gain, const float* bias,
                      float* y, ptrdiff_t y_stride, float eps) {
    for (int r = 0; r < rows; ++r, x += x_stride, y += y_stride) {
        const float mean = row_sum(width, [&](int i, int n, V acc) ALEXANDRA_INLINE_LAMBDA {
                               return acc + take(x + i, n);
                           }) / float(width);
        const V m = splat(mean);
        const float squares = row_sum(width, [&](int i, int n, V acc) ALEXANDRA_INLINE_LAMBDA {
            V v = take(x + i, n) - m;
            if (n < W)
                for (int j = n; j < W; ++j) v[j] = 0.0f;
            return fma(v, v, acc);
        });
        const V factor = splat(1.0f / __builtin_sqrtf(squares / float(width) + eps));
        for (int i = 0; i < width; i += W) {
            const int n = width - i < W ? width - i : W;
            const V v = fma((take(x + i, n) - m) * factor, take(gain + i, n), take(bias + i, n));
            if (n == W)
                store_any(y + i, v);
            else
                store_first(y + i, v, n);
        }
    }
}

// Whole vectors: n is a multiple of 16 and everything aligned.
template <typename F>
static ALEXANDRA_INLINE void each(size_t n, const float* x, float* y, F f) {
    for (size_t i = 0; i < n; i += W) store(y + i, f(load(x + i)));
}

static void pointwise(Pointwise which, size_t n, const float* x, float* y, float a) {
    V unused;
    switch (which) {
        case Pointwise::relu: return each(n, x, y, [](V v) { return v > 0.0f ? v : V{}; });
        case Pointwise::leaky_relu: return each(n, x, y, [=](V v) { return v > 0.0f ? v : v * a; });
        case Pointwise::elu: return each(n, x, y, [=](V v) { return v > 0.0f ? v : a * expm1_negative(v); });
        case Pointwise::gelu: return each(n, x, y, [&](V v) { return v * normal_cdf(v, &unused); });
        case Pointwise::silu: return each(n, x, y, [](V v) { return v * vsigmoid(v); });
        case Pointwise::sigmoid: return each(n, x, y, [](V v) { return vsigmoid(v); });
        case Pointwise::softplus: return each(n, x, y, [](V v) { return vsoftplus(v); });
        case Pointwise::tanh: return each(n, x, y, [](V v) { return vtanh(v); });
        case Pointwise::gelu_tanh:
            return each(n, x, y, [](V v) {
                const V inner = 0.797884561f * fma(0.044715f * v * v, v, v);
                return 0.5f * v * (1.0f + vtanh(inner));
            });
    }
}

static void multiply(size_t n, const float* a, const float* b, float* y) {
    for (size_t i = 0; i < n; i += W) store(y + i, load(a + i) * load(b + i));
}
static void add(size_t n, const float* a, const float* b, float* y) {
    for (size_t i = 0; i < n; i += W) store(y + i, load(a + i) + load(b + i));
}
static void scale(size_t n, const float* x, float a, float* y) {
    for (size_t i = 0; i < n; i += W) store(y + i, load(x + i) * splat(a));
}

static float row_max(int n, const float* x) {
    V top = splat(-__builtin_inff());
    for (int i = 0; i < n; i += W) {
        const int count = n - i < W ? n - i : W;
        V v = take(x + i, count);
        for (int j = count; j < W; ++j) v[j] = -__builtin_inff();
        top = vmax(v, top);
    }
    float most = top[0];
    for (int j = 1; j < W; ++j) most = top[j] > most ? top[j] : most;
    return most;
}

static float sum_exp(int n, const float* x, float top, float* y) {
    return row_sum(n, [&](int i, int count, V acc) ALEXANDRA_INLINE_LAMBDA {
        V e = vexp(take(x + i, count) - top);
        if (count < W)
            for (int j = count; j < W; ++j) e[j] = 0.0f;
        if (y) {
            if (count == W)
                store_any(y + i, e);
            else
                store_first(y + i, e, count);
        }
        return acc + e;
    });
}

static void softmax(int width, const float* x, float* y) {
    const float sum = sum_exp(width, x, row_max(width, x), y);
    for (int i = 0; i < width; ++i) y[i] = y[i] / sum;
}

static float log_sum_exp(int n, const float* x) {
    const float top = row_max(n, x);
    alignas(64) float sum[kStripes] = {sum_exp(n, x, top, nullptr)};
    return top + vlog(load(sum))[0];
}

static ALEXANDRA_INLINE bool any(I mask) {
    int32_t all = 0;
    for (int j = 0; j < W; ++j) all |= mask[j];
    return all != 0;
}

static int argmax(int n, const float* x) {
    I bad = {};
    int i = 0;
    for (; i + W <= n; i += W) bad |= load_any(x + i) != load_any(x + i);
    for (; i < n; ++i) bad[0] |= x[i] != x[i];
    if (any(bad)) return -1;
    const float top = row_max(n, x);
    for (i = 0; i + W <= n && !any(load_any(x + i) == top); i += W) {
    }
    while (i < n && x[i] != top) ++i;
    return i < n ? i : -1;
}

static ALEXANDRA_INLINE uint16_t to_bf16(float x) {
    const uint32_t raw = __builtin_bit_cast(uint32_t, x);
    if ((raw & 0x7fffffff) > 0x7f800000u) return uint16_t(raw >> 16 | 0x40);
    return uint16_t((raw + 0x7fff + ((raw >> 16) & 1)) >> 16);
}

// A block of 32 floats to whole numbers, round(x / d) with d = max |x| / most: signed bytes (most 127), or, with `low`,
// 256 bytes + low (most 127 * 256). A NaN or infinity makes d NaN and the whole numbers 0.
static void quantise_block(const float* x, int8_t* bytes, int8_t* low, float* scale_out, int32_t* sum_out) {
    const float range = low ? 32512.0f : 127.0f;
    constexpr int count = kBlock / W;
    V v[count], top = {}, bad = {};
    for (int i = 0; i < count; ++i) {
        v[i] = load(x + i * W);
        top = vmax(absolute(v[i]), top);
        bad += v[i] - v[i];
    }
    float most = top[0], wrong = bad[0];
    for (int j = 1; j < W; ++j) most = top[j] > most ? top[j] : most, wrong += bad[j];
    const V factor = splat(most > 0.0f ? range / most : 0.0f);
    I sums = {};
    for (int i = 0; i < count; ++i) {
        const V scaled = wrong == 0.0f ? v[i] * factor : V{};
        const I q = __builtin_convertvector(shifted(scaled) - kShift, I);
        sums += q;
        const I high = low ? (q + 128) >> 8 : q, rest = q - (high << 8);
        for (int j = 0; j < W; ++j) bytes[i * W + j] = int8_t(high[j]);
        if (low)
            for (int j = 0; j < W; ++j) low[i * W + j] = int8_t(rest[j]);
    }
    int32_t sum = 0;
    for (int j = 0; j < W; ++j) sum += sums[j];
    *scale_out = most / range + wrong;
    *sum_out = sum;
}

static void prepare(TensorType type, const Activations& a, int first, int last) {
    for (int r = first; r < last; ++r) {
        const float* x = a.x + r * a.stride;
        if (type == TensorType::bf16) {
            uint16_t* out = a.halves + r * a.half_stride;
            for (int i = 0; i < a.k; ++i) out[i] = to_bf16(x[i]);
            if (a.k % 2) out[a.k] = 0;
        } else if (type == TensorType::q8_0 || type == TensorType::q4_0) {
            for (int b = 0; b < a.k / kBlock; ++b)
                quantise_block(x + b * kBlock, a.bytes + r * a.byte_stride + b * kBlock,
                               type == TensorType::q8_0 ? a.low + r * a.byte_stride + b * kBlock : nullptr,
                               a.scales + r * a.blocks + b, a.sums + r * a.blocks + b);
        }
    }
}
