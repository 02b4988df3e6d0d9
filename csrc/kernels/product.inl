// The matrix product behind dense layers, forward and backward: register tiles of M x N vectors, k in order.

#if ALEXANDRA_WIDTH == 16
constexpr int kTileM = 14, kTileN = 2;
#elif ALEXANDRA_WIDTH == 8
constexpr int kTileM = 6, kTileN = 2;
#else
constexpr int kTileM = 4, kTileN = 2;
#endif

constexpr int kCut = 128;             // steps of k of a product across, 512 of one along with long sums
constexpr ptrdiff_t kChunk = 24576;   // floats of B that stay in the second-level cache while m goes by

// How far apart the vectors of a tile lie in B and C: side by side, or in neighbouring blocks.
struct Steps {
    ptrdiff_t b, c;
};

// The accumulators of one tile. Loops over them are unrolled by hand, or GCC keeps them in memory.
template <int M, int N>
struct Tile {
    V acc[M][N];
    Steps next;

    ALEXANDRA_INLINE void begin(const Product& p, const float* start, const float* c) {
        if (p.accumulate)
            unroll<M>([&](auto m) ALEXANDRA_INLINE_LAMBDA {
                unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA { acc[m][n] = load(c + m * p.c_m + n * next.c); });
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
                float* at = c + m * p.c_m + n * next.c;
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
        unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA { row[n] = load(b + n * next.b); });
        unroll<M>([&](auto m) ALEXANDRA_INLINE_LAMBDA {
            const V x = splat(a(m));
            unroll<N>([&](auto n) ALEXANDRA_INLINE_LAMBDA { acc[m][n] = fma(x, row[n], acc[m][n]); });
        });
    }
};

// A's values of one k lie side by side (a_m == 1).
template <int M, int N>
static void tile_across(const Product& p, Steps next, const float* a, const float* b, const float* start, float* c) {
    Tile<M, N> tile;
    tile.next = next;
    tile.begin(p, start, c);
    for (int k = 0; k < p.k; ++k, a += p.a_k, b += p.b_k)
        tile.step([&](auto m) ALEXANDRA_INLINE_LAMBDA { return a[m]; }, b);
    tile.end(p, c);
}

// A pointer further on, in a register of its own: the compiler does not make others from it.
static ALEXANDRA_INLINE const float* advanced(const float* at, ptrdiff_t steps) {
    at += steps;
#if defined(__GNUC__)
    asm("" : "+r"(at));
#endif
    return at;
}

// A's values of one m lie side by side (a_k == 1), in segments.
template <int M, int N>
static void tile_along(const Product& p, Steps next, const float* a, const float* b, const float* start, float* c) {
    Tile<M, N> tile;
    tile.next = next;
    tile.begin(p, start, c);
    // Rows by fives from a few pointers: a register for each row is more than there are.
    constexpr int count = (M + 4) / 5;
    const float* rows[count];
    unroll<count>([&](auto i) ALEXANDRA_INLINE_LAMBDA { rows[i] = a + 5 * i * p.a_m; });
    const ptrdiff_t one = p.a_m, three = 3 * one;
    for (int left = p.k; left > 0; left -= p.segment) {
        const int steps = left < p.segment ? left : p.segment;
        for (int k = 0; k < steps; ++k, b += p.b_k) {
            tile.step([&](auto m) ALEXANDRA_INLINE_LAMBDA {
                constexpr int row = decltype(m){} % 5;
                return row == 3 ? rows[m / 5][three] : rows[m / 5][row * one];
            }, b);
            unroll<count>([&](auto i) ALEXANDRA_INLINE_LAMBDA { rows[i] = advanced(rows[i], 1); });
        }
        unroll<count>([&](auto i) ALEXANDRA_INLINE_LAMBDA { rows[i] = advanced(rows[i], p.a_segment - steps); });
    }
    tile.end(p, c);
}

typedef void (*TileFunction)(const Product&, Steps, const float*, const float*, const float*, float*);

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

// Blocks first .. last - 1 against rows m .. m + height - 1 of A.
static void product_rows(const Product& p, int m, int height, int first, int last) {
    const bool along = p.a_k == 1;
    const float *a = p.a + m * p.a_m, *start = p.start ? p.start + m : nullptr;
    const TileFunction two = along ? Tiles<kTileN>::along[height - 1] : Tiles<kTileN>::across[height - 1];
    const TileFunction one = along ? Tiles<1>::along[height - 1] : Tiles<1>::across[height - 1];
    const float* b = p.b + first * p.b_block;
    float* c = p.c + m * p.c_m + first * p.c_block;
    int block = first;
    if (p.n == W)
        for (; block + 1 < last; block += 2, b += 2 * p.b_block, c += 2 * p.c_block)
            two(p, {p.b_block, p.c_block}, a, b, start, c);
    for (; block < last; ++block, b += p.b_block, c += p.c_block) {
        int n = 0;
        for (; n + kTileN * W <= p.n; n += kTileN * W) two(p, {W, W}, a, b + n, start, c + n);
        for (; n < p.n; n += W) one(p, {W, W}, a, b + n, start, c + n);
    }
}

static void product_block(const Product& p) {
    const int tiles = (p.m + kTileM - 1) / kTileM;  // of nearly equal height
    const ptrdiff_t fit = kChunk / (ptrdiff_t(p.k) * p.n) & ~ptrdiff_t(1);
    const int chunk = fit < 4 ? 4 : fit < p.blocks ? int(fit) : p.blocks;
    for (int first = 0; first < p.blocks; first += chunk) {
        const int last = first + chunk < p.blocks ? first + chunk : p.blocks;
        int m = 0;
        for (int t = 0; t < tiles; ++t) {
            const int height = p.m / tiles + (t < p.m % tiles);
            product_rows(p, m, height, first, last);
            m += height;
        }
    }
}

// Long sums are cut, in order, so that what a tile reads stays in the first-level cache.
static void product(const Product& p) {
    const bool along = p.a_k == 1;
    const int cut = !along ? kCut : 512 / p.segment * p.segment;
    if (p.k <= cut || cut == 0 || (along && p.a_segment == 0)) return product_block(p);
    Product part = p;
    for (int k = 0; k < p.k; k += cut) {
        const bool last = k + cut >= p.k;
        part.k = last ? p.k - k : cut;
        part.a = p.a + (along ? k / p.segment * p.a_segment : k * p.a_k);
        part.b = p.b + k * p.b_k;
        part.accumulate = p.accumulate || k > 0;
        part.gate = last ? p.gate : nullptr;
        part.relu = last && p.relu;
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
