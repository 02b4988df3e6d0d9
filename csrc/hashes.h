// BLAKE2b and SHA-256, and what rests on them: the streams of rng.derive and the checksums of stored tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "philox.h"

namespace alexandra {

// RFC 7693, unkeyed, 16 bytes.
void blake2b_16(std::string_view data, uint8_t out[16]);

// FIPS 180-4. Takes bytes in any pieces.
class Sha256 {
public:
    void add(const void* data, size_t size);
    std::string hex();  // ends the message

private:
    void block(const uint8_t* data);
    uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t rest_[64];
    uint64_t size_ = 0;
};

std::string sha256(std::string_view data);

// alexandra.rng.derive(seed, what), derive(seed, what, name) and derive(seed, what, number).
Stream derive(int64_t seed, std::string_view what);
Stream derive(int64_t seed, std::string_view what, std::string_view name);
Stream derive(int64_t seed, std::string_view what, int64_t number);

}  // namespace alexandra
