// Attention by tiles of scores (Dao et al., "FlashAttention", 2022): forward keeps a running maximum and sum, backward
// computes the scores again, so that no square of the sequence's length is ever held.

// Tiles of a head: queries i .. i + rows - 1 against keys j .. j + columns - 1.
struct ScoreTile {
    int head, i, rows, j, columns;
};

static inline bool visible(const Attention& p, int i, int j) {
    if (p.causal && j > i) return false;
    if (!p.window) return true;
    const int distance = i > j ? i - j : j - i;
    return distance < p.window || i < p.globals || j < p.globals || (p.stride && distance % p.stride == 0);
}

// Whether a tile holds a visible pair; a pattern of strides always may.
static inline bool any_visible(const Attention& p, const ScoreTile& t) {
    if (p.causal && t.j > t.i + t.rows - 1) return false;
    if (!p.window || p.stride || t.i < p.globals || t.j < p.globals) return true;
    const int behind = t.i - (t.j + t.columns - 1), ahead = t.j - (t.i + t.rows - 1);
    return behind < p.window && ahead < p.window;
}

// f(tile) for every tile of a head's query tile that may hold a visible pair.
template <typename F>
static inline void each_tile(const Attention& p, int head, int i, F f) {
    const int rows = p.queries - i < kQueries ? p.queries - i : kQueries;
    for (int j = 0; j < p.keys; j += kKeys) {
        ScoreTile t{head, i, rows, j, p.keys - j < kKeys ? p.keys - j : kKeys};
        if (!any_visible(p, t)) continue;
        if (p.causal && t.j + t.columns > t.i + t.rows) t.columns = t.i + t.rows - t.j;
        f(t);
    }
}

// One matrix of a head inside a slab of vectors.
struct HeadMatrix {
    const float* at;
    ptrdiff_t row;
};

static inline HeadMatrix head_of(const float* slab, int heads, int head, int dim, int lanes, int position) {
    const ptrdiff_t row = ptrdiff_t(heads) * dim * lanes;
    return {slab + position * row + ptrdiff_t(head) * dim * lanes, row};
}

static inline int kv_head(const Attention& p, int head) { return head / (p.heads / p.kv_heads); }

static void score_tile(const Attention& p, const ScoreTile& t, float* scores) {
    const HeadMatrix q = head_of(p.q, p.heads, t.head, p.dim, p.lanes, t.i);
    const HeadMatrix k = head_of(p.k, p.kv_heads, kv_head(p, t.head), p.dim, p.lanes, t.j);
    lane_product({t.rows, t.columns, p.dim, p.lanes, q.at, q.row, p.lanes, k.at, p.lanes, k.row, scores,
                  ptrdiff_t(kKeys) * p.lanes, p.lanes, p.scale, false});
}

// The score of a pair after softcap and bias, minus infinity where it is not visible.
static ALEXANDRA_INLINE V seen_score(const Attention& p, int head, int i, int j, int lane, V s) {
    if (!visible(p, i, j)) return splat(-__builtin_inff());
    if (p.softcap > 0.0f) s = p.softcap * vtanh(s * (1.0f / p.softcap));
    if (p.relative) s += splat(p.relative[p.buckets[j - i + p.queries - 1] * p.relative_stride + head]);
    if (!p.segments) return s;
    I key;
    __builtin_memcpy(&key, p.segments + ptrdiff_t(j) * p.lanes + lane, sizeof key);
    I seen = key != 0;
    if (p.queries == p.keys) {
        I own;
        __builtin_memcpy(&own, p.segments + ptrdiff_t(i) * p.lanes + lane, sizeof own);
        seen &= key == own;
    }
    return seen ? s : splat(-__builtin_inff());
}

