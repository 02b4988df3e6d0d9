// Words of Philox streams (philox.h), W / 2 blocks at a time, and dropout masks made of them.

constexpr int kBlocks = W / 2;  // 64-bit lanes
typedef uint64_t U __attribute__((vector_size(4 * W)));

// The full product of the low halves of each lane.
static inline U multiply_low(U a, U b) {
#if defined(__AVX512F__)
    return (U)_mm512_maskz_mul_epu32(0xff, (__m512i)a, (__m512i)b);  // the unmasked spelling warns in GCC 12
#elif defined(__AVX2__)
    return (U)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return (U)_mm_mul_epu32((__m128i)a, (__m128i)b);
#else
    return (a & 0xffffffffu) * (b & 0xffffffffu);
#endif
}

template <int... J>
static ALEXANDRA_INLINE void interleave(U a, U b, U* first, U* second, std::integer_sequence<int, J...>) {
    *first = __builtin_shuffle(a, b, U{uint64_t(J / 2 + (J % 2) * kBlocks)...});
    *second = __builtin_shuffle(a, b, U{uint64_t(kBlocks / 2 + J / 2 + (J % 2) * kBlocks)...});
}

// The 4 * kBlocks words of blocks block .. block + kBlocks - 1. Only the low half of a lane counts.
static ALEXANDRA_INLINE void philox_group(uint64_t key, uint64_t nonce, uint32_t lane, uint32_t block, U (&out)[2]) {
    U c0 = {}, c1 = U{} + lane, c2 = U{} + (nonce & 0xffffffffu), c3 = U{} + (nonce >> 32);
    for (int i = 0; i < kBlocks; ++i) c0[i] = uint32_t(block + uint32_t(i));
    uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
    const U m0 = U{} + 0xD2511F53u, m1 = U{} + 0xCD9E8D57u;
    for (int round = 0; round < 10; ++round) {
        const U p0 = multiply_low(c0, m0), p1 = multiply_low(c2, m1);
        c0 = (p1 >> 32) ^ c1 ^ k0;
        c2 = (p0 >> 32) ^ c3 ^ k1;
        c1 = p1, c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    const U low = (c0 & 0xffffffffu) | (c1 << 32), high = (c2 & 0xffffffffu) | (c3 << 32);
    interleave(low, high, &out[0], &out[1], std::make_integer_sequence<int, kBlocks>{});
}

static void philox_words(uint64_t key, uint64_t nonce, uint32_t lane, uint64_t start, size_t count, uint32_t* out) {
    constexpr size_t group = 4 * kBlocks;
    size_t skip = start % 4;
    for (uint32_t block = uint32_t(start / 4); count; block += kBlocks) {
        U words[2];
        philox_group(key, nonce, lane, block, words);
        const size_t taken = group - skip < count ? group - skip : count;
        __builtin_memcpy(out, reinterpret_cast<const uint32_t*>(words) + skip, taken * sizeof(uint32_t));
        out += taken, count -= taken, skip = 0;
    }
}

static void dropout_mask(size_t n, uint32_t threshold, float scale, float* mask) {
    for (size_t i = 0; i < n; i += W) {
        const I word = bits(load(mask + i));
        const I high = (word >> 8) & 0xffffff;
        store(mask + i, high >= int32_t(threshold) ? splat(scale) : V{});
    }
}
