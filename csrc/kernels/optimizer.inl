// Optimiser steps over n floats, n a multiple of 16 (padding has gradient 0 and stays 0).

static void adam(size_t n, float* w, const float* g, float* m, float* v, const AdamStep& s) {
    for (size_t i = 0; i < n; i += W) {
        const V weight = load(w + i);
        const V grad = fma(splat(s.l2), weight, load(g + i) * s.scale);
        const V first = fma(load(m + i), splat(s.beta1), grad * s.one_minus_beta1);
        const V second = fma(load(v + i), splat(s.beta2), grad * grad * s.one_minus_beta2);
        const V denominator = fma(root(second), splat(s.inverse_root), splat(s.eps));
        store(m + i, first);
        store(v + i, second);
        store(w + i, fma(weight, splat(s.keep), -(first * s.rate) / denominator));
    }
}

static void sgd(size_t n, float* w, const float* g, float* m, const SgdStep& s) {
    for (size_t i = 0; i < n; i += W) {
        const V weight = load(w + i);
        V step = fma(splat(s.l2), weight, load(g + i) * s.scale);
        if (m) {
            step = fma(load(m + i), splat(s.momentum), step);
            store(m + i, step);
        }
        store(w + i, fma(step, splat(-s.rate), weight));
    }
}

static float sum_of_squares(size_t n, const float* x) {
    alignas(64) float s[kStripes] = {};
    V acc[kStripes / W];
    for (int j = 0; j < kStripes / W; ++j) acc[j] = V{};
    for (size_t i = 0; i < n; i += kStripes)
        for (int j = 0; j < kStripes / W; ++j) {
            const V v = load(x + i + j * W);
            acc[j] = fma(v, v, acc[j]);
        }
    for (int j = 0; j < kStripes / W; ++j) store(s + j * W, acc[j]);
    return tree(s);
}
