// Windows moved over images [height, width, channels]: conv2d, pool2d. A pixel is a run of channels x lanes, and so is
// a row of a window; a convolution is a sum of products of such runs.
#include "ops_parts.h"

#include <algorithm>
#include <string_view>

namespace alexandra {

namespace {

// numbers: kernel down, right, stride down, right, dilation, rows above, columns left; then groups, or whether the
// maximum is meant.
struct Window {
    int height, width, channels, down, right, step_y, step_x, dilation, top, left, out_height, out_width, size, groups;

    int row(int oy, int ky) const { return oy * step_y + ky * dilation - top; }
    int column(int ox, int kx) const { return ox * step_x + kx * dilation - left; }
    bool inside(int y, int x) const { return y >= 0 && y < height && x >= 0 && x < width; }
    int in_group() const { return channels / groups; }
    int out_group() const { return size / groups; }
    int run() const { return right * in_group(); }  // features of a row of the window
    size_t padded_run() const { return round_up(size_t(run()), 16); }
};

Window window_of(const Plan& plan, const Node& y) {
    const std::vector<int>& in = plan.nodes[size_t(y.inputs[0])].shape;
    auto number = [&](size_t i) { return int(y.numbers[i]); };
    return {in[0], in[1], in[2], number(0), number(1), number(2), number(3), number(4), number(5), number(6),
            y.shape[0], y.shape[1], y.shape[2], y.op->name == std::string_view("conv2d") ? number(7) : 1};
}

// Columns first .. last - 1 of the result whose window's column kx lies in the image.
std::pair<int, int> columns(const Window& w, int kx) {
    int first = 0, last = w.out_width;
    while (first < last && w.column(first, kx) < 0) ++first;
    while (last > first && w.column(last - 1, kx) >= w.width) --last;
    return {first, last};
}

// --- conv2d: params weight [size][down x right x channels / groups] and maybe bias ------------------------------

// For runs of neighbouring places kx .. kx + count - 1 of the window: f(first column, last column, kx, count).
template <typename F>
void each_run(const Window& w, F f) {
    const bool joined = w.dilation == 1 && w.groups == 1;
    const auto [from, to] = std::pair{columns(w, 0).first, columns(w, w.right - 1).second};  // the whole window inside
    if (!joined) {
        for (int kx = 0; kx < w.right; ++kx) f(columns(w, kx).first, columns(w, kx).second, kx, 1);
        return;
    }
    if (from < to) f(from, to, 0, w.right);
    for (int ox = 0; ox < w.out_width; ++ox) {
        if (ox >= from && ox < to) continue;
        int first = 0, last = w.right;
        while (first < last && w.column(ox, first) < 0) ++first;
        while (last > first && w.column(ox, last - 1) >= w.width) --last;
        if (first < last) f(ox, ox + 1, first, last - first);
    }
}

void put_bias(const float* bias, int units, int width, int lanes, float* y) {
    for (int unit = 0; unit < units; ++unit)
        for (int f = 0; f < width; ++f, y += lanes)
            for (int lane = 0; lane < lanes; ++lane) y[lane] = bias ? bias[f] : 0.0f;
}

void conv2d_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Window w = window_of(pass.plan, y);
    const ptrdiff_t lanes = pass.lanes(), stride = pass.plan.params[size_t(y.params[0])].stride;
    const float* bias = y.params.size() > 1 ? pass.weight(y.params[1]) : nullptr;
    put_bias(bias, blocks.count() * y.groups, y.width, int(lanes), pass.value(node, blocks.first));
    for (int block = blocks.first; block < blocks.last; ++block)
        for (int oy = 0; oy < w.out_height; ++oy)
            for (int ky = 0; ky < w.down; ++ky) {
                const int iy = w.row(oy, ky);
                if (iy < 0 || iy >= w.height) continue;
                each_run(w, [&](int first, int last, int kx, int count) {
                    for (int group = 0; first < last && group < w.groups; ++group) {
                        const ptrdiff_t in = ptrdiff_t(iy * w.width + w.column(first, kx)) * w.channels;
                        const ptrdiff_t out = (ptrdiff_t(oy) * w.out_width + first) * w.size + group * w.out_group();
                        pass.kernels.product({
                            .m = w.out_group(), .n = int(lanes), .k = count * w.in_group(), .blocks = last - first,
                            .a = pass.weight(y.params[0]) + group * w.out_group() * stride +
                                 ptrdiff_t(ky * w.right + kx) * w.in_group(),
                            .a_m = stride, .a_k = 1,
                            .b = pass.value(y.inputs[0], block) + (in + group * w.in_group()) * lanes, .b_k = lanes,
                            .b_block = ptrdiff_t(w.step_x) * w.channels * lanes,
                            .c = pass.value(node, block) + out * lanes, .c_m = lanes, .c_block = w.size * lanes,
                            .start = nullptr, .accumulate = true, .segment = count * w.in_group(), .a_segment = 0,
                            .relu = false, .gate = nullptr,
                        });
                    }
                });
            }
}

// What the gradient of the weight reads: for each row of the image and column of the result a window's row.
size_t conv2d_saved(const Plan& plan, const Node& node, bool training) {
    const Window w = window_of(plan, node);
    return training ? size_t(w.height) * size_t(w.out_width) * size_t(w.groups) * w.padded_run() : 0;
}

// One row of a window; or the weight's gradient with padded runs.
size_t conv2d_scratch(const Plan& plan, const Node& node, bool training, int lanes) {
    const Window w = window_of(plan, node);
    return training ? std::max(size_t(w.run()) * size_t(lanes), size_t(w.size) * size_t(w.down) * w.padded_run()) : 0;
}

void lay_out_rows(const Pass& pass, int node, int block, float* scratch) {
    const Node& y = node_of(pass, node);
    const Window w = window_of(pass.plan, y);
    const ptrdiff_t lanes = pass.lanes(), units = ptrdiff_t(w.height) * w.out_width;
    const ptrdiff_t capacity = ptrdiff_t(pass.layout.capacity()) * units;
    for (int group = 0; group < w.groups; ++group)
        for (int iy = 0; iy < w.height; ++iy)
            for (int ox = 0; ox < w.out_width; ++ox) {
                const float* row = pass.value(y.inputs[0], block) + ptrdiff_t(iy) * w.width * w.channels * lanes;
                const bool whole = w.inside(iy, w.column(ox, 0)) && w.inside(iy, w.column(ox, w.right - 1));
                const float* from = row + ptrdiff_t(w.column(ox, 0)) * w.channels * lanes;
                if (!whole || w.dilation > 1 || w.groups > 1) {
                    const size_t part = size_t(w.in_group()) * size_t(lanes);
                    for (int kx = 0; kx < w.right; ++kx) {
                        const int ix = w.column(ox, kx);
                        float* to = scratch + size_t(kx) * part;
                        if (ix < 0 || ix >= w.width) clear(to, part);
                        else pass.kernels.copy(part, row + (ptrdiff_t(ix) * w.channels + group * w.in_group()) * lanes,
                                               to, false);
                    }
                    from = scratch;
                }
                const ptrdiff_t unit = block * units + ptrdiff_t(iy) * w.out_width + ox;
                pass.kernels.panels_from_slab(w.run(), int(lanes), int(unit * lanes), from,
                                              pass.saved(node) + group * ptrdiff_t(w.padded_run()) * capacity,
                                              capacity);
            }
}

void conv2d_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Window w = window_of(pass.plan, y);
    const ptrdiff_t lanes = pass.lanes(), stride = pass.plan.params[size_t(y.params[0])].stride;
    for (int block = blocks.first; block < blocks.last; ++block) {
        lay_out_rows(pass, node, block, pass.scratch(blocks.thread));
        float* dx = pass.gradient(y.inputs[0], block);
        if (!dx) continue;
        if (!accumulates(pass, node, 0)) clear(dx, pass.slab(y.inputs[0]));
        for (int at = 0; at < w.out_height * w.down * w.right * w.groups; ++at) {
            const int group = at % w.groups, kx = at / w.groups % w.right, ky = at / w.groups / w.right % w.down;
            const int oy = at / w.groups / w.right / w.down, iy = w.row(oy, ky);
            const auto [first, last] = columns(w, kx);
            if (iy < 0 || iy >= w.height || first >= last) continue;
            const ptrdiff_t in = (ptrdiff_t(iy) * w.width + w.column(first, kx)) * w.channels + group * w.in_group();
            const ptrdiff_t out = (ptrdiff_t(oy) * w.out_width + first) * w.size + group * w.out_group();
            pass.kernels.product({
                .m = w.in_group(), .n = int(lanes), .k = w.out_group(), .blocks = last - first,
                .a = pass.weight(y.params[0]) + group * w.out_group() * stride +
                     ptrdiff_t(ky * w.right + kx) * w.in_group(),
                .a_m = 1, .a_k = stride,
                .b = pass.gradient(node, block) + out * lanes, .b_k = lanes, .b_block = w.size * lanes,
                .c = dx + in * lanes, .c_m = lanes, .c_block = ptrdiff_t(w.step_x) * w.channels * lanes,
                .start = nullptr, .accumulate = true, .segment = w.out_group(), .a_segment = 0,
                .relu = false, .gate = nullptr,
            });
        }
    }
}

