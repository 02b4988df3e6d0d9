// Sums, norms, losses and optimiser steps of many networks at once: the formulas of norm.inl, loss.inl and
// optimizer.inl, with what is a scalar there as a vector of networks.

// The tree over the stripes J, J + H, ... of which the first N hold terms: an absent one would add 0.
template <int N, int J, int H>
static ALEXANDRA_INLINE V stripe_tree(const V* s) {
    if constexpr (H == kStripes)
        return s[J];
    else if constexpr (J + H < N)
        return stripe_tree<N, J, 2 * H>(s) + stripe_tree<N, J + H, 2 * H>(s);
    else
        return stripe_tree<N, J, 2 * H>(s);
}

template <int N>
static V few_rows(const float* at, ptrdiff_t step) {
    V s[N];
    unroll<N>([&](auto r) ALEXANDRA_INLINE_LAMBDA { s[r] = load(at + r * step); });
    return stripe_tree<N, 0, 1>(s);
}

typedef V (*FewRows)(const float*, ptrdiff_t);
template <int... N>
static constexpr FewRows few_rows_of(int rows, std::integer_sequence<int, N...>) {
    constexpr FewRows table[] = {few_rows<N + 1>...};
    return table[rows - 1];
}

// Row r of every group goes into stripe r % 16.
template <typename F>
static ALEXANDRA_INLINE V striped_rows(int rows, int groups, F f) {
    V s[kStripes];
    unroll<kStripes>([&](auto j) ALEXANDRA_INLINE_LAMBDA { s[j] = V{}; });
    for (int g = 0; g < groups; ++g) {
        int r = 0;
        for (; r + kStripes <= rows; r += kStripes)
            unroll<kStripes>([&](auto j) ALEXANDRA_INLINE_LAMBDA { s[j] = f(g, r + j, s[j]); });
        for (int j = 0; r + j < rows; ++j) s[j] = f(g, r + j, s[j]);
    }
    return stripe_tree<kStripes, 0, 1>(s);
}

static void lane_row_sums(const LaneSums& p) {
    const ptrdiff_t row = ptrdiff_t(p.groups) * p.width * W;
    const bool few = !p.x && p.groups == 1 && p.rows <= kStripes;
    const FewRows sum_few = few ? few_rows_of(p.rows, std::make_integer_sequence<int, kStripes>{}) : nullptr;
    for (int f = 0; f < p.width; ++f) {
        V sum;
        if (few)
            sum = sum_few(p.dy + f * W, row);
        else if (p.x)
            sum = striped_rows(p.rows, p.groups, [&](int g, int r, V acc) ALEXANDRA_INLINE_LAMBDA {
                const ptrdiff_t at = r * row + ptrdiff_t(g * p.width + f) * W;
                const ptrdiff_t saved = ptrdiff_t(r * p.groups + g) * p.saved_step;
                const V x = load(p.x + at) - (p.mean ? load(p.mean + saved) : V{});
                return fma(load(p.dy + at), x * load(p.scale + saved), acc);
            });
        else
            sum = striped_rows(p.rows, p.groups, [&](int g, int r, V acc) ALEXANDRA_INLINE_LAMBDA {
                return acc + load(p.dy + r * row + ptrdiff_t(g * p.width + f) * W);
            });
        float* out = p.out + f * W;
        store(out, (p.accumulate ? load(out) : V{}) + sum);
    }
}

