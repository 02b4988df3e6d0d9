#include "arena.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace alexandra {

Memory::Memory(size_t floats) : floats_(round_up(floats, 16)) {
    if (floats_ == 0) return;
    if (floats_ > (size_t(1) << 46)) throw Error(Status::out_of_memory, "a plan of more than 2^48 bytes");
    const size_t huge = size_t(1) << 21, bytes = floats_ * sizeof(float);
    const size_t alignment = bytes >= huge ? huge : 64;
    data_ = static_cast<float*>(std::aligned_alloc(alignment, round_up(bytes, alignment)));
    if (!data_) throw Error(Status::out_of_memory, "no memory for " + std::to_string(bytes) + " bytes");
#if defined(__linux__)
    if (bytes >= huge) madvise(data_, round_up(bytes, alignment), MADV_HUGEPAGE);
#endif
    std::memset(data_, 0, bytes);
}

}  // namespace alexandra
