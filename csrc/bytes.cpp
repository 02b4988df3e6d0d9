#include "bytes.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace alexandra {

std::string quoted(std::string_view text) {
    std::string out = "'";
    for (size_t i = 0; i < text.size() && i < 60; ++i) {
        const unsigned char c = static_cast<unsigned char>(text[i]);
        out += c >= 32 && c < 127 && c != '\'' ? char(c) : '?';
    }
    return out + (text.size() > 60 ? "...'" : "'");
}

MappedFile::MappedFile(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) damaged("cannot open " + quoted(path) + ": " + std::strerror(errno));
    struct stat info;
    const bool known = fstat(file, &info) == 0;
    if (!known || !S_ISREG(info.st_mode) || info.st_size <= 0) {
        close(file);
        damaged(quoted(path) + (known && S_ISREG(info.st_mode) ? " is empty" : " is not a regular file"));
    }
    size_ = size_t(info.st_size);
    void* mapped = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file, 0);
    const int reason = errno;
    close(file);
    if (mapped == MAP_FAILED) damaged("cannot map " + quoted(path) + ": " + std::strerror(reason));
    data_ = static_cast<const uint8_t*>(mapped);
}

MappedFile::~MappedFile() {
    if (data_) munmap(const_cast<uint8_t*>(data_), size_);
}

}  // namespace alexandra
