// Fuzzes the readers of GGUF, safetensors and manifests: fuzz_loaders COUNT SEED [FILE...]
//
// Inputs are mutations of small whole files (made here, and those named). Each lies in a buffer of its own size, so
// that a sanitizer sees the first byte read beyond it. Exit 1 when a reader takes over a second, or holds more memory
// than twice its input and 4 KiB (the error's own text); a crash or anything but Error ends the run. Deterministic.
// Not part of the extension: tests/native/test_fuzz.py builds it with sanitizers.

#include <malloc.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "../gguf.h"
#include "../philox.h"
#include "../safetensors.h"

namespace {
size_t live = 0, peak = 0;
}

void* operator new(size_t size) {
    void* p = std::malloc(size ? size : 1);
    if (!p) throw std::bad_alloc();
    live += malloc_usable_size(p);
    if (live > peak) peak = live;
    return p;
}
void operator delete(void* p) noexcept {
    if (p) live -= malloc_usable_size(p);
    std::free(p);
}
void operator delete(void* p, size_t) noexcept { operator delete(p); }

namespace alexandra {
namespace {

constexpr size_t kSlack = 4096;
constexpr double kMostSeconds = 1.0;

class Random {
public:
    explicit Random(uint64_t seed) : seed_(seed) {}
    uint32_t word() {
        if (at_ % 4 == 0) philox_block(seed_, 0, uint32_t(at_ >> 34), uint32_t(at_ / 4), words_);
        return words_[at_++ % 4];
    }
    size_t below(size_t n) { return n ? size_t((uint64_t(word()) * n) >> 32) : 0; }

private:
    uint64_t seed_, at_ = 0;
    uint32_t words_[4];
};

template <typename T>
void put(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put_text(std::string& out, const std::string& text) {
    put(out, uint64_t(text.size()));
    out += text;
}

std::string sample_gguf() {
    std::string out = "GGUF";
    put(out, uint32_t(3));
    put(out, uint64_t(5));
    put(out, uint64_t(5));
    put_text(out, "general.alignment");
    put(out, uint32_t(4));
    put(out, uint32_t(32));
    put_text(out, "general.architecture");
    put(out, uint32_t(8));
    put_text(out, "llama");
    put_text(out, "tokens");
    put(out, uint32_t(9));
    put(out, uint32_t(8));
    put(out, uint64_t(20));
    for (int i = 0; i < 20; ++i) put_text(out, "token" + std::to_string(i));
    put_text(out, "scores");
    put(out, uint32_t(9));
    put(out, uint32_t(6));
    put(out, uint64_t(20));
    for (int i = 0; i < 20; ++i) put(out, float(i));
    put_text(out, "flag");
    put(out, uint32_t(7));
    out += '\1';
    const struct { uint32_t type; uint64_t bytes; } kinds[] = {{0, 512}, {1, 256}, {30, 256}, {8, 136}, {2, 72}};
    uint64_t offset = 0;
    for (int i = 0; i < 5; ++i) {
        put_text(out, "blk." + std::to_string(i) + ".weight");
        put(out, uint32_t(2));
        put(out, uint64_t(32));
        put(out, uint64_t(4));
        put(out, kinds[i].type);
        put(out, offset);
        offset += (kinds[i].bytes + 31) / 32 * 32;
    }
    out.resize((out.size() + 31) / 32 * 32);
    out.resize(out.size() + offset, '\x11');
    return out;
}

std::string sample_safetensors() {
    std::string header = R"({"__metadata__":{"format":"pt","note":"\u00e9\n"})";
    size_t at = 0;
    for (int i = 0; i < 8; ++i) {
        header += ",\"layer." + std::to_string(i) + ".weight\":{\"dtype\":\"F32\",\"shape\":[4," + std::to_string(i + 1) +
                  "],\"data_offsets\":[" + std::to_string(at) + "," + std::to_string(at + 16 * size_t(i + 1)) + "]}";
        at += 16 * size_t(i + 1);
    }
    header += "}";
    std::string out;
    put_text(out, header);
    out.resize(out.size() + at, '\x22');
    return out;
}

std::string sample_manifest() {
    const std::string hash(64, 'a');
    return R"({"schema":1,"spec_hash":")" + hash + R"(","network":"n","dtype":"float32","seed":7,"data_hash":"",)" +
           R"("lineage":{"parent":"x"},"sha256":")" + hash + R"(","checksums":{"a.weight":")" + hash + R"(","b":")" +
           hash + R"("}})";
}

