#include "gguf.h"

#include <algorithm>

namespace alexandra {

namespace {

constexpr size_t kValueBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
constexpr uint32_t kNumTypes = 13;
constexpr size_t kLeastValue = 8 + 1 + 4 + 1, kLeastTensor = 8 + 1 + 4 + 8 + 4 + 8;  // bytes that each takes

GgufType checked_type(uint32_t type, std::string_view key) {
    if (type >= kNumTypes) damaged("the value of " + quoted(key) + " has type " + std::to_string(type) + ", known: 0 to 12");
    return GgufType(type);
}

void skip_value(ByteReader& in, GgufType type, std::string_view key) {
    if (type == GgufType::text) {
        in.text("a text value");
    } else if (type == GgufType::boolean) {
        if (const uint8_t value = in.number<uint8_t>("a boolean"); value > 1)
            damaged("the boolean " + quoted(key) + " is " + std::to_string(value));
    } else {
        in.take(kValueBytes[size_t(type)], "a value");
    }
}

void skip_array(ByteReader& in, std::string_view key) {
    const GgufType element = checked_type(in.number<uint32_t>("an array"), key);
    const uint64_t count = in.number<uint64_t>("an array");
    if (element == GgufType::array) damaged("the array " + quoted(key) + " holds arrays, which is not supported");
    if (count > in.left())
        damaged("the array " + quoted(key) + " claims " + std::to_string(count) + " elements, " +
                std::to_string(in.left()) + " bytes are left");
    if (const size_t bytes = kValueBytes[size_t(element)]; bytes > 1) {
        if (count > in.left() / bytes)
            damaged("the array " + quoted(key) + " claims " + std::to_string(count) + " elements, " +
                    std::to_string(in.left()) + " bytes are left");
        in.take(count * bytes, "an array");
    } else {
        for (uint64_t i = 0; i < count; ++i) skip_value(in, element, key);
    }
}

std::string_view read_key(ByteReader& in) {
    const std::string_view key = in.text("a key");
    if (key.empty() || key.size() > 65535) damaged("a key has " + std::to_string(key.size()) + " bytes, allowed: 1 to 65535");
    return key;
}

// Throws when two of the names (by index, sorted by `less`) are equal.
template <typename Name>
void check_unique(size_t count, const Name& name, const char* what) {
    std::vector<uint32_t> order(count);
    for (size_t i = 0; i < count; ++i) order[i] = uint32_t(i);
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return name(a) < name(b); });
    for (size_t i = 1; i < count; ++i)
        if (name(order[i - 1]) == name(order[i])) damaged(std::string(what) + " " + quoted(name(order[i])) + " stands twice");
}

}  // namespace

GgufFile::GgufFile(const uint8_t* data, size_t size) : data_(data), size_(size) {
    ByteReader in(data, size);
    if (size < 24 || std::memcmp(in.take(4, "the magic"), "GGUF", 4) != 0)
        damaged("not a GGUF file: it does not begin with 'GGUF' and 20 bytes more");
    version_ = in.number<uint32_t>("the version");
    if (version_ != 2 && version_ != 3)
        damaged("GGUF version " + std::to_string(version_) + " is not known; known: 2, 3 (little-endian)");
    const uint64_t num_tensors = in.number<uint64_t>("the header"), num_values = in.number<uint64_t>("the header");
    if (num_values > in.left() / kLeastValue || num_tensors > in.left() / kLeastTensor)
        damaged("the header claims " + std::to_string(num_values) + " values and " + std::to_string(num_tensors) +
                " tensors, more than " + std::to_string(size) + " bytes can hold");
    read_values(in, num_values);
    read_tensors(in, num_tensors);
    check_names();
    const size_t begin = (in.at() + alignment_ - 1) / alignment_ * alignment_;
    place_tensors(begin);
}

void GgufFile::read_values(ByteReader& in, uint64_t count) {
    values_.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
        values_.push_back(in.at());
        const std::string_view key = read_key(in);
        const GgufType type = checked_type(in.number<uint32_t>("a value"), key);
        if (type == GgufType::array) {
            skip_array(in, key);
            continue;
        }
        const size_t at = in.at();
        skip_value(in, type, key);
        if (key != "general.alignment") continue;
        if (type != GgufType::u32) damaged("'general.alignment' is not a 32-bit number");
        std::memcpy(&alignment_, data_ + at, 4);
        if (alignment_ < 8 || alignment_ > (1u << 20) || (alignment_ & (alignment_ - 1)))
            damaged("'general.alignment' is " + std::to_string(alignment_) + ", allowed: powers of 2 from 8 to 2^20");
    }
}

