// Attention of a decoder: keys and values of a step go to the cache, then each run's rows look at their sequence.

#include <algorithm>
#include <cstring>

#include "decode.h"

namespace alexandra {

void Decoder::store_keys(const DecodeNode& node) {
    const Cache& cache = caches_[size_t(node.cache)];
    const RowsView k = input(node, 1), v = input(node, 2);
    const size_t context = size_t(score_stride_);
    for (int i = 0; i < num_runs_; ++i) {
        const Run& run = runs_[i];
        float* keys = cache_memory_.data() + cache.keys + cache.slot_floats * size_t(run.slot);
        float* values = cache_memory_.data() + cache.values + cache.slot_floats * size_t(run.slot);
        for (int r = 0; r < run.count; ++r) {
            const size_t at = size_t(run.position + r);
            for (int h = 0; h < cache.kv_heads; ++h) {
                const float* from = k.row(run.first + r) + h * cache.head_dim;
                float* to = keys + (size_t(h) * context + at / 16 * 16) * size_t(cache.head_dim) + at % 16;
                for (int d = 0; d < cache.head_dim; ++d) to[d * 16] = from[d];
                std::memcpy(values + (size_t(h) * context + at) * size_t(cache.value_stride),
                            v.row(run.first + r) + h * cache.value_dim, size_t(cache.value_dim) * sizeof(float));
            }
        }
    }
}

// The other slot's keys and values of its first `count` positions; of keys whole blocks of 16.
void Decoder::copy_keys(int from, int to, int count) {
    const size_t context = size_t(score_stride_), positions = size_t(count);
    for (const Cache& cache : caches_) {
        const auto copy = [&](size_t base, size_t stride, size_t floats) {
            for (int h = 0; h < cache.kv_heads; ++h) {
                float* head = cache_memory_.data() + base + size_t(h) * context * stride;
                std::memcpy(head + cache.slot_floats * size_t(to), head + cache.slot_floats * size_t(from),
                            floats * sizeof(float));
            }
        };
        copy(cache.keys, size_t(cache.head_dim), round_up(positions, 16) * size_t(cache.head_dim));
        copy(cache.values, size_t(cache.value_stride), positions * size_t(cache.value_stride));
    }
}

// numbers: heads, kv_heads, head_dim, value_dim, window, scale, softcap
void Decoder::attend(const DecodeNode& node) {
    store_keys(node);
    const Cache& cache = caches_[size_t(node.cache)];
    const int group = int(node.number(0)) / cache.kv_heads, tall = std::max(1, 24 / group);
    units_.clear();
    for (int i = 0; i < num_runs_; ++i)
        for (int h = 0; h < cache.kv_heads; ++h)
            for (int first = 0; first < runs_[i].count; first += tall)
                units_.push_back({i, first, std::min(tall, runs_[i].count - first), h});
    const RowsView q = input(node, 0), y = view(node);
    const size_t context = size_t(score_stride_);
    const auto work = [&](Part part) {
        const auto [begin, end] = part.of(int(units_.size()));
        for (int u = begin; u < end; ++u) {
            const Unit& unit = units_[size_t(u)];
            const Run& run = runs_[unit.run];
            const size_t slot = cache.slot_floats * size_t(run.slot), head = size_t(unit.head) * context;
            const int row = run.first + unit.first;
            kernels_.attend({
                .queries = unit.count * group, .group = group, .head_dim = cache.head_dim, .value_dim = cache.value_dim,
                .position = run.position + unit.first, .window = int(node.number(4)),
                .scale = float(node.number(5)), .softcap = float(node.number(6)),
                .keys = cache_memory_.data() + cache.keys + slot + head * size_t(cache.head_dim),
                .values = cache_memory_.data() + cache.values + slot + head * size_t(cache.value_stride),
                .value_stride = cache.value_stride,
                .q = q.row(row) + unit.head * group * cache.head_dim, .q_stride = q.stride,
                .out = y.row(row) + unit.head * group * cache.value_dim, .out_stride = y.stride,
                .scores = arena_.data() + scratch_ + scratch_floats_ * size_t(part.index), .score_stride = score_stride_,
            });
        }
    };
    size_t seen = 0;
    for (int i = 0; i < num_runs_; ++i) seen += size_t(runs_[i].count) * size_t(runs_[i].position + runs_[i].count);
    if (seen * size_t(node.width) < 32768) return work(Part{0, 1});
    pool_.split(work);
}

}  // namespace alexandra
