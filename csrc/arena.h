// One block of 64-byte aligned memory, and offsets into it that are planned before the first step.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "error.h"

namespace alexandra {

// Zeroed floats; large blocks ask for huge pages, which long strides over weights need.
class Memory {
public:
    Memory() = default;
    explicit Memory(size_t floats);
    ~Memory() { std::free(data_); }
    Memory(Memory&& other) noexcept { swap(other); }
    Memory& operator=(Memory&& other) noexcept {
        swap(other);
        return *this;
    }
    float* data() { return data_; }
    const float* data() const { return data_; }
    size_t floats() const { return floats_; }

private:
    void swap(Memory& other) {
        std::swap(data_, other.data_);
        std::swap(floats_, other.floats_);
    }
    float* data_ = nullptr;
    size_t floats_ = 0;
};

inline size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

}  // namespace alexandra
