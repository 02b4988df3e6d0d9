// Rotary positions, steps of an LSTM, statistics of channels, and maxima.

static void rotate(const Rotation& p) {
    const ptrdiff_t lanes = p.lanes;
    auto put = [&](float* to, V x) ALEXANDRA_INLINE_LAMBDA { store(to, p.accumulate ? load(to) + x : x); };
    for (int s = 0; s < p.positions; ++s)
        for (int head = 0; head < p.heads; ++head) {
            const ptrdiff_t at = (ptrdiff_t(s) * p.heads + head) * p.dim * lanes;
            for (int i = 0; i < p.pairs; ++i) {
                const ptrdiff_t a = at + (p.interleaved ? 2 * i : i) * lanes;
                const ptrdiff_t b = at + (p.interleaved ? 2 * i + 1 : i + p.pairs) * lanes;
                const V cosine = splat(p.cosine[ptrdiff_t(s) * p.pairs + i]);
                const V sine = splat(p.sign * p.sine[ptrdiff_t(s) * p.pairs + i]);
                for (int lane = 0; lane < p.lanes; lane += W) {
                    const V x = load(p.x + a + lane), y = load(p.x + b + lane);
                    put(p.y + a + lane, fnma(y, sine, x * cosine));
                    put(p.y + b + lane, fma(x, sine, y * cosine));
                }
            }
            for (ptrdiff_t i = at + 2 * p.pairs * lanes; i < at + p.dim * lanes; i += W) put(p.y + i, load(p.x + i));
        }
}

static void lstm_forward(const LstmStep& p) {
    for (size_t k = 0; k < p.n; k += W) {
        float *i = p.gates + k, *f = i + p.n, *g = f + p.n, *o = g + p.n;
        const V in = vsigmoid(load(i)), keep = vsigmoid(load(f)), new_value = vtanh(load(g)), out = vsigmoid(load(o));
        const V before = p.cell_before ? load(p.cell_before + k) : V{};
        const V cell = fma(keep, before, in * new_value), bent = vtanh(cell);
        store(i, in), store(f, keep), store(g, new_value), store(o, out);
        store(p.cell + k, cell), store(p.tanh_cell + k, bent), store(p.h + k, out * bent);
    }
}

static void lstm_backward(const LstmBackward& p) {
    for (size_t k = 0; k < p.n; k += W) {
        const V in = load(p.gates + k), keep = load(p.gates + p.n + k), value = load(p.gates + 2 * p.n + k);
        const V out = load(p.gates + 3 * p.n + k), bent = load(p.tanh_cell + k), dh = load(p.dh + k);
        const V before = p.cell_before ? load(p.cell_before + k) : V{};
        const V dcell = fma(dh * out, fnma(bent, bent, splat(1.0f)), load(p.dcell + k));
        store(p.dgates + k, dcell * value * (in * (1.0f - in)));
        store(p.dgates + p.n + k, dcell * before * (keep * (1.0f - keep)));
        store(p.dgates + 2 * p.n + k, dcell * in * fnma(value, value, splat(1.0f)));
        store(p.dgates + 3 * p.n + k, dh * bent * (out * (1.0f - out)));
        store(p.dcell + k, dcell * keep);
    }
}

// The 16 stripes of one feature's two sums.
static ALEXANDRA_INLINE void channel_stripes(const ChannelSums& p, int f, float* one, float* two) {
    V s[kStripes / W], t[kStripes / W];
    for (int v = 0; v < kStripes / W; ++v) s[v] = t[v] = V{};
    const V mean = p.mean ? splat(p.mean[f]) : V{};
    for (int row = 0; row < p.rows; row += p.lanes)
        for (int g = 0; g < p.groups; ++g) {
            const ptrdiff_t at = (ptrdiff_t(row) * p.groups + ptrdiff_t(g) * p.lanes) * p.width + ptrdiff_t(f) * p.lanes;
            for (int lane = 0; lane < p.lanes; lane += kStripes)
                for (int v = 0; v < kStripes / W; ++v) {
                    const int i = lane + v * W;
                    if (row + i >= p.rows) continue;
                    const V x = used(p.rows - row, i, load(p.x + at + i) - mean);
                    const V d = p.dy ? used(p.rows - row, i, load(p.dy + at + i)) : x;
                    s[v] += d;
                    t[v] = fma(d, x, t[v]);
                }
        }
    for (int v = 0; v < kStripes / W; ++v) store(one + v * W, s[v]), store(two + v * W, t[v]);
}

static void channel_sums(const ChannelSums& p) {
    alignas(64) float one[kStripes], two[kStripes];
    for (int f = p.first; f < p.last; ++f) {
        channel_stripes(p, f, one, two);
        p.first_sum[f] = tree(one), p.second_sum[f] = tree(two);
    }
}

static void channel_map(const ChannelMap& p) {
    for (int unit = 0; unit < p.units; ++unit)
        for (int f = 0; f < p.width; ++f) {
            const ptrdiff_t at = (ptrdiff_t(unit) * p.width + f) * p.lanes;
            const V mean = splat(p.mean[f]), b = splat(p.b[f]), c = splat(p.c[f]), a = p.a ? splat(p.a[f]) : V{};
            for (int lane = 0; lane < p.lanes; lane += W) {
                V y = fma(load(p.x + at + lane) - mean, b, c);
                if (p.dy) y = fma(load(p.dy + at + lane), a, y);
                store(p.y + at + lane, p.accumulate ? load(p.y + at + lane) + y : y);
            }
        }
}

static void maximum(size_t n, const float* x, float* y) {
    for (size_t i = 0; i < n; i += W) store(y + i, vmax(load(x + i), load(y + i)));
}

static void take_maximum(size_t n, const float* x, const float* y, const float* dy, float* taken, float* dx) {
    for (size_t i = 0; i < n; i += W) {
        const V before = load(taken + i);
        const I hit = (load(x + i) == load(y + i)) & (before == 0.0f);
        store(taken + i, hit ? splat(1.0f) : before);
        store(dx + i, load(dx + i) + (hit ? load(dy + i) : V{}));
    }
}