// Scores of one query to exponentials under the running maximum; returns what the sums before must be scaled by.
static ALEXANDRA_INLINE V soften(const Attention& p, const ScoreTile& t, int i, int lane, float* row, float* top,
                                 float* sum) {
    const V none = splat(-__builtin_inff());
    V high = load(top);
    for (int j = 0; j < t.columns; ++j) {
        const V s = seen_score(p, t.head, i, t.j + j, lane, load(row + j * p.lanes));
        store(row + j * p.lanes, s);
        high = vmax(s, high);
    }
    const V shift = high == none ? V{} : high;
    const V factor = load(top) == none ? V{} : vexp(load(top) - shift);
    const V added = striped(t.columns, [&](int j, V acc) ALEXANDRA_INLINE_LAMBDA {
        const V s = load(row + j * p.lanes), e = s == none ? V{} : vexp(s - shift);
        store(row + j * p.lanes, e);
        return acc + e;
    });
    store(top, high);
    store(sum, fma(load(sum), factor, added));
    return factor;
}

static void scale_vector(float* x, int count, int lanes, V factor) {
    for (int d = 0; d < count; ++d) store(x + ptrdiff_t(d) * lanes, load(x + ptrdiff_t(d) * lanes) * factor);
}

static void attention_queries(const Attention& p, int head, int first) {
    const int lanes = p.lanes, rows = p.queries - first < kQueries ? p.queries - first : kQueries;
    float *scores = p.scratch, *top = scores + ptrdiff_t(kQueries) * kKeys * lanes, *sum = top + kQueries * lanes;
    const HeadMatrix y = head_of(p.y, p.heads, head, p.value_dim, lanes, first);
    float* out = const_cast<float*>(y.at);
    for (int i = 0; i < rows; ++i)
        for (int lane = 0; lane < lanes; lane += W) {
            store(top + i * lanes + lane, splat(-__builtin_inff()));
            store(sum + i * lanes + lane, V{});
            for (int d = 0; d < p.value_dim; ++d) store(out + i * y.row + ptrdiff_t(d) * lanes + lane, V{});
        }
    bool started = false;
    each_tile(p, head, first, [&](const ScoreTile& t) {
        score_tile(p, t, scores);
        for (int i = 0; i < rows; ++i)
            for (int lane = 0; lane < lanes; lane += W) {
                const V factor = soften(p, t, first + i, lane, scores + ptrdiff_t(i) * kKeys * lanes + lane,
                                        top + i * lanes + lane, sum + i * lanes + lane);
                if (started) scale_vector(out + i * y.row + lane, p.value_dim, lanes, factor);
            }
        started = true;
        const HeadMatrix v = head_of(p.v, p.kv_heads, kv_head(p, head), p.value_dim, lanes, t.j);
        lane_product({rows, p.value_dim, t.columns, lanes, scores, ptrdiff_t(kKeys) * lanes, lanes, v.at, v.row, lanes,
                      out, y.row, lanes, 1.0f, true});
    });
    for (int i = 0; i < rows; ++i)
        for (int lane = 0; lane < lanes; lane += W) {
            const V total = load(sum + i * lanes + lane), high = load(top + i * lanes + lane);
            const V factor = total > 0.0f ? 1.0f / total : V{};
            scale_vector(out + i * y.row + lane, p.value_dim, lanes, factor);
            if (!p.lse) continue;
            const V log_sum = total > 0.0f ? vlog(total) + high : splat(__builtin_inff());
            store(p.lse + (ptrdiff_t(head) * p.queries + first + i) * lanes + lane, log_sum);
        }
}

static void attention_forward(const Attention& p) {
    for (int head = p.first_head; head < p.last_head; ++head)
        for (int i = 0; i < p.queries; i += kQueries) attention_queries(p, head, i);
}

