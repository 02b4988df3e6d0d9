// Softmax and norms over the last axis, and sums over rows. Each lane is a row of its own: a striped sum over
// features keeps 16 vectors of accumulators, so a row's result is that of the row alone.

// The striped sum over i < n of f(i), per lane.
template <typename F>
static inline V striped(int n, F f) {
    V s[kStripes];
    for (int j = 0; j < kStripes; ++j) s[j] = V{};
    int i = 0;
    for (; i + kStripes <= n; i += kStripes)
        for (int j = 0; j < kStripes; ++j) s[j] = f(i + j, s[j]);
    for (int j = 0; i + j < n; ++j) s[j] = f(i + j, s[j]);
    for (int half = kStripes / 2; half; half /= 2)
        for (int j = 0; j < half; ++j) s[j] += s[j + half];
    return s[0];
}

template <typename F>
static inline void each_vector(Groups s, F f) {
    for (int g = 0; g < s.groups; ++g)
        for (int lane = 0; lane < s.lanes; lane += W) f(g, lane, ptrdiff_t(g) * s.width * s.lanes + lane);
}

static void softmax_forward(Groups s, const float* x, float* y) {
    const ptrdiff_t step = s.lanes;
    each_vector(s, [&](int, int, ptrdiff_t at) {
        V top = load(x + at);
        for (int f = 1; f < s.width; ++f) top = vmax(load(x + at + f * step), top);
        for (int f = 0; f < s.width; ++f) store(y + at + f * step, vexp(load(x + at + f * step) - top));
        const V sum = striped(s.width, [&](int f, V acc) { return acc + load(y + at + f * step); });
        for (int f = 0; f < s.width; ++f) store(y + at + f * step, load(y + at + f * step) / sum);
    });
}

static void softmax_backward(Groups s, const float* y, const float* dy, float* dx, bool accumulate) {
    const ptrdiff_t step = s.lanes;
    each_vector(s, [&](int, int, ptrdiff_t at) {
        const V dot = striped(
            s.width, [&](int f, V acc) { return fma(load(y + at + f * step), load(dy + at + f * step), acc); });
        for (int f = 0; f < s.width; ++f) {
            const V d = load(y + at + f * step) * (load(dy + at + f * step) - dot);
            store(dx + at + f * step, accumulate ? load(dx + at + f * step) + d : d);
        }
    });
}

static void layernorm_forward(Groups s, const float* x, const float* gain, const float* bias, float* y,
                              float* saved, float eps) {
    const ptrdiff_t step = s.lanes;
    const float inverse = 1.0f / float(s.width);
    each_vector(s, [&](int g, int lane, ptrdiff_t at) {
        const V mean = striped(s.width, [&](int f, V acc) { return acc + load(x + at + f * step); }) * inverse;
        const V variance = striped(s.width, [&](int f, V acc) {
                               const V d = load(x + at + f * step) - mean;
                               return fma(d, d, acc);
                           }) * inverse;
        const V scale = 1.0f / root(variance + eps);
        store(saved + (2 * g) * step + lane, mean);
        store(saved + (2 * g + 1) * step + lane, scale);
        for (int f = 0; f < s.width; ++f) {
            const V normal = (load(x + at + f * step) - mean) * scale;
            store(y + at + f * step, fma(normal, splat(gain[f]), splat(bias[f])));
        }
    });
}

static void layernorm_backward(Groups s, const float* x, const float* gain, const float* saved, const float* dy,
                               float* dx, bool accumulate) {
    const ptrdiff_t step = s.lanes;
    const float inverse = 1.0f / float(s.width);
    each_vector(s, [&](int g, int lane, ptrdiff_t at) {
        const V mean = load(saved + (2 * g) * step + lane), scale = load(saved + (2 * g + 1) * step + lane);
        auto normal = [&](int f) { return (load(x + at + f * step) - mean) * scale; };
        auto d = [&](int f) { return load(dy + at + f * step) * gain[f]; };
        const V centre = striped(s.width, [&](int f, V acc) { return acc + d(f); }) * inverse;
        const V slope = striped(s.width, [&](int f, V acc) { return fma(d(f), normal(f), acc); }) * inverse;
        for (int f = 0; f < s.width; ++f) {
            const V r = (d(f) - centre - normal(f) * slope) * scale;
            store(dx + at + f * step, accumulate ? load(dx + at + f * step) + r : r);
        }
    });
}

