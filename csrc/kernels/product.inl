// The matrix product behind dense layers, forward and backward: register tiles of M x N vectors, k in order.

#if ALEXANDRA_WIDTH == 16
constexpr int kTileM = 14, kTileN = 2;
#elif ALEXANDRA_WIDTH == 8
constexpr int kTileM = 6, kTileN = 2;
#else
constexpr int kTileM = 4, kTileN = 2;
#endif

constexpr int kCut = 128;

// The accumulators of one tile. Loops over them are unrolled by hand, or GCC keeps them in memory.
template <int M, int N>
struct Tile {
    V acc[M][N];

    ALEXANDRA_INLINE void begin(const Product& p, const float* start, const float* c) {
        if (p.accumulate)
            unroll<M>([&](auto m) ALEXANDRA_INLINE_LAMBDA {
                unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA { acc[m][n] = load(c + m * p.c_m + n * W); });
            });
        else
            unroll<M>([&](auto m) ALEXANDRA_INLINE_LAMBDA {
                const V x = start ? splat(start[m]) : V{};
                unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA { acc[m][n] = x; });
            });
    }

    template <typename F>
    ALEXANDRA_INLINE void put(const Product& p, float* c, F f) const {
        unroll<M>([&](auto m) ALEXANDRA_INLINE_LAMBDA {
            unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA {
                float* at = c + m * p.c_m + n * W;
                store(at, f(acc[m][n], at));
            });
        });
    }

    ALEXANDRA_INLINE void end(const Product& p, float* c) const {
        if (p.relu)
            put(p, c, [](V x, float*) ALEXANDRA_INLINE_LAMBDA { return x > 0.0f ? x : V{}; });
        else if (const float* gate = p.gate)
            put(p, c, [&](V x, float* at) ALEXANDRA_INLINE_LAMBDA { return load(gate + (at - p.c)) > 0.0f ? x : V{}; });
        else
            put(p, c, [](V x, float*) ALEXANDRA_INLINE_LAMBDA { return x; });
    }

    // One step of k: B's row against M values of A.
    template <typename A>
    ALEXANDRA_INLINE void step(A a, const float* b) {
        V row[N];
        unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA { row[n] = load(b + n * W); });
        unroll<M>([&](auto m) ALEXANDRA_INLINE_LAMBDA {
            const V x = splat(a(m));
            unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA { acc[m][n] = fma(x, row[n], acc[m][n]); });
        });
    }
};

// A's values of one k lie side by side (a_m == 1).
template <int M, int N>
static void tile_across(const Product& p, const float* a, const float* b, const float* start, float* c) {
    Tile<M, N> tile;
    tile.begin(p, start, c);
    for (int k = 0; k < p.k; ++k, a += p.a_k, b += p.b_k)
        tile.step([&](auto m) ALEXANDRA_INLINE_LAMBDA { return a[m]; }, b);
    tile.end(p, c);
}

// A's values of one m lie side by side (a_k == 1), in segments.
template <int M, int N>
static void tile_along(const Product& p, const float* a, const float* b, const float* start, float* c) {
    Tile<M, N> tile;
    tile.begin(p, start, c);
    for (int left = p.k; left > 0; left -= p.segment, a += p.a_segment) {
        const int steps = left < p.segment ? left : p.segment;
        const float* rows[M];
        unroll<M>([&](auto m) ALEXANDRA_INLINE_LAMBDA { rows[m] = a + m * p.a_m; });
        for (ptrdiff_t k = 0; k < steps; ++k, b += p.b_k)
            tile.step([&](auto m) ALEXANDRA_INLINE_LAMBDA { return rows[m][k]; }, b);
    }
    tile.end(p, c);
}

typedef void (*TileFunction)(const Product&, const float*, const float*, const float*, float*);

template <int N, int... M>
struct TileTable {
    static constexpr TileFunction along[] = {tile_along<M, N>...};
    static constexpr TileFunction across[] = {tile_across<M, N>...};
};
#if ALEXANDRA_WIDTH == 16
template <int N>
using Tiles = TileTable<N, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14>;
#elif ALEXANDRA_WIDTH == 8
template <int N>
using Tiles = TileTable<N, 1, 2, 3, 4, 5, 6>;
#else
template <int N>
using Tiles = TileTable<N, 1, 2, 3, 4>;
#endif

static void product_block(const Product& p) {
    const int tiles = (p.m + kTileM - 1) / kTileM;  // of nearly equal height
    const bool along = p.a_k == 1;
    int m = 0;
    for (int t = 0; t < tiles; ++t) {
        const int height = p.m / tiles + (t < p.m % tiles);
        const float* start = p.start ? p.start + m : nullptr;
        for (int block = 0; block < p.blocks; ++block) {
            const float* b = p.b + block * p.b_block;
            float* c = p.c + m * p.c_m + block * p.c_block;
            int n = 0;
            const TileFunction two = along ? Tiles<kTileN>::along[height - 1] : Tiles<kTileN>::across[height - 1];
            for (; n + kTileN * W <= p.n; n += kTileN * W) two(p, p.a + m * p.a_m, b + n, start, c + n);
            const TileFunction one = along ? Tiles<1>::along[height - 1] : Tiles<1>::across[height - 1];
            for (; n < p.n; n += W) one(p, p.a + m * p.a_m, b + n, start, c + n);
        }
        m += height;
    }
}

// Long sums of backward are cut, in order, so that what a tile reads stays in the first-level cache.
static void product(const Product& p) {
    if (p.a_k == 1) return product_block(p);
    Product part = p;
    for (int k = 0; k < p.k; k += kCut) {
        part.k = p.k - k < kCut ? p.k - k : kCut;
        part.a = p.a + k * p.a_k;
        part.b = p.b + k * p.b_k;
        part.accumulate = p.accumulate || k > 0;
        part.gate = k + kCut < p.k ? nullptr : p.gate;
        product_block(part);
    }
}

// What this processor can do at most: independent multiply-adds, nothing loaded or stored.
static uint64_t multiply_adds(int rounds, float* sink) {
    constexpr int count = 12;
    V acc[count];
    const V a = splat(0.999f), b = splat(1e-3f);
    unroll<count>([&](auto i) ALEXANDRA_INLINE_LAMBDA { acc[i] = splat(float(i)); });
    for (int r = 0; r < rounds; ++r)
        unroll<count>([&](auto i) ALEXANDRA_INLINE_LAMBDA { acc[i] = fma(acc[i], a, b); });
    unroll<count>([&](auto i) ALEXANDRA_INLINE_LAMBDA { store(sink, acc[i]), sink += W; });
    return uint64_t(rounds) * count * W;
}