// Weights of a tile from its scores, in place, and the gradients of the scores from those of the weights (`d`).
static void score_gradients(const AttentionBackward& b, const ScoreTile& t, const float* delta, float* scores, float* d) {
    const Attention& p = b.forward;
    const int lanes = p.lanes;
    for (int r = 0; r < t.rows; ++r)
        for (int lane = 0; lane < lanes; lane += W) {
            const int i = t.i + r;
            const V lse = load(p.lse + (ptrdiff_t(t.head) * p.queries + i) * lanes + lane);
            const V own = load(delta + ptrdiff_t(i) * lanes + lane);
            for (int c = 0; c < t.columns; ++c) {
                const ptrdiff_t at = (ptrdiff_t(r) * kKeys + c) * lanes + lane;
                const V raw = load(scores + at), s = seen_score(p, t.head, i, t.j + c, lane, raw);
                const V weight = s == -__builtin_inff() ? V{} : vexp(s - lse);
                V gradient = weight * (load(d + at) - own);
                if (b.drelative) {
                    const int bucket = p.buckets[t.j + c - i + p.queries - 1];
                    float* to = b.drelative + (ptrdiff_t(bucket) * p.heads + t.head) * lanes + lane;
                    store(to, load(to) + gradient);
                }
                if (p.softcap > 0.0f) {
                    const V bent = vtanh(raw * (1.0f / p.softcap));
                    gradient *= 1.0f - bent * bent;
                }
                store(scores + at, weight);
                store(d + at, gradient);
            }
        }
}

static void tile_backward(const AttentionBackward& b, const ScoreTile& t, const float* delta) {
    const Attention& p = b.forward;
    const int lanes = p.lanes, group = kv_head(p, t.head);
    const ptrdiff_t row = ptrdiff_t(kKeys) * lanes;
    float *scores = p.scratch, *d = scores + kQueries * row;
    const HeadMatrix dy = head_of(b.dy, p.heads, t.head, p.value_dim, lanes, t.i);
    const HeadMatrix v = head_of(p.v, p.kv_heads, group, p.value_dim, lanes, t.j);
    const HeadMatrix q = head_of(p.q, p.heads, t.head, p.dim, lanes, t.i);
    const HeadMatrix k = head_of(p.k, p.kv_heads, group, p.dim, lanes, t.j);
    score_tile(p, t, scores);
    lane_product({t.rows, t.columns, p.value_dim, lanes, dy.at, dy.row, lanes, v.at, lanes, v.row, d, row, lanes, 1.0f,
                  false});
    score_gradients(b, t, delta, scores, d);
    if (b.dv) {
        float* dv = const_cast<float*>(head_of(b.dv, p.kv_heads, group, p.value_dim, lanes, t.j).at);
        lane_product({t.columns, p.value_dim, t.rows, lanes, scores, lanes, row, dy.at, dy.row, lanes, dv, v.row, lanes,
                      1.0f, true});
    }
    if (b.dk) {
        float* dk = const_cast<float*>(head_of(b.dk, p.kv_heads, group, p.dim, lanes, t.j).at);
        lane_product({t.columns, p.dim, t.rows, lanes, d, lanes, row, q.at, q.row, lanes, dk, k.row, lanes, p.scale,
                      true});
    }
    if (b.dq) {
        float* dq = const_cast<float*>(head_of(b.dq, p.heads, t.head, p.dim, lanes, t.i).at);
        lane_product({t.rows, p.dim, t.columns, lanes, d, row, lanes, k.at, k.row, lanes, dq, q.row, lanes, p.scale,
                      true});
    }
}

static void attention_backward(const AttentionBackward& b) {
    const Attention& p = b.forward;
    const int lanes = p.lanes;
    float* delta = p.scratch + ptrdiff_t(2) * kQueries * kKeys * lanes;  // sum of y * dy of each query
    for (int head = p.first_head; head < p.last_head; ++head) {
        for (int i = 0; i < p.queries; ++i)
            for (int lane = 0; lane < lanes; lane += W) {
                const float* y = head_of(p.y, p.heads, head, p.value_dim, lanes, i).at + lane;
                const float* dy = head_of(b.dy, p.heads, head, p.value_dim, lanes, i).at + lane;
                store(delta + ptrdiff_t(i) * lanes + lane, striped(p.value_dim, [&](int d, V acc) {
                          return fma(load(y + ptrdiff_t(d) * lanes), load(dy + ptrdiff_t(d) * lanes), acc);
                      }));
            }
        for (int i = 0; i < p.queries; i += kQueries)
            each_tile(p, head, i, [&](const ScoreTile& t) { tile_backward(b, t, delta); });
    }
}
