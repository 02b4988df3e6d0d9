// Attention over a cache: scores with 16 positions side by side (head dimensions in order), softmax with the exact
// maximum, and the weighted sum of values in order of position. How many queries come at once changes nothing.

// scores[q][16 (b + B)] for T queries and B blocks of 16 positions.
template <int T, int B>
static void score_tile(const AttendCall& c, const float* const* q, int block, float* const* out) {
    const float* keys = c.keys + ptrdiff_t(block) * c.head_dim * kStripes;
    V acc[T][B][kGroups];
    for (int t = 0; t < T; ++t)
        for (int b = 0; b < B; ++b)
            for (int g = 0; g < kGroups; ++g) acc[t][b][g] = V{};
    for (int d = 0; d < c.head_dim; ++d, keys += kStripes)
        unroll<T>([&](auto t) ALEXANDRA_INLINE_LAMBDA {
            const V x = splat(q[t][d]);
            unroll<B>([&](auto b) ALEXANDRA_INLINE_LAMBDA {
                unroll<kGroups>([&](auto g) ALEXANDRA_INLINE_LAMBDA {
                    acc[t][b][g] = fma(x, load(keys + b * c.head_dim * kStripes + g * W), acc[t][b][g]);
                });
            });
        });
    for (int t = 0; t < T; ++t)
        for (int b = 0; b < B; ++b)
            for (int g = 0; g < kGroups; ++g) {
                V s = acc[t][b][g] * splat(c.scale);
                if (c.softcap > 0.0f) s = vtanh(s / splat(c.softcap)) * splat(c.softcap);
                store(out[t] + (block + b) * kStripes + g * W, s);
            }
}

template <int T>
static void score_rows(const AttendCall& c, int first, int begin, int end) {
    constexpr int B = W < 16 ? 1 : T == 1 ? 8 : T == 2 ? 4 : 2;  // independent sums hide the latency of one
    const float* q[T];
    float* out[T];
    for (int t = 0; t < T; ++t) {
        const int i = first + t;
        q[t] = c.q + (i / c.group) * c.q_stride + (i % c.group) * c.head_dim;
        out[t] = c.scores + i * c.score_stride;
    }
    int b = begin;
    for (; b + B <= end; b += B) score_tile<T, B>(c, q, b, out);
    if constexpr (B > 4)
        for (; b + 4 <= end; b += 4) score_tile<T, 4>(c, q, b, out);
    if constexpr (B > 2)
        for (; b + 2 <= end; b += 2) score_tile<T, 2>(c, q, b, out);
    for (; b < end; ++b) score_tile<T, 1>(c, q, b, out);
}

// Visible positions of query i: [from, to).
static ALEXANDRA_INLINE void visible(const AttendCall& c, int i, int* from, int* to) {
    const int at = c.position + i / c.group;
    *to = at + 1;
    *from = c.window > 0 && at - c.window + 1 > 0 ? at - c.window + 1 : 0;
}

// Scores of one query to exp(score - maximum), zeros around the visible ones; returns the sum.
static float weigh(const AttendCall& c, int i) {
    float* s = c.scores + i * c.score_stride;
    int from, to;
    visible(c, i, &from, &to);
    const int begin = from / kStripes * kStripes, end = (to + kStripes - 1) / kStripes * kStripes;
    for (int j = begin; j < from; ++j) s[j] = -__builtin_inff();
    for (int j = to; j < end; ++j) s[j] = -__builtin_inff();
    V top[kGroups];
    for (int g = 0; g < kGroups; ++g) top[g] = splat(-__builtin_inff());
    for (int j = begin; j < end; j += kStripes)
        for (int g = 0; g < kGroups; ++g) top[g] = vmax(load(s + j + g * W), top[g]);
    float most = top[0][0];
    for (int g = 0; g < kGroups; ++g)
        for (int k = 0; k < W; ++k) most = top[g][k] > most ? top[g][k] : most;
    V sum[kGroups] = {};
    for (int j = begin; j < end; j += kStripes)
        for (int g = 0; g < kGroups; ++g) {
            const V e = vexp(load(s + j + g * W) - most);
            store(s + j + g * W, e);
            sum[g] += e;
        }
    alignas(64) float flat[kStripes];
    for (int g = 0; g < kGroups; ++g) store(flat + g * W, sum[g]);
    return tree(flat);
}

// out = sum over positions of weight * value, N vectors of the head at a time, T queries.
template <int T, int N>
static void value_tile(const AttendCall& c, int first, int d, const float* sums) {
    V acc[T][N];
    for (int t = 0; t < T; ++t)
        for (int n = 0; n < N; ++n) acc[t][n] = V{};
    const float* weights[T];
    int from = 0, to = 0, least, last;
    visible(c, first, &least, &last);
    visible(c, first + T - 1, &from, &to);
    for (int t = 0; t < T; ++t) weights[t] = c.scores + (first + t) * c.score_stride;
    const auto row = [&](int j, int t) ALEXANDRA_INLINE_LAMBDA {
        unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA {
            acc[t][n] = fma(splat(weights[t][j]), load(c.values + j * c.value_stride + d + n * W), acc[t][n]);
        });
    };
    // Positions that all see together; before and after them, each query adds what it sees itself.
    for (int j = least; j < from; ++j)
        for (int t = 0; t < T; ++t) {
            int begin, end;
            visible(c, first + t, &begin, &end);
            if (j >= begin && j < end) row(j, t);
        }
    for (int j = from; j < last; ++j)
        unroll<T>([&](auto t) ALEXANDRA_INLINE_LAMBDA { row(j, t); });
    for (int j = from > last ? from : last; j < to; ++j)
        for (int t = 0; t < T; ++t) {
            int begin, end;
            visible(c, first + t, &begin, &end);
            if (j >= begin && j < end) row(j, t);
        }
    for (int t = 0; t < T; ++t) {
        const int i = first + t;
        float* out = c.out + (i / c.group) * c.out_stride + (i % c.group) * c.value_dim + d;
        for (int n = 0; n < N; ++n) {
            const V y = acc[t][n] / splat(sums[t]);
            const int left = c.value_dim - d - n * W;
            if (left >= W)
                store_any(out + n * W, y);
            else if (left > 0)
                store_first(out + n * W, y, left);
        }
    }
}

template <int T>
static void attend_rows(const AttendCall& c, int first) {
    int from, to, unused;
    visible(c, first, &from, &unused);
    visible(c, first + T - 1, &unused, &to);
    score_rows<T>(c, first, from / kStripes, (to + kStripes - 1) / kStripes);
    float sums[T];
    for (int t = 0; t < T; ++t) sums[t] = weigh(c, first + t);
    constexpr int N = W == 16 ? 4 : 2;
    const int vectors = (c.value_dim + W - 1) / W;
    int v = 0;
    for (; v + N <= vectors; v += N) value_tile<T, N>(c, first, v * W, sums);
    if constexpr (N > 2)
        for (; v + 2 <= vectors; v += 2) value_tile<T, 2>(c, first, v * W, sums);
    for (; v < vectors; ++v) value_tile<T, 1>(c, first, v * W, sums);
}

static void attend(const AttendCall& c) {
    constexpr int most = W == 16 ? 6 : 2;
    int i = 0;
    for (; i + most <= c.queries; i += most) attend_rows<most>(c, i);
    if constexpr (most > 4)
        for (; i + 4 <= c.queries; i += 4) attend_rows<4>(c, i);
    for (; i + 2 <= c.queries; i += 2) attend_rows<2>(c, i);
    for (; i < c.queries; ++i) attend_rows<1>(c, i);
}
