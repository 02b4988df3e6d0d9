// Proof that nothing is allocated once a plan is made: a build with ALEXANDRA_COUNT_ALLOCATIONS counts what this
// library asks of malloc while a CountAllocations lives. Other builds have neither the counter nor its cost.
#pragma once

#include <cstdint>

namespace alexandra {

#if ALEXANDRA_COUNT_ALLOCATIONS
class CountAllocations {
public:
    CountAllocations();
    ~CountAllocations();
    CountAllocations(const CountAllocations&) = delete;
    CountAllocations& operator=(const CountAllocations&) = delete;
};
uint64_t counted_allocations();
#else
struct CountAllocations {
    CountAllocations() {}  // not trivial: an unused variable would be warned of
};
inline uint64_t counted_allocations() { return ~uint64_t(0); }
#endif

}  // namespace alexandra
