// The shuffles of many networks at once: one Philox stream and one Fisher-Yates permutation per lane.

typedef uint64_t Half __attribute__((vector_size(4 * W)));  // of the lanes, 64 bits each
typedef uint32_t HalfWords __attribute__((vector_size(2 * W)));

// Words 4 * block .. 4 * block + 3 of every lane's stream: out[word][lane].
static ALEXANDRA_INLINE void lane_philox(const uint64_t* keys, const uint64_t* nonces, const uint32_t* epochs,
                                         uint32_t block, uint32_t (&out)[4][W]) {
    constexpr int H = W / 2;
    const Half low = Half{} + 0xffffffffu, m0 = Half{} + 0xD2511F53u, m1 = Half{} + 0xCD9E8D57u;
    unroll<2>([&](auto part) ALEXANDRA_INLINE_LAMBDA {
        Half key, nonce;
        HalfWords epoch;
        __builtin_memcpy(&key, keys + part * H, sizeof key);
        __builtin_memcpy(&nonce, nonces + part * H, sizeof nonce);
        __builtin_memcpy(&epoch, epochs + part * H, sizeof epoch);
        Half c0 = Half{} + block, c1 = __builtin_convertvector(epoch, Half), c2 = nonce & low, c3 = nonce >> 32;
        Half k0 = key & low, k1 = key >> 32;
        for (int round = 0; round < 10; ++round) {
            const Half p0 = multiply_low(c0, m0), p1 = multiply_low(c2, m1);
            c0 = (p1 >> 32) ^ c1 ^ k0;
            c2 = (p0 >> 32) ^ c3 ^ k1;
            c1 = p1 & low, c3 = p0 & low;
            k0 = (k0 + 0x9E3779B9u) & low;
            k1 = (k1 + 0xBB67AE85u) & low;
        }
        auto put = [&](int word, Half c) ALEXANDRA_INLINE_LAMBDA {
            const HalfWords words = __builtin_convertvector(c, HalfWords);
            __builtin_memcpy(out[word] + part * H, &words, sizeof words);
        };
        put(0, c0), put(1, c1), put(2, c2), put(3, c3);
    });
}

// Lane by lane, changes order[i] with order[(word * (i + 1)) >> 32].
static ALEXANDRA_INLINE void lane_swap(int i, const uint32_t* words, int32_t* order) {
#if defined(__AVX512F__)
    const __m512i word = _mm512_loadu_si512(words), bound = _mm512_set1_epi32(i + 1);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i even = _mm512_maskz_srli_epi64(0xff, _mm512_maskz_mul_epu32(0xff, word, bound), 32);
    const __m512i odd = _mm512_maskz_mul_epu32(0xff, _mm512_maskz_srli_epi64(0xff, word, 32), bound);
    const __m512i pick = _mm512_mask_mov_epi32(even, 0xaaaa, odd);
    const __m512i at = _mm512_maskz_add_epi32(0xffff, _mm512_maskz_slli_epi32(0xffff, pick, 4), lanes);
    const __m512i kept = _mm512_load_si512(order + i * W);
    const __m512i taken = _mm512_mask_i32gather_epi32(kept, 0xffff, at, order, 4);
    _mm512_i32scatter_epi32(order, at, kept, 4);
    _mm512_store_si512(order + i * W, taken);
#else
    for (int lane = 0; lane < W; ++lane) {
        const int j = int((uint64_t(words[lane]) * uint64_t(i + 1)) >> 32);
        const int32_t kept = order[i * W + lane];
        order[i * W + lane] = order[j * W + lane];
        order[j * W + lane] = kept;
    }
#endif
}

static void lane_shuffle(int n, const uint64_t* keys, const uint64_t* nonces, const uint32_t* epochs,
                         int32_t* order) {
    for (int i = 0; i < n; ++i) store(reinterpret_cast<float*>(order) + i * W, floats(I{} + i));
    alignas(64) uint32_t words[4][W];
    for (int done = 0; done < n - 1; ++done) {
        if (done % 4 == 0) lane_philox(keys, nonces, epochs, uint32_t(done / 4), words);
        lane_swap(n - 1 - done, words[done % 4], order);
    }
}
