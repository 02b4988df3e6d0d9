// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011), bit-equal with
// alexandra/rng.py: counter words are block, lane, low and high nonce; key words the halves of `key`.
#pragma once

#include <cstdint>

namespace alexandra {

struct Stream {
    uint64_t key = 0, nonce = 0;
    uint32_t lane = 0;
};

inline void philox_block(uint64_t key, uint64_t nonce, uint32_t lane, uint32_t block, uint32_t out[4]) {
    uint32_t c0 = block, c1 = lane, c2 = uint32_t(nonce), c3 = uint32_t(nonce >> 32);
    uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
        c0 = uint32_t(p1 >> 32) ^ c1 ^ k0;
        c1 = uint32_t(p1);
        c2 = uint32_t(p0 >> 32) ^ c3 ^ k1;
        c3 = uint32_t(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

}  // namespace alexandra
