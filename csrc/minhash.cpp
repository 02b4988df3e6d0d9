// MinHash (Broder, 1997) with multiply-shift permutations (Dietzfelbinger et al., 1997) over 32-bit shingle hashes.

#include "minhash.h"

#include <algorithm>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define ALEXANDRA_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define ALEXANDRA_CLONES
#endif

namespace alexandra::data {

namespace {

constexpr uint64_t kBasis = 0xCBF29CE484222325ull, kPrime = 0x100000001B3ull, kStep = 0x9E3779B97F4A7C15ull;

uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

// Scripts without blanks between words: each character is a word.
bool stands_alone(uint32_t c) {
    return c >= 0x2E80 || (c >= 0x0E00 && c <= 0x0EFF) || (c >= 0x1000 && c <= 0x109F) || (c >= 0x1780 && c <= 0x17FF);
}

// The code point at `i` of valid UTF-8 and its length; a stray byte is a character by itself.
uint32_t code_point(std::string_view s, size_t i, size_t& length) {
    const auto byte = [&](size_t k) { return i + k < s.size() ? uint32_t(uint8_t(s[i + k])) : 0u; };
    const uint32_t first = byte(0);
    length = first < 0x80 ? 1 : first < 0xC0 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    length = std::min(length, s.size() - i);
    switch (length) {
        case 2: return (first & 0x1F) << 6 | (byte(1) & 0x3F);
        case 3: return (first & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
        case 4: return (first & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
        default: return first;
    }
}

uint64_t fnv(std::string_view s, size_t begin, size_t end) {
    uint64_t h = kBasis;
    for (size_t i = begin; i < end; ++i) h = (h ^ uint8_t(s[i])) * kPrime;
    return h;
}

void word_hashes(std::string_view s, std::vector<uint64_t>& out) {
    size_t start = 0;
    bool inside = false;
    for (size_t i = 0; i < s.size();) {
        const uint8_t c = uint8_t(s[i]);
        size_t length = 1;
        if (c < 0x80) {
            const bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
            if (word && !inside) start = i;
            if (!word && inside) out.push_back(fnv(s, start, i));
            inside = word;
        } else if (stands_alone(code_point(s, i, length))) {
            if (inside) out.push_back(fnv(s, start, i));
            out.push_back(fnv(s, i, i + length));
            inside = false;
        } else if (!inside) {
            start = i;
            inside = true;
        }
        i += length;
    }
    if (inside) out.push_back(fnv(s, start, s.size()));
}

// Characters; white space of any length (ASCII) is one blank, none at either end.
void character_hashes(std::string_view s, std::vector<uint64_t>& out) {
    bool blank = false;
    for (size_t i = 0; i < s.size();) {
        const uint8_t c = uint8_t(s[i]);
        size_t length = 1;
        if (c == ' ' || (c >= 9 && c <= 13)) {
            blank = !out.empty();
        } else {
            if (c >= 0x80) code_point(s, i, length);
            if (blank) out.push_back(fnv(" ", 0, 1));
            blank = false;
            out.push_back(fnv(s, i, i + length));
        }
        i += length;
    }
}

ALEXANDRA_CLONES
void minima(const uint32_t* x, size_t n, const uint64_t* a, const uint64_t* b, size_t permutations, uint32_t* out) {
    for (size_t i = 0; i < n; ++i) {
        const uint64_t value = x[i];
        for (size_t p = 0; p < permutations; ++p) {
            const uint32_t h = uint32_t((a[p] * value + b[p]) >> 32);
            out[p] = h < out[p] ? h : out[p];
        }
    }
}

}  // namespace

void shingles(std::string_view text, int unit, int size, std::vector<uint32_t>& out) {
    std::vector<uint64_t> units;
    units.reserve(text.size() / (unit ? 1 : 5) + 8);
    unit ? character_hashes(text, units) : word_hashes(text, units);
    const size_t n = units.size(), width = size_t(size);
    if (!n) return;
    const size_t count = n < width ? 1 : n - width + 1, last = std::min(n, width);
    for (size_t i = 0; i < count; ++i) {
        uint64_t h = 0;
        for (size_t k = 0; k < last; ++k) h = (h ^ units[i + k]) * kStep;
        out.push_back(uint32_t(mix(h) >> 32));
    }
}

void signature(const uint32_t* x, size_t n, const uint64_t* a, const uint64_t* b, size_t permutations, uint32_t* out) {
    std::fill(out, out + permutations, 0xFFFFFFFFu);
    minima(x, n, a, b, permutations, out);
}

double jaccard(const uint32_t* x, size_t n, const uint32_t* y, size_t m) {
    size_t i = 0, j = 0, common = 0;
    while (i < n && j < m) {
        const uint32_t p = x[i], q = y[j];
        common += p == q;
        i += p <= q;
        j += q <= p;
    }
    const size_t both = n + m - common;
    return both ? double(common) / double(both) : 0.0;
}

}  // namespace alexandra::data