// One product: filters first .. last - 1 of a group, window row ky, `runs` places from (oy, ox) on, `count` rows each.
struct FilterSum {
    int block, group, first, last, ky, oy, ox, runs, count;
};

void sum_filters(const Pass& pass, int node, const Window& w, const FilterSum& s, float* out) {
    const ptrdiff_t lanes = pass.lanes(), units = ptrdiff_t(w.height) * w.out_width;
    const ptrdiff_t capacity = ptrdiff_t(pass.layout.capacity()) * units, padded = ptrdiff_t(w.padded_run());
    const ptrdiff_t row = (s.block * units + ptrdiff_t(w.row(s.oy, s.ky)) * w.out_width + s.ox) * lanes;
    for (ptrdiff_t column = 0; column < padded; column += kPanel) {
        const ptrdiff_t width = std::min<ptrdiff_t>(kPanel, padded - column);
        pass.kernels.product({
            .m = s.last - s.first, .n = int(width), .k = s.runs * s.count, .blocks = 1,
            .a = pass.gradient(node, s.block) +
                 ((ptrdiff_t(s.oy) * w.out_width + s.ox) * w.size + s.group * w.out_group() + s.first) * lanes,
            .a_m = lanes, .a_k = 1,
            .b = pass.saved(node) + s.group * padded * capacity + column * capacity + row * width, .b_k = width,
            .b_block = 0, .c = out + s.ky * padded + column, .c_m = w.down * padded, .c_block = 0, .start = nullptr,
            .accumulate = true, .segment = s.count, .a_segment = w.size * lanes, .relu = false, .gate = nullptr,
        });
    }
}