// One to six changes: flipped bits, bytes, extreme numbers, cuts, repeats, pieces of another input, digits.
std::string mutate(std::string input, const std::string& other, Random& random) {
    static const uint64_t kExtremes[] = {0, 1, 2, 31, 33, 0x7f, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
                                         uint64_t(1) << 33, uint64_t(1) << 62, uint64_t(1) << 63, ~uint64_t(0)};
    static const char kJson[] = "{}[]\",:0123456789-eE.\\utfn ";
    for (size_t change = 0, changes = 1 + random.below(6); change < changes && !input.empty(); ++change) {
        const size_t at = random.below(random.below(4) ? input.size() : std::min<size_t>(input.size(), 400));
        switch (random.below(8)) {
            case 0: input[at] = char(input[at] ^ (1 << random.below(8))); break;
            case 1: input[at] = char(random.word()); break;
            case 2: {
                const uint64_t value = kExtremes[random.below(std::size(kExtremes))] + (random.below(3) == 0 ? random.below(64) : 0);
                const size_t size = size_t(1) << random.below(4);
                for (size_t i = 0; i < size && at + i < input.size(); ++i) input[at + i] = char(value >> 8 * i);
                break;
            }
            case 3: input.resize(at); break;
            case 4: input.insert(at, input.substr(random.below(input.size()), random.below(64))); break;
            case 5: input.erase(at, random.below(64)); break;
            case 6: {
                const std::string piece = other.substr(random.below(other.size()), random.below(96));
                input.replace(at, std::min(piece.size(), input.size() - at), piece);
                break;
            }
            default: input[at] = kJson[random.below(sizeof kJson - 1)];
        }
    }
    return input;
}

volatile uint64_t sink;

void walk(const GgufFile& file) {
    uint64_t sum = 0;
    for (size_t i = 0; i < file.num_values(); ++i) sum += file.value(i).count;
    for (const GgufTensor& t : file.tensors()) sum += t.dim(0) + t.data[0] + t.data[t.bytes - 1];
    sink = sum;
}
void walk(const SafetensorsFile& file) {
    uint64_t sum = file.metadata().size();
    for (const SafeTensor& t : file.tensors()) sum += shape_of(t).size() + (t.bytes ? t.data[0] + t.data[t.bytes - 1] : 0);
    sink = sum;
}

// Reads one input; returns whether it was taken.
bool read(int kind, const uint8_t* data, size_t size) {
    try {
        if (kind == 0) walk(GgufFile(data, size));
        if (kind == 1) walk(SafetensorsFile(data, size));
        if (kind == 2) sink = check_manifest({reinterpret_cast<const char*>(data), size});
        return true;
    } catch (const Error&) {
        return false;
    }
}

int fuzz(uint64_t count, uint64_t seed, std::vector<std::string> inputs, const std::vector<int>& kinds) {
    Random random(seed);
    uint64_t taken = 0;
    double slowest = 0;
    size_t most = 0;
    for (uint64_t i = 0; i < count; ++i) {
        const size_t which = random.below(inputs.size());
        const std::string made = i < inputs.size() ? inputs[i] : mutate(inputs[which], inputs[random.below(inputs.size())], random);
        const int kind = i < inputs.size() ? kinds[i] : kinds[which];
        std::unique_ptr<uint8_t[]> data(new uint8_t[made.size()]);
        std::memcpy(data.get(), made.data(), made.size());
        const size_t before = live;
        peak = live;
        const auto start = std::chrono::steady_clock::now();
        taken += read(kind, data.get(), made.size());
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        const size_t used = peak - before;
        slowest = std::max(slowest, seconds);
        most = std::max(most, used);
        if (seconds > kMostSeconds || used > 2 * made.size() + kSlack) {
            std::printf("input %llu of kind %d: %zu bytes, %.3f s, %zu bytes of memory\n", (unsigned long long)i, kind,
                        made.size(), seconds, used);
            return 1;
        }
        if (i < inputs.size() && taken != i + 1) return std::printf("the whole input %llu was refused\n", (unsigned long long)i), 1;
    }
    std::printf("{\"inputs\": %llu, \"taken\": %llu, \"slowest_seconds\": %.6f, \"most_bytes\": %zu}\n",
                (unsigned long long)count, (unsigned long long)taken, slowest, most);
    return 0;
}

}  // namespace
}  // namespace alexandra

int main(int argc, char** argv) {
    if (argc < 3) return std::fprintf(stderr, "usage: fuzz_loaders COUNT SEED [FILE...]\n"), 2;
    std::vector<std::string> inputs = {alexandra::sample_gguf(), alexandra::sample_safetensors(), alexandra::sample_manifest()};
    std::vector<int> kinds = {0, 1, 2};
    for (int i = 3; i < argc; ++i) {
        std::ifstream file(argv[i], std::ios::binary);
        inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
        const std::string& text = inputs.back();
        kinds.push_back(text.compare(0, 4, "GGUF") == 0 ? 0 : text.compare(0, 1, "{") == 0 ? 2 : 1);
    }
    return alexandra::fuzz(std::strtoull(argv[1], nullptr, 10), std::strtoull(argv[2], nullptr, 10), inputs, kinds);
}
