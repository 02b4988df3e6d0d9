// The data pipeline's part of alexandra._native, under alexandra._native.data: signatures of many texts at once.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "error.h"
#include "minhash.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace alexandra {

namespace {

template <typename T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Owned = nb::ndarray<nb::numpy, T, nb::c_contig>;

template <typename T>
Owned<T> owned(std::vector<T>&& values, std::initializer_list<size_t> shape) {
    auto* kept = new std::vector<T>(std::move(values));
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return Owned<T>(kept->data(), shape, owner);
}

// texts: UTF-8, lower case. Returns (signatures [texts, permutations], offsets [texts + 1], sorted distinct shingles).
nb::tuple sign(const std::vector<nb::bytes>& texts, int unit, int size, const Vector<uint64_t>& a, const Vector<uint64_t>& b) {
    if (size < 1 || unit < 0 || unit > 1 || a.shape(0) != b.shape(0))
        throw Error(Status::invalid_argument, "wrong shingle unit or size, or permutations of two lengths");
    std::vector<std::string_view> views;
    for (const nb::bytes& text : texts) views.emplace_back(text.c_str(), text.size());
    const size_t permutations = a.shape(0);
    std::vector<uint32_t> signatures(texts.size() * permutations), all, one;
    std::vector<int64_t> offsets{0};
    {
        const nb::gil_scoped_release release;
        for (size_t t = 0; t < views.size(); ++t) {
            one.clear();
            data::shingles(views[t], unit, size, one);
            std::sort(one.begin(), one.end());
            one.erase(std::unique(one.begin(), one.end()), one.end());
            data::signature(one.data(), one.size(), a.data(), b.data(), permutations, &signatures[t * permutations]);
            all.insert(all.end(), one.begin(), one.end());
            offsets.push_back(int64_t(all.size()));
        }
    }
    const size_t rows = texts.size(), ends = offsets.size(), found = all.size();
    return nb::make_tuple(owned(std::move(signatures), {rows, permutations}), owned(std::move(offsets), {ends}),
                          owned(std::move(all), {found}));
}

// Jaccard similarity of rows left[i] and right[i] of one set of shingles.
Owned<double> similarities(const Vector<uint32_t>& shingles, const Vector<int64_t>& offsets, const Vector<int64_t>& left,
                           const Vector<int64_t>& right) {
    const int64_t rows = int64_t(offsets.shape(0)) - 1;
    if (left.shape(0) != right.shape(0)) throw Error(Status::invalid_argument, "as many left rows as right rows");
    if (rows < 0 || offsets(size_t(rows)) > int64_t(shingles.shape(0)))
        throw Error(Status::invalid_argument, "offsets end behind the shingles");
    std::vector<double> out(left.shape(0));
    for (size_t i = 0; i < out.size(); ++i) {
        const int64_t x = left(i), y = right(i);
        if (x < 0 || y < 0 || x >= rows || y >= rows) throw Error(Status::invalid_argument, "no such row");
        const int64_t x0 = offsets(size_t(x)), x1 = offsets(size_t(x) + 1);
        const int64_t y0 = offsets(size_t(y)), y1 = offsets(size_t(y) + 1);
        if (x0 < 0 || y0 < 0 || x1 < x0 || y1 < y0 || std::max(x1, y1) > int64_t(shingles.shape(0)))
            throw Error(Status::invalid_argument, "offsets do not rise");
        out[i] = data::jaccard(shingles.data() + x0, size_t(x1 - x0), shingles.data() + y0, size_t(y1 - y0));
    }
    const size_t n = out.size();
    return owned(std::move(out), {n});
}

}  // namespace

void bind_data(nb::module_& m) {
    nb::module_ part = m.def_submodule("data", "Shingles and signatures for deduplication.");
    part.def("sign", &sign, "texts"_a, "unit"_a, "size"_a, "a"_a, "b"_a);
    part.def("similarities", &similarities, "shingles"_a, "offsets"_a, "left"_a, "right"_a);
}

}  // namespace alexandra
