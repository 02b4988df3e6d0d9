// Attention, rotary positions, LSTM steps, channels and maxima once more, one scalar loop each in float64; and the
// table of kernels made of naive versions, which tests choose by the name "naive".

#include <algorithm>
#include <cmath>
#include <vector>

#include "naive.h"

namespace alexandra {

namespace portable {
const Kernels& table();
}

namespace {

bool sees(const Attention& p, int lane, int i, int j) {
    if (p.causal && j > i) return false;
    const int distance = std::abs(i - j);
    const bool near = distance < p.window || i < p.globals || j < p.globals || (p.stride && distance % p.stride == 0);
    if (p.window && !near) return false;
    if (!p.segments) return true;
    const int32_t key = p.segments[j * p.lanes + lane];
    return key != 0 && (p.queries != p.keys || key == p.segments[i * p.lanes + lane]);
}

// One head of one lane: elements [position][d] of a slab.
struct HeadView {
    const float* slab;
    int heads, head, dim, lanes, lane;
    ptrdiff_t index(int position, int d) const {
        return ((ptrdiff_t(position) * heads + head) * dim + d) * lanes + lane;
    }
    double operator()(int position, int d) const { return slab[index(position, d)]; }
};

struct Row {
    HeadView q, k, v;
    std::vector<double> weights, slopes;  // of each key; what softcap multiplies a score's gradient by
    double lse = INFINITY;
};

Row attend(const Attention& p, int lane, int head, int i) {
    const int group = head / (p.heads / p.kv_heads);
    Row row{{p.q, p.heads, head, p.dim, p.lanes, lane},
            {p.k, p.kv_heads, group, p.dim, p.lanes, lane},
            {p.v, p.kv_heads, group, p.value_dim, p.lanes, lane},
            std::vector<double>(size_t(p.keys), -INFINITY),
            std::vector<double>(size_t(p.keys), 1.0)};
    double top = -INFINITY, sum = 0;
    for (int j = 0; j < p.keys; ++j) {
        double& score = row.weights[size_t(j)];
        if (!sees(p, lane, i, j)) continue;
        score = 0;
        for (int d = 0; d < p.dim; ++d) score += row.q(i, d) * row.k(j, d);
        score *= p.scale;
        if (p.softcap > 0) {
            const double bent = std::tanh(score / p.softcap);
            score = p.softcap * bent, row.slopes[size_t(j)] = 1 - bent * bent;
        }
        if (p.relative) score += p.relative[p.buckets[j - i + p.queries - 1] * p.relative_stride + head];
        top = std::max(top, score);
    }
    for (double& score : row.weights) sum += score = score == -INFINITY ? 0 : std::exp(score - top);
    for (double& weight : row.weights) weight = sum > 0 ? weight / sum : 0;
    if (sum > 0) row.lse = top + std::log(sum);
    return row;
}

template <typename F>
void each_query(const Attention& p, F f) {
    for (int lane = 0; lane < p.lanes; ++lane)
        for (int head = p.first_head; head < p.last_head; ++head)
            for (int i = 0; i < p.queries; ++i) f(lane, head, i);
}

void attention_forward_naive(const Attention& p) {
    each_query(p, [&](int lane, int head, int i) {
        const Row row = attend(p, lane, head, i);
        const HeadView y{p.y, p.heads, head, p.value_dim, p.lanes, lane};
        for (int d = 0; d < p.value_dim; ++d) {
            double sum = 0;
            for (int j = 0; j < p.keys; ++j) sum += row.weights[size_t(j)] * row.v(j, d);
            p.y[y.index(i, d)] = float(sum);
        }
        if (p.lse) p.lse[(head * p.queries + i) * p.lanes + lane] = float(row.lse);
    });
}

void add(float* to, ptrdiff_t at, double x) {
    if (to) to[at] = float(to[at] + x);
}

void attention_backward_naive(const AttentionBackward& b) {
    const Attention& p = b.forward;
    each_query(p, [&](int lane, int head, int i) {
        const Row row = attend(p, lane, head, i);
        const HeadView dy{b.dy, p.heads, head, p.value_dim, p.lanes, lane};
        std::vector<double> d(size_t(p.keys), 0.0);
        double own = 0;
        for (int j = 0; j < p.keys; ++j) {
            for (int c = 0; c < p.value_dim; ++c) d[size_t(j)] += dy(i, c) * row.v(j, c);
            own += row.weights[size_t(j)] * d[size_t(j)];
        }
        for (int j = 0; j < p.keys; ++j) {
            const double weight = row.weights[size_t(j)];
            double gradient = weight * (d[size_t(j)] - own);
            if (b.drelative) {
                const int bucket = p.buckets[j - i + p.queries - 1];
                add(b.drelative, (ptrdiff_t(bucket) * p.heads + head) * p.lanes + lane, gradient);
            }
            gradient *= row.slopes[size_t(j)] * p.scale;
            for (int c = 0; c < p.value_dim; ++c) add(b.dv, row.v.index(j, c), weight * dy(i, c));
            for (int c = 0; c < p.dim; ++c) {
                add(b.dk, row.k.index(j, c), gradient * row.q(i, c));
                add(b.dq, row.q.index(i, c), gradient * row.k(j, c));
            }
        }
    });
}

void rotate_naive(const Rotation& p) {
    auto put = [&](ptrdiff_t at, double x) { p.y[at] = float(p.accumulate ? p.y[at] + x : x); };
    for (int s = 0; s < p.positions; ++s)
        for (int head = 0; head < p.heads; ++head)
            for (int lane = 0; lane < p.lanes; ++lane) {
                auto index = [&](int d) { return ((ptrdiff_t(s) * p.heads + head) * p.dim + d) * p.lanes + lane; };
                for (int i = 0; i < p.pairs; ++i) {
                    const ptrdiff_t a = index(p.interleaved ? 2 * i : i);
                    const ptrdiff_t b = index(p.interleaved ? 2 * i + 1 : i + p.pairs);
                    const double cosine = p.cosine[s * p.pairs + i], sine = p.sign * p.sine[s * p.pairs + i];
                    const double x = p.x[a], y = p.x[b];
                    put(a, x * cosine - y * sine);
                    put(b, y * cosine + x * sine);
                }
                for (int d = 2 * p.pairs; d < p.dim; ++d) put(index(d), p.x[index(d)]);
            }
}

// f(x) and its slope in float64.
std::pair<double, double> active(Unary kind, double x, double a) {
    const double s = 1 / (1 + std::exp(-x)), t = std::tanh(x), inner = 0.7978845608028654 * (x + 0.044715 * x * x * x);
    const double cdf = 0.5 * std::erfc(-x / std::sqrt(2.0)), bent = std::tanh(inner);
    switch (kind) {
        case Unary::relu: return {x > 0 ? x : 0, x > 0};
        case Unary::leaky_relu: return {x > 0 ? x : a * x, x > 0 ? 1 : a};
        case Unary::elu: return {x > 0 ? x : a * std::expm1(x), x > 0 ? 1 : a * std::exp(x)};
        case Unary::gelu: return {x * cdf, cdf + x * std::exp(-0.5 * x * x) * 0.3989422804014327};
        case Unary::silu: return {x * s, s * (1 + x * (1 - s))};
        case Unary::sigmoid: return {s, s * (1 - s)};
        case Unary::softplus: return {x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)), s};
        case Unary::tanh: return {t, 1 - t * t};
        default:
            return {0.5 * x * (1 + bent),
                    0.5 * (1 + bent) + 0.5 * x * (1 - bent * bent) * 0.7978845608028654 * (1 + 0.134145 * x * x)};
    }
}

