// Ops that move values: input, output, reshape, concat, slice.
#include "ops_parts.h"

#include <cstring>

namespace alexandra {

namespace {

// --- concat, slice: pieces of the last axis -------------------------------------------------------------------

// Copies `width` features of each group between values whose last axes are wider.
struct Piece {
    int groups, width, from_width, from, to_width, to;
};

void copy_pieces(const Pass& pass, const Piece& p, const float* src, float* dst, bool accumulate) {
    const size_t lanes = size_t(pass.lanes());
    for (int g = 0; g < p.groups; ++g)
        pass.kernels.copy(size_t(p.width) * lanes, src + size_t(g * p.from_width + p.from) * lanes,
                          dst + size_t(g * p.to_width + p.to) * lanes, accumulate);
}

template <bool forward>
void concat(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    for (int block = blocks.first; block < blocks.last; ++block) {
        int at = 0;
        for (size_t j = 0; j < y.inputs.size(); ++j) {
            const int width = node_of(pass, y.inputs[j]).width;
            if (forward)
                copy_pieces(pass, {y.groups, width, width, 0, y.width, at}, pass.value(y.inputs[j], block),
                            pass.value(node, block), false);
            else if (float* dx = pass.gradient(y.inputs[j], block))
                copy_pieces(pass, {y.groups, width, y.width, at, width, 0}, pass.gradient(node, block), dx,
                            accumulates(pass, node, j));
            at += width;
        }
    }
}

void slice_forward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Piece piece{y.groups, y.width, node_of(pass, y.inputs[0]).width, int(y.numbers[0]), y.width, 0};
    for (int block = blocks.first; block < blocks.last; ++block)
        copy_pieces(pass, piece, pass.value(y.inputs[0], block), pass.value(node, block), false);
}

void slice_backward(const Pass& pass, int node, Blocks blocks) {
    const Node& y = node_of(pass, node);
    const Piece piece{y.groups, y.width, y.width, 0, node_of(pass, y.inputs[0]).width, int(y.numbers[0])};
    for (int block = blocks.first; block < blocks.last; ++block) {
        float* dx = pass.gradient(y.inputs[0], block);
        const bool accumulate = accumulates(pass, node, 0);
        if (!accumulate) clear(dx, pass.slab(y.inputs[0]));
        copy_pieces(pass, piece, pass.gradient(node, block), dx, accumulate);
    }
}

constexpr Op kAll[] = {
    {"input", false, saves_nothing, no_forward, no_forward, nullptr},
    {"output", true, saves_nothing, no_forward, no_forward, nullptr},
    {"reshape", true, saves_nothing, no_forward, no_forward, nullptr},
    {"concat", false, saves_nothing, concat<true>, concat<false>, nullptr, kNothing},
    {"slice", false, saves_nothing, slice_forward, slice_backward, nullptr, kNothing},
};
constexpr auto kRows = of_this_build(kAll);

}  // namespace

std::span<const Op> shape_ops() { return kRows; }

}  // namespace alexandra
