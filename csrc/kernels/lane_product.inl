// Products of small matrices, one for each lane: every element of A, B and C is a vector of lanes, so that tiles of
// accumulators need no transposition and no broadcast.

#if ALEXANDRA_WIDTH == 16
constexpr int kLaneM = 6, kLaneN = 4;
#else
constexpr int kLaneM = 3, kLaneN = 3;
#endif

template <int M, int N>
static void lane_tile(const LaneProduct& p, const float* a, const float* b, float* c) {
    V acc[M][N];
    unroll<M>([&](auto m) ALEXANDRA_INLINE_LAMBDA {
        unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA { acc[m][n] = V{}; });
    });
    for (int k = 0; k < p.k; ++k, a += p.a_k, b += p.b_k) {
        V row[N];
        unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA { row[n] = load(b + n * p.b_n); });
        unroll<M>([&](auto m) ALEXANDRA_INLINE_LAMBDA {
            const V x = load(a + m * p.a_m);
            unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA { acc[m][n] = fma(x, row[n], acc[m][n]); });
        });
    }
    const V scale = splat(p.scale);
    unroll<M>([&](auto m) ALEXANDRA_INLINE_LAMBDA {
        unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA {
            float* at = c + m * p.c_m + n * p.c_n;
            store(at, p.accumulate ? fma(acc[m][n], scale, load(at)) : acc[m][n] * scale);
        });
    });
}

typedef void (*LaneTile)(const LaneProduct&, const float*, const float*, float*);

template <int M, typename Sequence>
struct LaneRow;
template <int M, int... N>
struct LaneRow<M, std::integer_sequence<int, N...>> {
    static constexpr LaneTile tiles[] = {lane_tile<M, N + 1>...};
};
template <typename Sequence>
struct LaneTable;
template <int... M>
struct LaneTable<std::integer_sequence<int, M...>> {
    static constexpr const LaneTile* rows[] = {
        LaneRow<M + 1, std::make_integer_sequence<int, kLaneN>>::tiles...};
};

static void lane_product(const LaneProduct& p) {
    for (int lane = 0; lane < p.lanes; lane += W)
        for (int m = 0; m < p.m; m += kLaneM) {
            const int height = p.m - m < kLaneM ? p.m - m : kLaneM;
            const LaneTile* tiles = LaneTable<std::make_integer_sequence<int, kLaneM>>::rows[height - 1];
            for (int n = 0; n < p.n; n += kLaneN) {
                const int width = p.n - n < kLaneN ? p.n - n : kLaneN;
                tiles[width - 1](p, p.a + m * p.a_m + lane, p.b + n * p.b_n + lane,
                                 p.c + m * p.c_m + n * p.c_n + lane);
            }
        }
}