void gated_forward_naive(const GatedProduct& p) {
    for (size_t i = 0; i < p.n; ++i) p.y[i] = float(active(p.kind, p.a[i], p.number).first * p.b[i]);
}

void gated_backward_naive(const GatedProduct& p) {
    for (size_t i = 0; i < p.n; ++i) {
        const auto [value, slope] = active(p.kind, p.a[i], p.number);
        const double dy = p.dy[i], da = dy * p.b[i] * slope;
        if (p.da) p.da[i] = float(p.accumulate_a ? p.da[i] + da : da);
        if (p.db) p.db[i] = float(p.accumulate_b ? p.db[i] + dy * value : dy * value);
    }
}

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

void lstm_forward_naive(const LstmStep& p) {
    for (size_t k = 0; k < p.n; ++k) {
        const double i = logistic(p.gates[k]), f = logistic(p.gates[p.n + k]), g = std::tanh(p.gates[2 * p.n + k]);
        const double o = logistic(p.gates[3 * p.n + k]);
        const double cell = f * (p.cell_before ? p.cell_before[k] : 0.0f) + i * g;
        p.gates[k] = float(i), p.gates[p.n + k] = float(f), p.gates[2 * p.n + k] = float(g);
        p.gates[3 * p.n + k] = float(o);
        p.cell[k] = float(cell), p.tanh_cell[k] = float(std::tanh(cell)), p.h[k] = float(o * std::tanh(cell));
    }
}