static void rmsnorm_forward(Groups s, const float* x, const float* gain, float* y, float* saved, float eps) {
    const ptrdiff_t step = s.lanes;
    const float inverse = 1.0f / float(s.width);
    each_vector(s, [&](int g, int lane, ptrdiff_t at) {
        const V square = striped(s.width, [&](int f, V acc) {
                             const V v = load(x + at + f * step);
                             return fma(v, v, acc);
                         }) * inverse;
        const V scale = 1.0f / root(square + eps);
        store(saved + g * step + lane, scale);
        for (int f = 0; f < s.width; ++f) store(y + at + f * step, load(x + at + f * step) * scale * gain[f]);
    });
}

static void rmsnorm_backward(Groups s, const float* x, const float* gain, const float* saved, const float* dy,
                             float* dx, bool accumulate) {
    const ptrdiff_t step = s.lanes;
    const float inverse = 1.0f / float(s.width);
    each_vector(s, [&](int g, int lane, ptrdiff_t at) {
        const V scale = load(saved + g * step + lane);
        auto normal = [&](int f) { return load(x + at + f * step) * scale; };
        auto d = [&](int f) { return load(dy + at + f * step) * gain[f]; };
        const V slope = striped(s.width, [&](int f, V acc) { return fma(d(f), normal(f), acc); }) * inverse;
        for (int f = 0; f < s.width; ++f) {
            const V r = (d(f) - normal(f) * slope) * scale;
            store(dx + at + f * step, accumulate ? load(dx + at + f * step) + r : r);
        }
    });
}

// Features that go side by side: their accumulators stay in registers.
constexpr int kSums = W * W / kStripes;

// The 16 stripes of features f .. f + count - 1: row r goes into stripe r % 16, group after group.
template <bool scaled, bool centred>
static ALEXANDRA_INLINE void feature_stripes(const RowSums& p, int f, int count, V (&s)[kSums][kStripes / W]) {
    for (int j = 0; j < kSums; ++j)
        for (int v = 0; v < kStripes / W; ++v) s[j][v] = V{};
    for (int g = 0; g < p.groups; ++g)
        for (int block = 0; block < p.blocks; ++block) {
            const ptrdiff_t at = block * p.block_stride + ptrdiff_t(g * p.width + f) * p.lanes;
            const ptrdiff_t saved = block * p.saved_block + g * p.saved_group;
            for (int lane = 0; lane < p.lanes; lane += kStripes)
                for (int v = 0; v < kStripes / W; ++v) {
                    const int i = lane + v * W;
                    const V mean = centred ? load(p.mean + saved + i) : V{};
                    const V scale = scaled ? load(p.scale + saved + i) : V{};
                    auto add = [&](int j) ALEXANDRA_INLINE_LAMBDA {
                        const ptrdiff_t own = at + ptrdiff_t(j) * p.lanes + i;
                        if constexpr (scaled)
                            s[j][v] = fma(load(p.dy + own), (load(p.x + own) - mean) * scale, s[j][v]);
                        else
                            s[j][v] += load(p.dy + own);
                    };
                    if (count == kSums)
                        unroll<kSums>([&](auto j) ALEXANDRA_INLINE_LAMBDA { add(j); });
                    else
                        for (int j = 0; j < count; ++j) add(j);
                }
        }
}

// W features side by side: the tree's wide steps within a feature, the rest across a transposed tile.
template <bool scaled, bool centred>
static void row_sums_of(const RowSums& p) {
    for (int first = p.first; first < p.last; first += W) {
        V t[W] = {};
        for (int j = 0; j < W && first + j < p.last; j += kSums) {
            V s[kSums][kStripes / W];
            const int left = p.last - first - j, count = left < kSums ? left : kSums;
            feature_stripes<scaled, centred>(p, first + j, count, s);
            for (int i = 0; i < count; ++i) {
                for (int half = kStripes / W / 2; half; half /= 2)
                    for (int v = 0; v < half; ++v) s[i][v] += s[i][v + half];
                t[j + i] = s[i][0];
            }
        }
        transpose(t);
        for (int half = W / 2; half; half /= 2)
            for (int j = 0; j < half; ++j) t[j] += t[j + half];
        store(p.out + first, (p.accumulate ? load(p.out + first) : V{}) + t[0]);
    }
}

static void row_sums(const RowSums& p) {
    if (p.mean) return row_sums_of<true, true>(p);
    return p.x ? row_sums_of<true, false>(p) : row_sums_of<false, false>(p);
}
