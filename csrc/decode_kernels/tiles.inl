// Products with Q8_0 and Q4_0 weights on matrix tiles (AMX): the integer sums of 16 rows by 16 columns of a block
// in one instruction, then the same scaling in the same order as blocks.inl, so that both give equal bits.

constexpr int kTileRows = 16;

// Tiles 0, 1: sums [16][16]; 2, 3: rows of x [16][32 bytes]; 4, 5: a block of a panel [8][16][4].
static void configure_tiles() {
    TileConfig config;
    for (int t = 0; t < 2; ++t) {
        config.rows[t] = 16, config.column_bytes[t] = 64;
        config.rows[2 + t] = 16, config.column_bytes[2 + t] = 32;
        config.rows[4 + t] = 8, config.column_bytes[4 + t] = 64;
    }
    config.load();
}

// A panel of nibbles to signed bytes, [block][8][16][4].
static void unpack_panel(const uint8_t* packed, int blocks, uint8_t* out) {
    for (int b = 0; b < blocks; ++b, packed += kPanelBlock<TensorType::q4_0>, out += 512) {
        I w[8];
        unpack<TensorType::q4_0>(packed + 32, 0, w);
        for (int j = 0; j < 8; ++j)
            _mm512_store_si512(out + 64 * j, _mm512_sub_epi8((__m512i)w[j], _mm512_set1_epi8(8)));
    }
}

// acc += sums (256 high + low where there are both) scaled.
static ALEXANDRA_INLINE void scale_tile(const int32_t* high, const int32_t* low, const uint8_t* scales_w,
                                        const float* scales, ptrdiff_t blocks, V (&acc)[kTileRows]) {
    const V scale_w = halves(scales_w);
    unroll<kTileRows>([&](auto t) ALEXANDRA_INLINE_LAMBDA {
        I sum = *reinterpret_cast<const I*>(high + t * 16);
        if (low) sum = (sum << 8) + *reinterpret_cast<const I*>(low + t * 16);
        acc[t] = fma(__builtin_convertvector(sum, V), scale_w * splat(scales[t * blocks]), acc[t]);
    });
}

// The sums of 16 rows and a block of weights, to memory.
static ALEXANDRA_INLINE void tile_sums(const int8_t* a, ptrdiff_t stride, const uint8_t* w, int32_t* sums) {
    _tile_zero(0);
    _tile_loadd(2, a, stride);
    _tile_loadd(4, w, 64);
    _tile_dpbssd(0, 2, 4);
    _tile_stored(0, sums, 64);
}
static ALEXANDRA_INLINE void tile_sums_again(const int8_t* a, ptrdiff_t stride, const uint8_t* w, int32_t* sums) {
    _tile_zero(1);
    _tile_loadd(3, a, stride);
    _tile_loadd(5, w, 64);
    _tile_dpbssd(1, 3, 5);
    _tile_stored(1, sums, 64);
}

template <TensorType type>
static void multiply_tiles(const MatmulCall& c, const Activations& x) {
    constexpr int stride = type == TensorType::q4_0 ? 512 : kPanelBlock<type>;
    const int blocks = x.k / kBlock, whole = x.rows / kTileRows * kTileRows;
    int32_t* sums = static_cast<int32_t*>(c.scratch);  // [2][16][16]
    uint8_t* unpacked = static_cast<uint8_t*>(c.scratch) + kMatmulScratch;
    configure_tiles();
    for (int panel = c.first; panel < c.last; ++panel) {
        const uint8_t* packed = c.packed + size_t(panel) * size_t(blocks) * kPanelBlock<type>;
        const uint8_t* w = type == TensorType::q4_0 ? unpacked : packed + 32;
        if (type == TensorType::q4_0) unpack_panel(packed, blocks, unpacked);
        for (int row = 0; row < whole; row += kTileRows) {
            V acc[kTileRows];
            const V start = c.bias ? load(c.bias + panel * 16) : V{};
            unroll<kTileRows>([&](auto t) ALEXANDRA_INLINE_LAMBDA { acc[t] = start; });
            const int8_t* a = x.bytes + row * x.byte_stride;
            const float* scales = x.scales + row * x.blocks;
            const auto block = [&](int b) { return w + ptrdiff_t(b) * stride; };
            const auto scales_w = [&](int b) { return packed + ptrdiff_t(b) * kPanelBlock<type>; };
            if constexpr (type == TensorType::q8_0) {
                const int8_t* low = x.low + row * x.byte_stride;
                for (int b = 0; b < blocks; ++b) {
                    tile_sums(a + b * kBlock, x.byte_stride, block(b), sums);
                    tile_sums_again(low + b * kBlock, x.byte_stride, block(b), sums + 256);
                    scale_tile(sums, sums + 256, scales_w(b), scales + b, x.blocks, acc);
                }
            } else {
                int b = 0;
                for (; b + 2 <= blocks; b += 2) {
                    tile_sums(a + b * kBlock, x.byte_stride, block(b), sums);
                    tile_sums_again(a + (b + 1) * kBlock, x.byte_stride, block(b + 1), sums + 256);
                    scale_tile(sums, nullptr, scales_w(b), scales + b, x.blocks, acc);
                    scale_tile(sums + 256, nullptr, scales_w(b + 1), scales + b + 1, x.blocks, acc);
                }
                if (b < blocks) {
                    tile_sums(a + b * kBlock, x.byte_stride, block(b), sums);
                    scale_tile(sums, nullptr, scales_w(b), scales + b, x.blocks, acc);
                }
            }
            unroll<kTileRows>([&](auto t) ALEXANDRA_INLINE_LAMBDA {
                store(c.y + (row + t) * c.y_stride + panel * 16, acc[t]);
            });
        }
    }
    _tile_release();
    if (whole == x.rows) return;
    Activations rest = x;
    rest.rows -= whole;
    rest.bytes += whole * x.byte_stride;
    rest.low += whole * x.byte_stride;
    rest.scales += whole * x.blocks;
    rest.sums += whole * x.blocks;
    MatmulCall call = c;
    call.y += whole * c.y_stride;
    multiply_blocks<type>(call, rest);
}
