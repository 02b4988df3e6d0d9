// What this processor can do beyond the oldest one of its platform.
#pragma once

namespace alexandra {

#if defined(__x86_64__)
bool has_avx512();
bool has_vnni();
bool has_bf16();
// Matrix tiles for bytes and for bfloat16, which Linux lets a process use after it has asked; this asks.
bool has_amx();
#endif

}  // namespace alexandra
