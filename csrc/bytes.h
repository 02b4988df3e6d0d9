// Reading bytes that nobody vouches for: a cursor that refuses to go past the end, and files mapped read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "error.h"

namespace alexandra {

[[noreturn]] inline void damaged(const std::string& what) { throw Error(Status::invalid_argument, what); }

// Text of a file as it may stand in a message: short, and printable.
std::string quoted(std::string_view text);

class ByteReader {
public:
    ByteReader(const uint8_t* data, size_t size, size_t at = 0) : data_(data), size_(size), at_(at) {}
    size_t at() const { return at_; }
    size_t left() const { return size_ - at_; }

    const uint8_t* take(size_t count, const char* what) {
        if (count > left())
            damaged("the file ends inside " + std::string(what) + ": " + std::to_string(count) + " bytes wanted at " +
                    std::to_string(at_) + ", " + std::to_string(left()) + " left");
        const uint8_t* here = data_ + at_;
        at_ += count;
        return here;
    }
    template <typename T>
    T number(const char* what) {
        T value;
        std::memcpy(&value, take(sizeof(T), what), sizeof(T));
        return value;
    }
    std::string_view text(const char* what) {
        const uint64_t length = number<uint64_t>(what);
        const uint8_t* bytes = take(length, what);
        return {reinterpret_cast<const char*>(bytes), size_t(length)};
    }

private:
    const uint8_t* data_;
    size_t size_, at_;
};

// A whole file, mapped read-only and shared: pages come when they are read and cost no memory of this process.
class MappedFile {
public:
    explicit MappedFile(const std::string& path);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;
    const uint8_t* data() const { return data_; }
    size_t size() const { return size_; }

private:
    const uint8_t* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace alexandra