void sum_filters_of_block(const Pass& pass, int node, const Window& w, FilterSum s, float* out) {
    const int lanes = pass.lanes();
    s.count = std::min(lanes, pass.rows - s.block * lanes);
    for (s.ky = 0; s.ky < w.down; ++s.ky) {
        int first = 0, last = w.out_height;
        while (first < last && w.row(first, s.ky) < 0) ++first;
        while (last > first && w.row(last - 1, s.ky) >= w.height) --last;
        const bool joined = w.step_y == 1 && s.count == lanes;  // all rows of the image in one sum
        for (s.oy = first; s.oy < last; s.oy = joined ? last : s.oy + 1) {
            s.runs = s.count == lanes ? w.out_width * (joined ? last - first : 1) : 1;
            for (s.ox = 0; s.ox < (s.count == lanes ? 1 : w.out_width); ++s.ox) sum_filters(pass, node, w, s, out);
        }
    }
}

void conv2d_gradients(const Pass& pass, int node, Part part) {
    const Node& y = node_of(pass, node);
    const Window w = window_of(pass.plan, y);
    const Param& weight = pass.plan.params[size_t(y.params[0])];
    const auto [first, last] = part.of(w.size);
    float *sums = pass.scratch(part.index), *out = pass.weight_gradient(y.params[0]);
    const ptrdiff_t padded = ptrdiff_t(w.padded_run());
    clear(sums, size_t(last - first) * size_t(w.down * padded));
    for (int group = 0; group < w.groups; ++group) {
        const int from = std::max(first - group * w.out_group(), 0);
        const int to = std::min(last - group * w.out_group(), w.out_group());
        for (int block = 0; from < to && block < pass.blocks(); ++block)
            sum_filters_of_block(pass, node, w, {block, group, from, to, 0, 0, 0, 0, 0},
                                 sums + ptrdiff_t(group * w.out_group() + from - first) * w.down * padded);
    }
    const bool accumulate = pass.flow->accumulate_params[size_t(node)][0];
    for (int o = first; o < last; ++o)
        for (int ky = 0; ky < w.down; ++ky)
            for (int i = 0; i < w.run(); ++i) {
                float& to = out[o * weight.stride + ky * w.run() + i];
                to = (accumulate ? to : 0.0f) + sums[((o - first) * w.down + ky) * padded + i];
            }
    if (y.params.size() > 1) bias_gradients(pass, node, 1, part.of(y.width, kStripes));
}

