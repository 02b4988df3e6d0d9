// Safetensors files and the manifests beside them: checked in full before anything is handed out. Like GgufFile
// these are views of bytes that the caller keeps.
#pragma once

#include <vector>

#include "json_cursor.h"

namespace alexandra {

struct SafeTensor {
    std::string_view name;   // as it stands in the header, escapes included
    std::string_view shape;  // the text of a JSON array of whole numbers
    std::string_view dtype;
    const uint8_t* data;
    uint64_t bytes;
};

constexpr uint64_t kMaxSafeHeader = 100000000;  // as the format's own library
constexpr int kMaxSafeDims = 8;

class SafetensorsFile {
public:
    SafetensorsFile(const uint8_t* data, size_t size);
    const std::vector<SafeTensor>& tensors() const { return tensors_; }
    std::string_view metadata() const { return metadata_; }  // a JSON object of strings, or empty

private:
    void read_tensor(JsonCursor& in, std::string_view name);
    void check_places() const;

    std::string_view header_;
    const uint8_t* begin_;
    uint64_t data_size_;
    std::string_view metadata_;
    std::vector<SafeTensor> tensors_;
};

// The sizes of a tensor's axes.
std::vector<uint64_t> shape_of(const SafeTensor& tensor);

// What stands beside weights: throws Error unless `text` is a manifest of schema 1 with all its fields, whose
// checksums are SHA-256 in hexadecimal. Returns how many tensors it names.
size_t check_manifest(std::string_view text);

}  // namespace alexandra
