// The matrix product of many networks at once: tiles of M x N vectors, k in order. Both operands are loaded as
// vectors, so a tile of 4 x 6 does 24 multiply-adds on 10 loads.

#if ALEXANDRA_WIDTH == 16
constexpr int kLaneM = 4, kLaneN = 6;
#else
constexpr int kLaneM = 3, kLaneN = 3;
#endif

template <int M, int N, bool masked>
static void lane_tile(const CrewProduct& p, int m0, int n0) {
    V acc[M][N];
    const float* a = p.a + m0 * p.a_m;
    const float* b = p.b + n0 * p.b_n;
    float* const c = p.c + m0 * p.c_m + n0 * p.c_n;
    const ptrdiff_t a_m = p.a_m, a_k = p.a_k, b_n = p.b_n, b_k = p.b_k;
    unroll<M>([&](auto m) ALEXANDRA_INLINE_LAMBDA {
        const V start = p.start ? load(p.start + (m0 + m) * W) : V{};
        unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA {
            acc[m][n] = p.accumulate ? load(c + m * p.c_m + n * p.c_n) : start;
        });
    });
    for (int k = 0; k < p.k; ++k, a += a_k, b += b_k) {
        V row[N];
        unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA { row[n] = load(b + n * b_n); });
        I live;
        if constexpr (masked) live = bits(load(reinterpret_cast<const float*>(p.used) + k * W));
        unroll<M>([&](auto m) ALEXANDRA_INLINE_LAMBDA {
            const V x = load(a + m * a_m);
            unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA {
                const V next = fma(x, row[n], acc[m][n]);
                if constexpr (masked)
                    acc[m][n] = live ? next : acc[m][n];
                else
                    acc[m][n] = next;
            });
        });
    }
    unroll<M>([&](auto m) ALEXANDRA_INLINE_LAMBDA {
        unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA {
            float* const at = c + m * p.c_m + n * p.c_n;
            V x = acc[m][n];
            if (p.relu) x = x > 0.0f ? x : V{};
            if (p.gate) x = load(p.gate + (at - p.c)) > 0.0f ? x : V{};
            store(at, x);
        });
    });
}

typedef void (*LaneTile)(const CrewProduct&, int, int);

template <bool masked, int M, int... N>
static constexpr LaneTile lane_tile_of(int n, std::integer_sequence<int, N...>) {
    constexpr LaneTile row[] = {lane_tile<M, N + 1, masked>...};
    return row[n - 1];
}

template <bool masked, int... M>
static LaneTile lane_tile_of(int m, int n, std::integer_sequence<int, M...>) {
    typedef LaneTile (*Row)(int, std::make_integer_sequence<int, kLaneN>);
    constexpr Row rows[] = {lane_tile_of<masked, M + 1>...};
    return rows[m - 1](n, {});
}

template <bool masked>
static void crew_product_of(const CrewProduct& p) {
    const int tiles_m = (p.m + kLaneM - 1) / kLaneM, tiles_n = (p.n + kLaneN - 1) / kLaneN;
    for (int i = 0, m = 0; i < tiles_m; ++i) {
        const int height = p.m / tiles_m + (i < p.m % tiles_m);
        for (int j = 0, n = 0; j < tiles_n; ++j) {
            const int width = p.n / tiles_n + (j < p.n % tiles_n);
            lane_tile_of<masked>(height, width, std::make_integer_sequence<int, kLaneM>{})(p, m, n);
            n += width;
        }
        m += height;
    }
}

static void crew_product(const CrewProduct& p) { p.used ? crew_product_of<true>(p) : crew_product_of<false>(p); }
