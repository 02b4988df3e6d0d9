// Shingles of a text, their MinHash signature, and the Jaccard similarity of two sets of shingles.
// data/dedup/shingles.py holds the same arithmetic in NumPy, bit for bit.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace alexandra::data {

// unit: 0 = words, 1 = characters. Appends one 32-bit hash for each run of `size` units of `text` (UTF-8, lower case);
// a shorter text is one shingle, a text without words has none.
void shingles(std::string_view text, int unit, int size, std::vector<uint32_t>& out);

// signature[p] = min over x of (a[p] * x + b[p]) >> 32, all ones for an empty set.
void signature(const uint32_t* x, size_t n, const uint64_t* a, const uint64_t* b, size_t permutations, uint32_t* out);

// Both sets sorted and free of repeats.
double jaccard(const uint32_t* x, size_t n, const uint32_t* y, size_t m);

}  // namespace alexandra::data