static void lane_norm_forward(const LaneNorm& p, float* out) {
    const float inverse = 1.0f / float(p.width);
    for (int i = 0; i < p.vectors; ++i) {
        const float* x = p.x + ptrdiff_t(i) * p.width * W;
        float* y = out + ptrdiff_t(i) * p.width * W;
        float* saved = p.saved + ptrdiff_t(i) * (p.bias ? 2 : 1) * W;
        if (!p.bias) {
            const V square = striped(p.width, [&](int f, V acc) {
                                 const V v = load(x + f * W);
                                 return fma(v, v, acc);
                             }) * inverse;
            const V scale = 1.0f / root(square + p.eps);
            store(saved, scale);
            for (int f = 0; f < p.width; ++f) store(y + f * W, load(x + f * W) * scale * load(p.gain + f * W));
            continue;
        }
        const V mean = striped(p.width, [&](int f, V acc) { return acc + load(x + f * W); }) * inverse;
        const V variance = striped(p.width, [&](int f, V acc) {
                               const V d = load(x + f * W) - mean;
                               return fma(d, d, acc);
                           }) * inverse;
        const V scale = 1.0f / root(variance + p.eps);
        store(saved, mean);
        store(saved + W, scale);
        for (int f = 0; f < p.width; ++f) {
            const V normal = (load(x + f * W) - mean) * scale;
            store(y + f * W, fma(normal, load(p.gain + f * W), load(p.bias + f * W)));
        }
    }
}

static void lane_norm_backward(const LaneNorm& p, const float* dys, float* dxs, bool accumulate) {
    const float inverse = 1.0f / float(p.width);
    for (int i = 0; i < p.vectors; ++i) {
        const ptrdiff_t at = ptrdiff_t(i) * p.width * W;
        const float *x = p.x + at, *dy = dys + at;
        float* dx = dxs + at;
        const float* saved = p.saved + ptrdiff_t(i) * (p.bias ? 2 : 1) * W;
        auto d = [&](int f) { return load(dy + f * W) * load(p.gain + f * W); };
        if (!p.bias) {
            const V scale = load(saved);
            auto normal = [&](int f) { return load(x + f * W) * scale; };
            const V slope = striped(p.width, [&](int f, V acc) { return fma(d(f), normal(f), acc); }) * inverse;
            for (int f = 0; f < p.width; ++f) {
                const V r = (d(f) - normal(f) * slope) * scale;
                store(dx + f * W, accumulate ? load(dx + f * W) + r : r);
            }
            continue;
        }
        const V mean = load(saved), scale = load(saved + W);
        auto normal = [&](int f) { return (load(x + f * W) - mean) * scale; };
        const V centre = striped(p.width, [&](int f, V acc) { return acc + d(f); }) * inverse;
        const V slope = striped(p.width, [&](int f, V acc) { return fma(d(f), normal(f), acc); }) * inverse;
        for (int f = 0; f < p.width; ++f) {
            const V r = (d(f) - centre - normal(f) * slope) * scale;
            store(dx + f * W, accumulate ? load(dx + f * W) + r : r);
        }
    }
}

static inline V live_row(const LaneLoss& p, int row, V x) {
    return p.used ? (bits(load(reinterpret_cast<const float*>(p.used) + row * W)) ? x : V{}) : x;
}

static inline void put_lane(const LaneLoss& p, int row, ptrdiff_t at, V d) {
    const V masked = live_row(p, row, d);
    store(p.dx + at, p.accumulate ? load(p.dx + at) + masked : masked);
}

static inline void add_lane_loss(const LaneLoss& p, int row, V loss) {
    float* at = p.loss + row * W;
    store(at, load(at) + live_row(p, row, loss * p.scale_loss));
}

// A sum over a few features without the 16 accumulators of `striped`.
template <typename F>
static ALEXANDRA_INLINE V striped_width(int n, F f) {
    if (n == 1) return f(0, V{});
    if (n == 2) return f(0, V{}) + f(1, V{});
    return striped(n, f);
}

