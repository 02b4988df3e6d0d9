// Subnormal numbers count as 0 while the engine works: a momentum that fades away would otherwise make every
// Adam step twenty times slower. The mode belongs to a thread; the caller's own is put back.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace alexandra {

class FlushSubnormals {
public:
    FlushSubnormals() : before_(read()) { write(before_ | kBits); }
    ~FlushSubnormals() { write(before_); }
    FlushSubnormals(const FlushSubnormals&) = delete;
    FlushSubnormals& operator=(const FlushSubnormals&) = delete;

private:
#if defined(__x86_64__)
    static constexpr uint64_t kBits = 0x8040;  // flush results, read operands as zero
    static uint64_t read() { return _mm_getcsr(); }
    static void write(uint64_t mode) { _mm_setcsr(unsigned(mode)); }
#elif defined(__aarch64__)
    static constexpr uint64_t kBits = uint64_t(1) << 24;  // FPCR.FZ
    static uint64_t read() {
        uint64_t mode;
        asm volatile("mrs %0, fpcr" : "=r"(mode));
        return mode;
    }
    static void write(uint64_t mode) { asm volatile("msr fpcr, %0" ::"r"(mode)); }
#else
    static constexpr uint64_t kBits = 0;
    static uint64_t read() { return 0; }
    static void write(uint64_t) {}
#endif
    const uint64_t before_;
};

}  // namespace alexandra