void lstm_backward_naive(const LstmBackward& p) {
    for (size_t k = 0; k < p.n; ++k) {
        const double i = p.gates[k], f = p.gates[p.n + k], g = p.gates[2 * p.n + k], o = p.gates[3 * p.n + k];
        const double bent = p.tanh_cell[k], before = p.cell_before ? p.cell_before[k] : 0.0f;
        const double dcell = p.dcell[k] + p.dh[k] * o * (1 - bent * bent);
        p.dgates[k] = float(dcell * g * i * (1 - i)), p.dgates[p.n + k] = float(dcell * before * f * (1 - f));
        p.dgates[2 * p.n + k] = float(dcell * i * (1 - g * g));
        p.dgates[3 * p.n + k] = float(p.dh[k] * bent * o * (1 - o));
        p.dcell[k] = float(dcell * f);
    }
}

void channel_sums_naive(const ChannelSums& p) {
    for (int f = p.first; f < p.last; ++f) {
        double one = 0, two = 0;
        for (int row = 0; row < p.rows; ++row)
            for (int g = 0; g < p.groups; ++g) {
                const ptrdiff_t unit = ptrdiff_t(row / p.lanes) * p.groups + g;
                const ptrdiff_t at = (unit * p.width + f) * p.lanes + row % p.lanes;
                const double x = p.x[at] - (p.mean ? p.mean[f] : 0.0f), d = p.dy ? p.dy[at] : x;
                one += d, two += d * x;
            }
        p.first_sum[f] = float(one), p.second_sum[f] = float(two);
    }
}

void channel_map_naive(const ChannelMap& p) {
    for (int unit = 0; unit < p.units; ++unit)
        for (int f = 0; f < p.width; ++f)
            for (int lane = 0; lane < p.lanes; ++lane) {
                const ptrdiff_t at = (ptrdiff_t(unit) * p.width + f) * p.lanes + lane;
                double y = double(p.b[f]) * (double(p.x[at]) - p.mean[f]) + p.c[f];
                if (p.dy) y += double(p.a[f]) * p.dy[at];
                p.y[at] = float(p.accumulate ? p.y[at] + y : y);
            }
}

void maximum_naive(size_t n, const float* x, float* y) {
    for (size_t i = 0; i < n; ++i) y[i] = std::max(x[i], y[i]);
}

void take_maximum_naive(size_t n, const float* x, const float* y, const float* dy, float* taken, float* dx) {
    for (size_t i = 0; i < n; ++i) {
        if (x[i] != y[i] || taken[i] != 0) continue;
        taken[i] = 1, dx[i] += dy[i];
    }
}

}  // namespace

void lane_product_naive(const LaneProduct& p, bool fused) {
    for (int m = 0; m < p.m; ++m)
        for (int n = 0; n < p.n; ++n)
            for (int lane = 0; lane < p.lanes; ++lane) {
                float sum = 0;
                for (int k = 0; k < p.k; ++k) {
                    const float a = p.a[m * p.a_m + k * p.a_k + lane], b = p.b[k * p.b_k + n * p.b_n + lane];
                    sum = fused ? std::fma(a, b, sum) : sum + a * b;
                }
                float& c = p.c[m * p.c_m + n * p.c_n + lane];
                c = !p.accumulate ? sum * p.scale : fused ? std::fma(sum, p.scale, c) : sum * p.scale + c;
            }
}

const Kernels& naive_kernels() {
    static const Kernels table = [] {
        Kernels k = portable::table();
        k.isa = "naive";
        k.product = [](const Product& p) { product_naive(p, false); };
        k.gated_forward = gated_forward_naive;
        k.gated_backward = gated_backward_naive;
        k.lane_product = [](const LaneProduct& p) { lane_product_naive(p, false); };
        k.attention_forward = attention_forward_naive;
        k.attention_backward = attention_backward_naive;
        k.rotate = rotate_naive;
        k.lstm_forward = lstm_forward_naive;
        k.lstm_backward = lstm_backward_naive;
        k.channel_sums = channel_sums_naive;
        k.channel_map = channel_map_naive;
        k.maximum = maximum_naive;
        k.take_maximum = take_maximum_naive;
        return k;
    }();
    return table;
}

}  // namespace alexandra
