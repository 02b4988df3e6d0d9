#include "naive.h"

#include <bit>
#include <cmath>

#include "philox.h"

namespace alexandra {

namespace {

float multiply_add(float a, float b, float c, bool fused) { return fused ? std::fma(a, b, c) : a * b + c; }

float reciprocal(float x, bool fused) {
    x = std::fmin(x, 1e37f);
    float y = std::bit_cast<float>(0x7ef311c7 - std::bit_cast<int32_t>(x));
    for (int i = 0; i < 3; ++i) y = multiply_add(y, multiply_add(-x, y, 1.0f, fused), y, fused);
    return y;
}

}  // namespace

void product_naive(const Product& p, bool fused) {
    for (int block = 0; block < p.blocks; ++block)
        for (int m = 0; m < p.m; ++m)
            for (int n = 0; n < p.n; ++n) {
                float* c = p.c + m * p.c_m + block * p.c_block + n;
                float sum = p.accumulate ? *c : p.start ? p.start[m] : 0.0f;
                for (int k = 0; k < p.k; ++k) {
                    const float* a = p.a + m * p.a_m + (k % p.segment) * p.a_k + (k / p.segment) * p.a_segment;
                    sum = multiply_add(*a, p.b[block * p.b_block + k * p.b_k + n], sum, fused);
                }
                if (p.relu && !(sum > 0.0f)) sum = 0.0f;
                if (p.gate && !(p.gate[c - p.c] > 0.0f)) sum = 0.0f;
                *c = sum;
            }
}

float striped_sum_naive(size_t n, const float* x, const float* y, bool fused) {
    float s[kStripes] = {};
    for (size_t i = 0; i < n; ++i) s[i % kStripes] = multiply_add(x[i], y[i], s[i % kStripes], fused);
    for (int half = kStripes / 2; half; half /= 2)
        for (int j = 0; j < half; ++j) s[j] += s[j + half];
    return s[0];
}

void adam_naive(size_t n, float* w, const float* g, float* m, float* v, const AdamStep& s, bool fused) {
    for (size_t i = 0; i < n; ++i) {
        const float grad = multiply_add(s.l2, w[i], g[i] * s.scale, fused);
        m[i] = multiply_add(m[i], s.beta1, grad * s.one_minus_beta1, fused);
        v[i] = multiply_add(v[i], s.beta2, grad * grad * s.one_minus_beta2, fused);
        const float denominator = multiply_add(std::sqrt(v[i]), s.inverse_root, s.eps, fused);
        float kept = w[i] * s.keep;
        if (s.l1 > 0) kept -= w[i] > 0 ? s.l1 : w[i] < 0 ? -s.l1 : 0.0f;
        w[i] = multiply_add(-(m[i] * s.rate), reciprocal(denominator, fused), kept, fused);
    }
}

void philox_words_naive(uint64_t key, uint64_t nonce, uint32_t lane, uint64_t start, size_t count, uint32_t* out) {
    for (size_t i = 0; i < count; ++i) {
        uint32_t words[4];
        philox_block(key, nonce, lane, uint32_t((start + i) / 4), words);
        out[i] = words[(start + i) % 4];
    }
}

}  // namespace alexandra
