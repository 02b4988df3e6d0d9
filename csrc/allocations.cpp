// The linker's --wrap sends every call of malloc and its kin in this library here, the ones of operator new included
// (libstdc++ is linked in).
#include "allocations.h"

#if ALEXANDRA_COUNT_ALLOCATIONS

#include <atomic>
#include <cstdlib>

namespace {
std::atomic<int> active{0};
std::atomic<uint64_t> counted{0};

void count() {
    if (active.load(std::memory_order_relaxed)) counted.fetch_add(1, std::memory_order_relaxed);
}
}  // namespace

extern "C" {
void* __real_malloc(size_t);
void* __real_calloc(size_t, size_t);
void* __real_realloc(void*, size_t);
void* __real_aligned_alloc(size_t, size_t);
int __real_posix_memalign(void**, size_t, size_t);

void* __wrap_malloc(size_t size) {
    count();
    return __real_malloc(size);
}
void* __wrap_calloc(size_t n, size_t size) {
    count();
    return __real_calloc(n, size);
}
void* __wrap_realloc(void* old, size_t size) {
    count();
    return __real_realloc(old, size);
}
void* __wrap_aligned_alloc(size_t alignment, size_t size) {
    count();
    return __real_aligned_alloc(alignment, size);
}
int __wrap_posix_memalign(void** out, size_t alignment, size_t size) {
    count();
    return __real_posix_memalign(out, alignment, size);
}
}

namespace alexandra {
CountAllocations::CountAllocations() { active.fetch_add(1); }
CountAllocations::~CountAllocations() { active.fetch_sub(1); }
uint64_t counted_allocations() { return counted.load(); }
}  // namespace alexandra

#endif
