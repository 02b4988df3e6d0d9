// The matrix product behind dense layers, forward and backward: register tiles of M x N vectors, k in order.

#if ALEXANDRA_WIDTH == 16
constexpr int kTileM = 14, kTileN = 2;
#elif ALEXANDRA_WIDTH == 8
constexpr int kTileM = 6, kTileN = 2;
#else
constexpr int kTileM = 4, kTileN = 2;
#endif

template <int M, int N>
struct Tile {
    V acc[M][N];

    void begin(const Product& p, const float* start, const float* c) {
        for (int m = 0; m < M; ++m)
            for (int n = 0; n < N; ++n)
                acc[m][n] = p.accumulate ? load(c + m * p.c_m + n * W) : splat(start ? start[m] : 0.0f);
    }

    void end(const Product& p, float* c) const {
        for (int m = 0; m < M; ++m)
            for (int n = 0; n < N; ++n) store(c + m * p.c_m + n * W, acc[m][n]);
    }

    // One step of k: B's row against M values of A that lie `stride` apart.
    inline __attribute__((always_inline)) void step(const float* a, ptrdiff_t stride, const float* b) {
        V row[N];
        for (int n = 0; n < N; ++n) row[n] = load(b + n * W);
        for (int m = 0; m < M; ++m) {
            const V x = splat(a[m * stride]);
            for (int n = 0; n < N; ++n) acc[m][n] = fma(x, row[n], acc[m][n]);
        }
    }
};

// A's values of one k lie side by side (a_m == 1).
template <int M, int N>
static void tile_across(const Product& p, const float* a, const float* b, const float* start, float* c) {
    Tile<M, N> tile;
    tile.begin(p, start, c);
    for (int k = 0; k < p.k; ++k) tile.step(a + k * p.a_k, 1, b + k * p.b_k);
    tile.end(p, c);
}

// A's values of one m lie side by side (a_k == 1), in segments.
template <int M, int N>
static void tile_along(const Product& p, const float* a, const float* b, const float* start, float* c) {
    Tile<M, N> tile;
    tile.begin(p, start, c);
    for (int left = p.k; left > 0; left -= p.segment, a += p.a_segment) {
        const int steps = left < p.segment ? left : p.segment;
        const float* s = a;
        for (int k = 0; k < steps; ++k, ++s, b += p.b_k) tile.step(s, p.a_m, b);
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

static void product(const Product& p) {
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
