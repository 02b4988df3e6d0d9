// What LDTILECFG reads: of each tile its rows, and the bytes of a row.

struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t column_bytes[16] = {};
    uint8_t rows[16] = {};

    void load() const {
        __asm__ volatile("" : : "r"(this) : "memory");  // GCC 12 thinks that LDTILECFG reads eight bytes
        _tile_loadconfig(this);
    }
};
