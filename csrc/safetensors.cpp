#include "safetensors.h"

#include <algorithm>

namespace alexandra {

namespace {

struct Dtype {
    std::string_view name;
    int bytes;
};
constexpr Dtype kDtypes[] = {
    {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F64", 8}, {"I64", 8}, {"I32", 4}, {"I16", 2}, {"I8", 1},
    {"U64", 8}, {"U32", 4}, {"U16", 2},  {"U8", 1},  {"BOOL", 1},
};

uint64_t dtype_bytes(std::string_view name, std::string_view tensor) {
    std::string known;
    for (const Dtype& dtype : kDtypes) {
        if (dtype.name == name) return uint64_t(dtype.bytes);
        known += (known.empty() ? "" : ", ") + std::string(dtype.name);
    }
    damaged("tensor " + quoted(tensor) + " has dtype " + quoted(name) + "; known: " + known);
}

}  // namespace

SafetensorsFile::SafetensorsFile(const uint8_t* data, size_t size) {
    ByteReader in(data, size);
    const uint64_t length = in.number<uint64_t>("the header's length");
    if (length > in.left() || length > kMaxSafeHeader)
        damaged("the header claims " + std::to_string(length) + " bytes; the file has " + std::to_string(in.left()) +
                " and at most " + std::to_string(kMaxSafeHeader) + " are allowed");
    header_ = {reinterpret_cast<const char*>(in.take(length, "the header")), size_t(length)};
    begin_ = data + in.at();
    data_size_ = in.left();
    size_t count = 0;
    JsonCursor first(header_);
    first.object([&](std::string_view) { first.skip(), ++count; });
    first.end();
    tensors_.reserve(count);
    bool noted = false;
    JsonCursor second(header_);
    second.object([&](std::string_view key) {
        if (key != "__metadata__") return read_tensor(second, key);
        if (noted) damaged("'__metadata__' stands twice");
        noted = true;
        second.peek();
        const size_t from = second.at();
        second.object([&](std::string_view) { second.string(); });
        metadata_ = header_.substr(from, second.at() - from);
    });
    check_places();
}

void SafetensorsFile::read_tensor(JsonCursor& in, std::string_view name) {
    SafeTensor tensor{.name = name, .shape = {}, .dtype = {}, .data = nullptr, .bytes = 0};
    uint64_t values = 1, place[2] = {}, places = 0;
    int dims = 0, seen = 0;
    in.object([&](std::string_view key) {
        const int field = key == "dtype" ? 1 : key == "shape" ? 2 : key == "data_offsets" ? 4 : 0;
        if (!field || (seen & field))
            damaged("tensor " + quoted(name) + " has the field " + quoted(key) + (field ? " twice" : "; known: dtype, shape, data_offsets"));
        seen |= field;
        if (field == 1) tensor.dtype = in.string();
        if (field == 4)
            in.array([&] {
                const uint64_t at = in.whole();
                if (places < 2) place[places] = at;
                ++places;
            });
        if (field != 2) return;
        in.peek();
        const size_t from = in.at();
        in.array([&] {
            const uint64_t n = in.whole();
            if (++dims > kMaxSafeDims) damaged("tensor " + quoted(name) + " has more than 8 axes");
            if (n && values > (uint64_t(1) << 50) / n) damaged("tensor " + quoted(name) + " has too many values");
            values *= n;
        });
        tensor.shape = header_.substr(from, in.at() - from);
    });
    if (seen != 7 || places != 2) damaged("tensor " + quoted(name) + " needs dtype, shape and two data_offsets");
    const uint64_t bytes = values * dtype_bytes(tensor.dtype, name);
    if (place[0] > place[1] || place[1] > data_size_ || place[1] - place[0] != bytes)
        damaged("tensor " + quoted(name) + " needs " + std::to_string(bytes) + " bytes, lies at " +
                std::to_string(place[0]) + " to " + std::to_string(place[1]) + " of " + std::to_string(data_size_));
    tensor.data = begin_ + place[0];
    tensor.bytes = bytes;
    tensors_.push_back(tensor);
}

// No name twice, and the tensors fill the data without a hole or an overlap.
void SafetensorsFile::check_places() const {
    std::vector<uint32_t> order(tensors_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = uint32_t(i);
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return tensors_[a].name < tensors_[b].name; });
    for (size_t i = 1; i < order.size(); ++i)
        if (tensors_[order[i - 1]].name == tensors_[order[i]].name)
            damaged("tensor " + quoted(tensors_[order[i]].name) + " stands twice");
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
        return tensors_[a].data != tensors_[b].data ? tensors_[a].data < tensors_[b].data : tensors_[a].bytes < tensors_[b].bytes;
    });
    const uint8_t* at = begin_;
    for (const uint32_t i : order) {
        if (tensors_[i].data != at)
            damaged("tensor " + quoted(tensors_[i].name) + " lies at " + std::to_string(tensors_[i].data - begin_) +
                    ", the one before it ends at " + std::to_string(at - begin_));
        at += tensors_[i].bytes;
    }
    if (at != begin_ + data_size_)
        damaged(std::to_string(begin_ + data_size_ - at) + " bytes after the last tensor belong to none");
}

std::vector<uint64_t> shape_of(const SafeTensor& tensor) {
    std::vector<uint64_t> shape;
    JsonCursor in(tensor.shape);
    in.array([&] { shape.push_back(in.whole()); });
    return shape;
}

size_t check_manifest(std::string_view text) {
    static constexpr std::string_view kFields[] = {"schema", "spec_hash", "network",  "dtype", "seed",
                                                   "data_hash", "lineage", "sha256", "checksums"};
    const auto hash = [](std::string_view value, std::string_view name) {
        const bool whole = value.size() == 64 && value.find_first_not_of("0123456789abcdef") == std::string_view::npos;
        if (!whole) damaged("the checksum of " + quoted(name) + " is " + quoted(value) + ", not 64 hexadecimal digits");
    };
    unsigned seen = 0;
    size_t tensors = 0;
    JsonCursor in(text);
    in.object([&](std::string_view key) {
        unsigned field = 0;
        while (field < 9 && kFields[field] != key) ++field;
        if (field == 9) damaged("the manifest has an unknown field " + quoted(key));
        if (seen >> field & 1) damaged("the manifest has the field " + quoted(key) + " twice");
        seen |= 1u << field;
        if (field == 0) {
            if (const uint64_t schema = in.whole(); schema != 1)
                damaged("manifest schema " + std::to_string(schema) + " is not known; this version reads 1");
        } else if (field == 7) {
            hash(in.string(), "the file");
        } else if (field == 8) {
            in.object([&](std::string_view name) { hash(in.string(), name), ++tensors; });
        } else if (field == 6) {
            in.object([&](std::string_view) { in.string(); });
        } else if (field == 4) {
            in.skip();
        } else {
            in.string();
        }
    });
    in.end();
    if (seen != 511) damaged("the manifest is incomplete: it needs schema, spec_hash, network, dtype, seed, data_hash, lineage, sha256, checksums");
    return tensors;
}

}  // namespace alexandra
