// Occurrences of many terms in a text in one pass: the automaton of Aho and Corasick (1975) over bytes.
// States hold their edges in one sorted array; states with many edges (the root) have a full row. No locale, no regex:
// what a term's bytes are is what is found, whole words are the caller's matter.

#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;

namespace alexandra {

namespace {

class Lexicon {
public:
    explicit Lexicon(const std::vector<nb::bytes>& terms) {
        std::vector<std::map<uint8_t, int32_t>> next(1);
        ends_.emplace_back(-1);
        for (size_t number = 0; number < terms.size(); ++number) {
            const auto* bytes = reinterpret_cast<const uint8_t*>(terms[number].c_str());
            int32_t state = 0;
            for (size_t i = 0; i < terms[number].size(); ++i) {
                auto [place, is_new] = next[size_t(state)].try_emplace(bytes[i], int32_t(next.size()));
                state = place->second;
                if (is_new) {
                    next.emplace_back();
                    ends_.push_back(-1);
                }
            }
            same_.push_back(ends_[size_t(state)]);  // equal terms form a chain
            if (state) ends_[size_t(state)] = int32_t(number);
        }
        flatten(next);
        link();
    }

    // (term, end) of every occurrence, by end.
    std::vector<std::pair<int64_t, int64_t>> find(const nb::bytes& text) const {
        std::vector<std::pair<int64_t, int64_t>> found;
        const auto* bytes = reinterpret_cast<const uint8_t*>(text.c_str());
        const size_t size = text.size();
        nb::gil_scoped_release release;
        int32_t state = 0;
        for (size_t i = 0; i < size; ++i) {
            state = step(state, bytes[i]);
            for (int32_t at = ends_[size_t(state)] >= 0 ? state : shorter_[size_t(state)]; at > 0;
                 at = shorter_[size_t(at)])
                for (int32_t term = ends_[size_t(at)]; term >= 0; term = same_[size_t(term)])
                    found.emplace_back(term, int64_t(i) + 1);
        }
        return found;
    }

private:
    void flatten(const std::vector<std::map<uint8_t, int32_t>>& next) {
        first_.push_back(0);
        for (const auto& edges : next) {
            for (const auto& [byte, state] : edges) edges_.emplace_back(byte, state);
            first_.push_back(int32_t(edges_.size()));
        }
        root_.fill(0);
        for (const auto& [byte, state] : next[0]) root_[byte] = state;
    }

    void link() {
        fail_.assign(ends_.size(), 0);
        shorter_.assign(ends_.size(), 0);
        std::vector<int32_t> queue;
        for (int32_t state : root_)
            if (state) queue.push_back(state);
        for (size_t i = 0; i < queue.size(); ++i) {
            const int32_t state = queue[i];
            for (int32_t e = first_[size_t(state)]; e < first_[size_t(state) + 1]; ++e) {
                const auto [byte, child] = edges_[size_t(e)];
                fail_[size_t(child)] = step(fail_[size_t(state)], byte);
                queue.push_back(child);
            }
            const int32_t back = fail_[size_t(state)];
            shorter_[size_t(state)] = ends_[size_t(back)] >= 0 ? back : shorter_[size_t(back)];
        }
    }

    int32_t step(int32_t state, uint8_t byte) const {
        while (state) {
            const auto begin = edges_.begin() + first_[size_t(state)], end = edges_.begin() + first_[size_t(state) + 1];
            const auto edge = std::lower_bound(begin, end, std::pair<uint8_t, int32_t>(byte, 0));
            if (edge != end && edge->first == byte) return edge->second;
            state = fail_[size_t(state)];
        }
        return root_[byte];
    }

    std::vector<std::pair<uint8_t, int32_t>> edges_;
    std::array<int32_t, 256> root_{};
    std::vector<int32_t> first_, fail_, shorter_, ends_, same_;
};

}  // namespace

void bind_lexicon(nb::module_& m) {
    nb::class_<Lexicon>(m, "Lexicon")
        .def(nb::init<const std::vector<nb::bytes>&>(), "terms"_a)
        .def("find", &Lexicon::find, "text"_a);
}

}  // namespace alexandra
