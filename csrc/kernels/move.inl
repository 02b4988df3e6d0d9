// Changes of layout between rows and slabs, and the words of Philox streams.

static void slab_from_rows(int features, int lanes, int num_rows, const float* const* rows, float* dst) {
    for (int lane = 0; lane < num_rows; ++lane)
        for (int f = 0; f < features; ++f) dst[ptrdiff_t(f) * lanes + lane] = rows[lane][f];
    for (int f = 0; f < features; ++f)
        for (int lane = num_rows; lane < lanes; ++lane) dst[ptrdiff_t(f) * lanes + lane] = 0.0f;
}

static void panels_from_slab(int features, int lanes, int row, const float* src, float* dst, ptrdiff_t capacity) {
    for (int panel = 0; panel * kPanel < features; ++panel) {
        const int width = panel_width(features, panel);
        float* base = dst + panel * kPanel * capacity;
        for (int j = 0; j < width; ++j) {
            const int f = panel * kPanel + j;
            for (int lane = 0; lane < lanes; ++lane)
                base[ptrdiff_t(row + lane) * width + j] = f < features ? src[ptrdiff_t(f) * lanes + lane] : 0.0f;
        }
    }
}

static void rows_from_slab(int features, int lanes, int num_rows, const float* src, float* dst, ptrdiff_t stride) {
    for (int lane = 0; lane < num_rows; ++lane)
        for (int f = 0; f < features; ++f) dst[lane * stride + f] = src[ptrdiff_t(f) * lanes + lane];
}

static void philox_words(uint64_t key, uint64_t nonce, uint32_t lane, uint64_t start, size_t count, uint32_t* out) {
    size_t done = 0;
    for (uint64_t block = start / 4; done < count; ++block) {
        uint32_t words[4];
        philox_block(key, nonce, lane, uint32_t(block), words);
        for (unsigned j = block == start / 4 ? start % 4 : 0; j < 4 && done < count; ++j) out[done++] = words[j];
    }
}