// --- pool2d ---------------------------------------------------------------------------------------------------

// f(pixel of the input, pixel of the result, whether it is the first of its window) for all places inside the image.
template <typename F>
void each_place(const Window& w, F f) {
    for (int oy = 0; oy < w.out_height; ++oy)
        for (int ox = 0; ox < w.out_width; ++ox) {
            bool is_first = true;
            for (int ky = 0; ky < w.down; ++ky)
                for (int kx = 0; kx < w.right; ++kx) {
                    const int iy = w.row(oy, ky), ix = w.column(ox, kx);
                    if (!w.inside(iy, ix)) continue;
                    f(size_t(iy) * size_t(w.width) + size_t(ix), size_t(oy) * size_t(w.out_width) + size_t(ox), is_first);
                    is_first = false;
                }
        }
}

void scale(size_t n, float factor, float* x) {
    for (size_t i = 0; i < n; ++i) x[i] *= factor;
}

void pool2d_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Window w = window_of(pass.plan, y);
    const bool is_max = y.numbers[7] != 0;
    const size_t n = size_t(w.channels) * size_t(pass.lanes());
    for (int block = blocks.first; block < blocks.last; ++block) {
        const float* x = pass.value(y.inputs[0], block);
        float* out = pass.value(node, block);
        each_place(w, [&](size_t from, size_t to, bool is_first) {
            if (is_max && !is_first) pass.kernels.maximum(n, x + from * n, out + to * n);
            else pass.kernels.copy(n, x + from * n, out + to * n, !is_first);
        });
        if (!is_max) scale(pass.slab(node), 1.0f / float(w.down * w.right), out);
    }
}

size_t pool2d_scratch(const Plan& plan, const Node& node, bool training, int lanes) {
    return training ? size_t(window_of(plan, node).channels) * size_t(lanes) : 0;
}

void pool2d_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Window w = window_of(pass.plan, y);
    const bool is_max = y.numbers[7] != 0;
    const size_t n = size_t(w.channels) * size_t(pass.lanes());
    float* taken = pass.scratch(blocks.thread);
    for (int block = blocks.first; block < blocks.last; ++block) {
        const float *x = pass.value(y.inputs[0], block), *out = pass.value(node, block);
        float *dx = pass.gradient(y.inputs[0], block), *dy = pass.gradient(node, block);
        if (!accumulates(pass, node, 0)) clear(dx, pass.slab(y.inputs[0]));
        if (!is_max) scale(pass.slab(node), 1.0f / float(w.down * w.right), dy);
        each_place(w, [&](size_t from, size_t to, bool is_first) {
            if (is_first) clear(taken, n);
            if (is_max) pass.kernels.take_maximum(n, x + from * n, out + to * n, dy + to * n, taken, dx + from * n);
            else pass.kernels.copy(n, dy + to * n, dx + from * n, true);
        });
    }
}

constexpr Op kAll[] = {
    {"conv2d", false, conv2d_saved, conv2d_forward, conv2d_backward, conv2d_gradients, kInputs | kLate, nullptr,
     conv2d_scratch},
    {"pool2d", false, saves_nothing, pool2d_forward, pool2d_backward, nullptr, kInputs | kOutput, nullptr,
     pool2d_scratch},
};
constexpr auto kRows = of_this_build(kAll);

}  // namespace

std::span<const Op> convolution_ops() { return kRows; }

}  // namespace alexandra