static void lane_cross_entropy(const LaneLoss& p) {
    const float uniform = p.smoothing / float(p.width), certain = 1.0f - p.smoothing;
    const V scale_grad = load(p.scale_grad);
    for (int row = 0; row < p.rows; ++row)
        for (int g = 0; g < p.groups; ++g) {
            const ptrdiff_t at = ptrdiff_t(row * p.groups + g) * p.width * W;
            const float* x = p.x + at;
            const I wanted = bits(load(p.targets + ptrdiff_t(row * p.groups + g) * W));
            V top = load(x);
            for (int f = 1; f < p.width; ++f) top = vmax(load(x + f * W), top);
            const V sum = striped_width(p.width, [&](int f, V acc) { return acc + vexp(load(x + f * W) - top); });
            const V log_sum = vlog(sum) + top;
            V chosen = V{};
            for (int f = 0; f < p.width; ++f) chosen = wanted == f ? load(x + f * W) : chosen;
            V loss = certain * (log_sum - chosen);
            if (p.smoothing > 0.0f)
                loss += uniform * striped(p.width, [&](int f, V acc) { return acc + (log_sum - load(x + f * W)); });
            add_lane_loss(p, row, loss);
            if (!p.dx) continue;
            for (int f = 0; f < p.width; ++f) {
                const V share = vexp(load(x + f * W) - top) / sum;
                const V target = (wanted == f ? splat(certain) : V{}) + uniform;
                put_lane(p, row, at + f * W, (share - target) * scale_grad);
            }
        }
}

static void lane_binary_cross_entropy(const LaneLoss& p) {
    const V scale_grad = load(p.scale_grad);
    for (int row = 0; row < p.rows; ++row)
        for (int g = 0; g < p.groups; ++g) {
            const ptrdiff_t at = ptrdiff_t(row * p.groups + g) * p.width * W;
            auto target = [&](int f) {
                return fma(load(p.targets + at + f * W), splat(1.0f - p.smoothing), splat(0.5f * p.smoothing));
            };
            add_lane_loss(p, row, striped_width(p.width, [&](int f, V acc) {
                              const V x = load(p.x + at + f * W);
                              return acc + (vsoftplus(x) - x * target(f));
                          }));
            if (!p.dx) continue;
            for (int f = 0; f < p.width; ++f)
                put_lane(p, row, at + f * W, (vsigmoid(load(p.x + at + f * W)) - target(f)) * scale_grad);
        }
}

static void lane_squared_error(const LaneLoss& p) {
    const V scale_grad = load(p.scale_grad);
    for (int row = 0; row < p.rows; ++row)
        for (int g = 0; g < p.groups; ++g) {
            const ptrdiff_t at = ptrdiff_t(row * p.groups + g) * p.width * W;
            auto error = [&](int f) { return load(p.x + at + f * W) - load(p.targets + at + f * W); };
            add_lane_loss(p, row, striped_width(p.width, [&](int f, V acc) {
                              const V e = error(f);
                              return fma(e, e, acc);
                          }));
            if (!p.dx) continue;
            for (int f = 0; f < p.width; ++f) put_lane(p, row, at + f * W, 2.0f * error(f) * scale_grad);
        }
}

template <bool all, bool shrinks>
static void lane_adam_of(size_t n, float* w, const float* g, float* m, float* v, const LaneStep& s) {
    const V beta1 = load(s.beta1), rest1 = load(s.rest1), beta2 = load(s.beta2), rest2 = load(s.rest2);
    const V rate = load(s.rate), inverse_root = load(s.inverse_root), eps = load(s.eps), keep = load(s.keep);
    const V l2 = load(s.l2), scale = load(s.scale), l1 = shrinks ? load(s.l1) : V{};
    I live = {};
    if constexpr (!all) live = bits(load(reinterpret_cast<const float*>(s.live)));
    auto step = [&](size_t i, auto root_of) ALEXANDRA_INLINE_LAMBDA {
        const V weight = load(w + i), before1 = load(m + i), before2 = load(v + i);
        const V grad = fma(l2, weight, load(g + i) * scale);
        const V first = fma(before1, beta1, grad * rest1);
        const V second = fma(before2, beta2, grad * grad * rest2);
        const V denominator = fma(root_of(second), inverse_root, eps);
        V kept = weight * keep;
        if constexpr (shrinks) kept -= weight > V{} ? l1 : weight < V{} ? -l1 : V{};
        const V next = fnma(first * rate, reciprocal(denominator), kept);
        if constexpr (all) {
            store(m + i, first), store(v + i, second), store(w + i, next);
        } else {
            store(m + i, live ? first : before1), store(v + i, live ? second : before2);
            store(w + i, live ? next : weight);
        }
    };
    size_t i = 0;
    for (; i + 2 * W <= n * W; i += 2 * W) {
        step(i, root);
        step(i + W, other_root);
    }
    if (i < n * W) step(i, root);
}

