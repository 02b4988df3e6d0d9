#include "hashes.h"

#include <bit>
#include <cstring>

namespace alexandra {

namespace {

constexpr uint64_t kBlakeStart[8] = {0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
                                     0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
constexpr uint8_t kSigma[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
};

void blake_block(uint64_t state[8], const uint8_t* data, uint64_t bytes, bool last) {
    uint64_t v[16], m[16];
    std::memcpy(m, data, 128);
    for (int i = 0; i < 8; ++i) v[i] = state[i], v[i + 8] = kBlakeStart[i];
    v[12] ^= bytes;
    if (last) v[14] = ~v[14];
    auto mix = [&](int a, int b, int c, int d, uint64_t x, uint64_t y) {
        v[a] += v[b] + x, v[d] = std::rotr(v[d] ^ v[a], 32);
        v[c] += v[d], v[b] = std::rotr(v[b] ^ v[c], 24);
        v[a] += v[b] + y, v[d] = std::rotr(v[d] ^ v[a], 16);
        v[c] += v[d], v[b] = std::rotr(v[b] ^ v[c], 63);
    };
    for (int round = 0; round < 12; ++round) {
        const uint8_t* s = kSigma[round % 10];
        for (int i = 0; i < 4; ++i) mix(i, i + 4, i + 8, i + 12, m[s[2 * i]], m[s[2 * i + 1]]);
        for (int i = 0; i < 4; ++i)
            mix(i, (i + 1) % 4 + 4, (i + 2) % 4 + 8, (i + 3) % 4 + 12, m[s[2 * i + 8]], m[s[2 * i + 9]]);
    }
    for (int i = 0; i < 8; ++i) state[i] ^= v[i] ^ v[i + 8];
}

constexpr uint32_t kSha[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

std::string hex_of(const uint8_t* bytes, size_t count) {
    std::string out;
    for (size_t i = 0; i < count; ++i) out += "0123456789abcdef"[bytes[i] >> 4], out += "0123456789abcdef"[bytes[i] & 15];
    return out;
}

std::string encoded(int64_t number) {
    std::string out = "i";
    for (int i = 0; i < 16; ++i) out += char(i < 8 ? uint8_t(uint64_t(number) >> (8 * i)) : uint8_t(number < 0 ? 255 : 0));
    return out;
}

std::string encoded(std::string_view text) {
    std::string out = "s";
    for (int i = 0; i < 8; ++i) out += char(uint8_t(uint64_t(text.size()) >> (8 * i)));
    return out.append(text);
}

Stream stream_of(const std::string& path) {
    uint8_t digest[16];
    blake2b_16(path, digest);
    Stream stream;
    std::memcpy(&stream.key, digest, 8);
    std::memcpy(&stream.nonce, digest + 8, 8);
    return stream;
}

}  // namespace

void blake2b_16(std::string_view data, uint8_t out[16]) {
    uint64_t state[8];
    std::memcpy(state, kBlakeStart, sizeof state);
    state[0] ^= 0x01010000 ^ 16;
    size_t at = 0;
    uint8_t block[128];
    for (; data.size() - at > 128; at += 128) {
        std::memcpy(block, data.data() + at, 128);
        blake_block(state, block, at + 128, false);
    }
    std::memset(block, 0, sizeof block);
    std::memcpy(block, data.data() + at, data.size() - at);
    blake_block(state, block, data.size(), true);
    std::memcpy(out, state, 16);
}

void Sha256::block(const uint8_t* data) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; ++i)
        w[i] = uint32_t(data[4 * i]) << 24 | uint32_t(data[4 * i + 1]) << 16 | uint32_t(data[4 * i + 2]) << 8 | data[4 * i + 3];
    for (int i = 16; i < 64; ++i)
        w[i] = w[i - 16] + (std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
               (std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ w[i - 2] >> 10);
    std::memcpy(s, state_, sizeof s);
    for (int i = 0; i < 64; ++i) {
        const uint32_t one = std::rotr(s[4], 6) ^ std::rotr(s[4], 11) ^ std::rotr(s[4], 25);
        const uint32_t t = s[7] + one + ((s[4] & s[5]) ^ (~s[4] & s[6])) + kSha[i] + w[i];
        const uint32_t zero = std::rotr(s[0], 2) ^ std::rotr(s[0], 13) ^ std::rotr(s[0], 22);
        const uint32_t u = zero + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        for (int j = 7; j > 0; --j) s[j] = s[j - 1];
        s[4] += t;
        s[0] = t + u;
    }
    for (int i = 0; i < 8; ++i) state_[i] += s[i];
}

void Sha256::add(const void* data, size_t size) {
    const uint8_t* bytes = static_cast<const uint8_t*>(data);
    const size_t held = size_t(size_ % 64);
    size_ += size;
    if (held) {
        const size_t fill = size < 64 - held ? size : 64 - held;
        std::memcpy(rest_ + held, bytes, fill);
        bytes += fill, size -= fill;
        if (held + fill < 64) return;
        block(rest_);
    }
    for (; size >= 64; bytes += 64, size -= 64) block(bytes);
    if (size) std::memcpy(rest_, bytes, size);
}

std::string Sha256::hex() {
    const uint64_t bits = size_ * 8;
    uint8_t end[72] = {0x80};
    const size_t zeros = (size_ % 64 < 56 ? 56 : 120) - size_t(size_ % 64);
    for (int i = 0; i < 8; ++i) end[zeros + size_t(i)] = uint8_t(bits >> (56 - 8 * i));
    add(end, zeros + 8);
    uint8_t out[32];
    for (int i = 0; i < 32; ++i) out[i] = uint8_t(state_[i / 4] >> (24 - 8 * (i % 4)));
    return hex_of(out, 32);
}

std::string sha256(std::string_view data) {
    Sha256 hash;
    hash.add(data.data(), data.size());
    return hash.hex();
}

Stream derive(int64_t seed, std::string_view what) { return stream_of(encoded(seed) + encoded(what)); }

Stream derive(int64_t seed, std::string_view what, std::string_view name) {
    return stream_of(encoded(seed) + encoded(what) + encoded(name));
}

Stream derive(int64_t seed, std::string_view what, int64_t number) {
    return stream_of(encoded(seed) + encoded(what) + encoded(number));
}

}  // namespace alexandra
