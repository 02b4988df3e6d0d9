// Changes of layout between rows and slabs.

static void slab_from_rows(int features, int lanes, int num_rows, const float* const* rows, float* dst) {
    for (int lane = 0; lane < lanes; lane += W)
        for (int f = 0; f < features; f += W) {
            const int count = features - f < W ? features - f : W;
            V t[W];
            for (int r = 0; r < W; ++r)
                t[r] = lane + r >= num_rows ? V{}
                       : count == W         ? load_any(rows[lane + r] + f)
                                            : load_first(rows[lane + r] + f, count);
            transpose(t);
            for (int j = 0; j < count; ++j) store(dst + ptrdiff_t(f + j) * lanes + lane, t[j]);
        }
}

static void panels_from_slab(int features, int lanes, int row, const float* src, float* dst, ptrdiff_t capacity) {
    for (int f = 0; f < features; f += W) {
        const int panel = f / kPanel, width = panel_width(features, panel);
        float* base = dst + panel * kPanel * capacity + f % kPanel;
        for (int lane = 0; lane < lanes; lane += W) {
            V t[W];
            for (int j = 0; j < W; ++j) t[j] = f + j < features ? load(src + ptrdiff_t(f + j) * lanes + lane) : V{};
            transpose(t);
            for (int r = 0; r < W; ++r) store(base + ptrdiff_t(row + lane + r) * width, t[r]);
        }
    }
    for (int f = (features + W - 1) / W * W; f % kStripes; f += W) {  // padding beyond the last vector
        const int panel = f / kPanel, width = panel_width(features, panel);
        float* base = dst + panel * kPanel * capacity + f % kPanel;
        for (int r = 0; r < lanes; ++r) store(base + ptrdiff_t(row + r) * width, V{});
    }
}

static void rows_from_slab(int features, int lanes, int num_rows, const float* src, float* dst, ptrdiff_t stride) {
    for (int lane = 0; lane < num_rows; lane += W)
        for (int f = 0; f < features; f += W) {
            const int count = features - f < W ? features - f : W;
            V t[W];
            for (int j = 0; j < W; ++j) t[j] = j < count ? load(src + ptrdiff_t(f + j) * lanes + lane) : V{};
            transpose(t);
            for (int r = 0; r < W && lane + r < num_rows; ++r)
                store_first(dst + (lane + r) * stride + f, t[r], count);
        }
}