static void lane_adam(size_t n, float* w, const float* g, float* m, float* v, const LaneStep& s) {
    if (s.l1) return s.live ? lane_adam_of<false, true>(n, w, g, m, v, s) : lane_adam_of<true, true>(n, w, g, m, v, s);
    s.live ? lane_adam_of<false, false>(n, w, g, m, v, s) : lane_adam_of<true, false>(n, w, g, m, v, s);
}

template <bool all>
static void lane_sgd_of(size_t n, float* w, const float* g, float* m, const LaneStep& s) {
    const V l2 = load(s.l2), scale = load(s.scale), rate = load(s.rate);
    const V momentum = m ? load(s.beta1) : V{};
    I live = {};
    if constexpr (!all) live = bits(load(reinterpret_cast<const float*>(s.live)));
    for (size_t i = 0; i < n * W; i += W) {
        const V weight = load(w + i);
        V step = fma(l2, weight, load(g + i) * scale);
        if (m) {
            const V before = load(m + i);
            step = fma(before, momentum, step);
            store(m + i, all ? step : live ? step : before);
        }
        const V next = fnma(step, rate, weight);
        store(w + i, all ? next : live ? next : weight);
    }
}

static void lane_sgd(size_t n, float* w, const float* g, float* m, const LaneStep& s) {
    s.live ? lane_sgd_of<false>(n, w, g, m, s) : lane_sgd_of<true>(n, w, g, m, s);
}

static void lane_square_sums(int rows, int cols, const float* g, float* out) {
    for (int r = 0; r < rows; ++r) {
        const float* at = g + ptrdiff_t(r) * cols * W;
        store(out + r * W, striped(cols, [&](int f, V acc) {
                  const V x = load(at + f * W);
                  return fma(x, x, acc);
              }));
    }
}

typedef double D __attribute__((vector_size(8 * W)));

static void lane_add_rows(int rows, const float* loss, const int32_t* used, double* sums) {
    D sum;
    __builtin_memcpy(&sum, sums, sizeof sum);
    for (int r = 0; r < rows; ++r) {
        V x = load(loss + r * W);
        if (used) x = bits(load(reinterpret_cast<const float*>(used) + r * W)) ? x : V{};
        sum += __builtin_convertvector(x, D);
    }
    __builtin_memcpy(sums, &sum, sizeof sum);
}

static inline V gather_at(const float* base, I at) {
#if defined(__AVX512F__)
    return _mm512_mask_i32gather_ps(V{}, 0xffff, (__m512i)at, base, 4);  // the unmasked spelling warns in GCC 12
#elif defined(__AVX2__)
    return _mm256_mask_i32gather_ps(V{}, base, (__m256i)at, floats(I{} - 1), 4);
#else
    V x;
    for (int i = 0; i < W; ++i) x[i] = base[at[i]];
    return x;
#endif
}

static void lane_gather(int rows, int features, const float* base, const int32_t* offsets, const int32_t* order,
                        float* dst) {
    const I start = bits(load(reinterpret_cast<const float*>(offsets)));
    for (int row = 0; row < rows; ++row) {
        const I at = start + bits(load(reinterpret_cast<const float*>(order) + row * W)) * features;
        for (int f = 0; f < features; ++f, dst += W) store(dst, gather_at(base, at + f));
    }
}