void GgufFile::read_tensors(ByteReader& in, uint64_t count) {
    tensors_.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
        GgufTensor tensor;
        tensor.name = read_key(in);
        tensor.num_dims = in.number<uint32_t>("a tensor");
        if (tensor.num_dims < 1 || tensor.num_dims > kGgufMaxDims)
            damaged("tensor " + quoted(tensor.name) + " has " + std::to_string(tensor.num_dims) + " axes, allowed: 1 to 4");
        tensor.dims = in.take(8 * size_t(tensor.num_dims), "a tensor's shape");
        const uint32_t type = in.number<uint32_t>("a tensor's type");
        const TypeInfo* info = type_info(type);
        if (!info)
            damaged("tensor " + quoted(tensor.name) + " has type " + std::to_string(type) + " of ggml; known: " + known_types());
        tensor.type = info->type;
        uint64_t values = 1;
        for (uint32_t d = 0; d < tensor.num_dims; ++d) {
            const uint64_t n = tensor.dim(d);
            if (n < 1 || n > uint64_t(1) << 40 || values > (uint64_t(1) << 50) / n)
                damaged("tensor " + quoted(tensor.name) + " has an axis of " + std::to_string(n) + ", too many values");
            values *= n;
        }
        if (tensor.dim(0) % uint64_t(info->block))
            damaged("tensor " + quoted(tensor.name) + " has rows of " + std::to_string(tensor.dim(0)) + " values, " +
                    info->name + " needs multiples of " + std::to_string(info->block));
        tensor.bytes = values / uint64_t(info->block) * uint64_t(info->bytes);
        const uint64_t offset = in.number<uint64_t>("a tensor's place");
        if (offset % alignment_)
            damaged("tensor " + quoted(tensor.name) + " lies at " + std::to_string(offset) + ", not aligned to " +
                    std::to_string(alignment_));
        if (offset > size_ || tensor.bytes > size_ - offset)
            damaged("tensor " + quoted(tensor.name) + " claims " + std::to_string(tensor.bytes) + " bytes at " +
                    std::to_string(offset) + ", the file has " + std::to_string(size_));
        tensor.data = data_ + offset;  // from the data's begin, once that is known
        tensors_.push_back(tensor);
    }
}

void GgufFile::place_tensors(size_t begin) {
    if (tensors_.empty()) return;
    for (GgufTensor& tensor : tensors_) {
        const uint64_t offset = uint64_t(tensor.data - data_);
        if (begin > size_ || offset > size_ - begin || tensor.bytes > size_ - begin - offset)
            damaged("tensor " + quoted(tensor.name) + " claims " + std::to_string(tensor.bytes) + " bytes at " +
                    std::to_string(begin + offset) + ", the file has " + std::to_string(size_));
        tensor.data += begin;
    }
    std::vector<uint32_t> order(tensors_.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = uint32_t(i);
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return tensors_[a].data < tensors_[b].data; });
    for (size_t i = 1; i < order.size(); ++i)
        if (const GgufTensor& before = tensors_[order[i - 1]]; before.data + before.bytes > tensors_[order[i]].data)
            damaged("tensors " + quoted(before.name) + " and " + quoted(tensors_[order[i]].name) + " overlap");
}

void GgufFile::check_names() const {
    check_unique(tensors_.size(), [&](uint32_t i) { return tensors_[i].name; }, "tensor");
    check_unique(values_.size(), [&](uint32_t i) { return ByteReader(data_, size_, values_[i]).text("a key"); }, "key");
}

GgufValue GgufFile::value(size_t i) const {
    ByteReader in(data_, size_, values_[i]);
    GgufValue value{};
    value.key = in.text("a key");
    value.type = GgufType(in.number<uint32_t>("a value"));
    value.element = value.type;
    value.count = 1;
    if (value.type == GgufType::array) {
        value.element = GgufType(in.number<uint32_t>("an array"));
        value.count = in.number<uint64_t>("an array");
    }
    value.at = in.at();
    return value;
}

}  // namespace alexandra
