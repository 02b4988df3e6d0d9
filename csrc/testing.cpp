// Single kernels for tests, under alexandra._native.testing: fast and naive versions, elementary functions,
// random words.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <chrono>
#include <cstring>
#include <tuple>
#include <vector>

#include "allocations.h"
#include "arena.h"
#include "dispatch.h"
#include "naive.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace alexandra {

namespace {

using Vector = nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Matrix = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Words = nb::ndarray<uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// An aligned copy of a matrix with a padded stride.
struct Aligned {
    explicit Aligned(const Matrix& x)
        : stride(ptrdiff_t(round_up(x.shape(1), 16))), memory(x.shape(0) * size_t(stride)) {
        for (size_t r = 0; r < x.shape(0); ++r)
            std::memcpy(memory.data() + r * size_t(stride), x.data() + r * x.shape(1), x.shape(1) * sizeof(float));
    }
    void copy_to(Matrix& x) const {
        for (size_t r = 0; r < x.shape(0); ++r)
            std::memcpy(x.data() + r * x.shape(1), memory.data() + r * size_t(stride), x.shape(1) * sizeof(float));
    }
    ptrdiff_t stride;
    Memory memory;
};

// c = a b (a: [m, k], or [k, m] when `across`), continued from c when `accumulate`. `kind`: fast, naive, or free, whose
// order of sums is the kernel's.
void product(const std::string& isa, Matrix a, Matrix b, Matrix c, bool across, bool accumulate,
             const std::string& kind) {
    const Kernels& kernels = choose_kernels(isa);
    Aligned fa(a), fb(b), fc(c);
    Memory scratch(kind == "free" ? product_scratch(int(c.shape(0))) : 0);
    const Product p{
        .m = int(c.shape(0)), .n = int(fc.stride), .k = int(b.shape(0)), .blocks = 1,
        .a = fa.memory.data(), .a_m = across ? 1 : fa.stride, .a_k = across ? fa.stride : 1,
        .b = fb.memory.data(), .b_k = fb.stride, .b_block = 0,
        .c = fc.memory.data(), .c_m = fc.stride, .c_block = 0,
        .start = nullptr, .accumulate = accumulate, .segment = int(b.shape(0)), .a_segment = 0,
        .relu = false, .gate = nullptr, .scratch = kind == "free" ? scratch.data() : nullptr,
    };
    kind == "naive" ? product_naive(p, kernels.fused) : kernels.product(p);
    fc.copy_to(c);
}

void elementary(const std::string& isa, int which, Vector x, Vector y) {
    const size_t n = round_up(x.size(), 16);
    Memory in(n), out(n);
    std::memcpy(in.data(), x.data(), x.size() * sizeof(float));
    choose_kernels(isa).elementary(which, n, in.data(), out.data());
    std::memcpy(y.data(), out.data(), x.size() * sizeof(float));
}

float sum_of_squares(const std::string& isa, Vector x, bool naive) {
    const Kernels& kernels = choose_kernels(isa);
    Memory in(x.size());
    std::memcpy(in.data(), x.data(), x.size() * sizeof(float));
    return naive ? striped_sum_naive(x.size(), in.data(), in.data(), kernels.fused)
                 : kernels.sum_of_squares(in.floats(), in.data());
}

// state: rows w, g, m, v, changed in place.
void adam(const std::string& isa, Matrix state, bool naive) {
    const Kernels& kernels = choose_kernels(isa);
    const AdamStep step{0.9f, 0.1f, 0.999f, 0.001f, 0.01f, 31.6f, 1e-8f, 0.9999f, 0.0003f, 0.02f, 0.7f};
    Aligned s(state);
    float* w = s.memory.data();
    const size_t n = size_t(s.stride);
    naive ? adam_naive(n, w, w + n, w + 2 * n, w + 3 * n, step, kernels.fused)
          : kernels.adam(n, w, w + n, w + 2 * n, w + 3 * n, step);
    s.copy_to(state);
}

// stream: key, nonce, lane
void philox_words(const std::string& isa, std::tuple<uint64_t, uint64_t, uint32_t> stream, uint64_t start, Words out,
                  bool naive) {
    const auto [key, nonce, lane] = stream;
    (naive ? philox_words_naive : choose_kernels(isa).philox_words)(key, nonce, lane, start, out.size(), out.data());
}

double multiply_adds_per_second(const std::string& isa) {
    const Kernels& kernels = choose_kernels(isa);
    Memory sink(256);
    const auto began = std::chrono::steady_clock::now();
    const uint64_t count = kernels.multiply_adds(200000, sink.data());
    return double(count) / std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

}  // namespace

namespace {

// What a counting build counts of one vector.
uint64_t counts_a_vector() {
    const uint64_t before = counted_allocations();
    const CountAllocations now;
    std::vector<float> floats(1000, 1.0f);
    volatile float sink = floats[size_t(before % 1000)];
    (void)sink;
    return counted_allocations() - before;
}

}  // namespace

void bind_testing(nb::module_& m) {
    nb::module_ t = m.def_submodule("testing", "Single kernels, for tests.");
    t.def("counts_a_vector", &counts_a_vector);
    t.def("product", &product, "isa"_a, "a"_a, "b"_a, "c"_a, "across"_a, "accumulate"_a, "kind"_a = "fast");
    t.def("elementary", &elementary, "isa"_a, "which"_a, "x"_a, "y"_a);
    t.def("sum_of_squares", &sum_of_squares, "isa"_a, "x"_a, "naive"_a);
    t.def("multiply_adds_per_second", &multiply_adds_per_second, "isa"_a);
    t.def("adam", &adam, "isa"_a, "state"_a, "naive"_a);
    t.def("philox_words", &philox_words, "isa"_a, "stream"_a, "start"_a, "out"_a, "naive"_a);
}

}  // namespace alexandra
