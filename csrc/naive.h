// The kernels written once more, one scalar loop each: what the fast ones must equal bit for bit.
#pragma once

#include "kernels.h"

namespace alexandra {

// `fused`: whether a multiply-add rounds once, as in the kernels that are checked.
void product_naive(const Product& p, bool fused);
void lane_product_naive(const LaneProduct& p, bool fused);
float striped_sum_naive(size_t n, const float* x, const float* y, bool fused);  // of x[i] * y[i]
void philox_words_naive(uint64_t key, uint64_t nonce, uint32_t lane, uint64_t start, size_t count, uint32_t* out);
void adam_naive(size_t n, float* w, const float* g, float* m, float* v, const AdamStep& s, bool fused);

// A table of naive versions, and the portable ones where there is none: for tests, by the name "naive".
const Kernels& naive_kernels();

}  // namespace alexandra
