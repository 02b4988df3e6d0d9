// Weights in files and from seeds, as alexandra/ir/weights.py and alexandra/storage.py have them.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>

#include "c_model.h"
#include "hashes.h"
#include "safetensors.h"

namespace alexandra {

namespace {

std::string dimensions(const std::vector<int>& shape, const char* separator) {
    std::string text;
    for (int axis : shape) text += (text.empty() ? "" : separator) + std::to_string(axis);
    return "[" + text + "]";
}

// storage.array_hash of a float32 array.
std::string array_hash(const std::vector<int>& shape, const void* data, size_t bytes) {
    Sha256 hash;
    const std::string head = "<f4" + dimensions(shape, ", ");
    hash.add(head.data(), head.size());
    hash.add(data, bytes);
    return hash.hex();
}

// The member `key` of a JSON object of strings, unescaped as far as checksums need it.
std::string member(std::string_view object, std::string_view key) {
    std::string found;
    JsonCursor in(object);
    in.object([&](std::string_view name) {
        const std::string_view raw = in.string();
        if (name != key) return;
        found.clear();
        for (size_t i = 0; i < raw.size(); ++i) {
            if (raw[i] == '\\' && i + 1 < raw.size()) ++i;
            found += raw[i];
        }
    });
    return found;
}

// The checksums are there, as many as there are tensors, and so is that of the other metadata (where there is none).
void check_sums(std::string_view metadata, const std::string& sums, size_t params, const std::string& path) {
    if (sums.empty()) damaged(quoted(path) + " has no checksums");
    size_t count = 0, notes = 0;
    JsonCursor in(sums), other(metadata);
    in.object([&](std::string_view) { in.string(), ++count; });
    in.end();
    other.object([&](std::string_view) { other.string(), ++notes; });
    if (count != params + 1) damaged(quoted(path) + ": tensors and checksums do not match");
    if (notes == 1 && member(sums, "__metadata__") != sha256("{}")) damaged(quoted(path) + ": the metadata is damaged");
}

std::string manifest_path(const std::string& path) {
    const size_t slash = path.find_last_of('/') + 1;
    const std::string name = path.substr(slash), ending = ".safetensors";
    if (name.size() <= ending.size() || name.substr(name.size() - ending.size()) != ending)
        damaged("weights are a file that ends in .safetensors, got " + quoted(path));
    if (name == "weights.safetensors") return path.substr(0, slash) + "manifest.json";
    return path.substr(0, path.size() - ending.size()) + ".manifest.json";
}

size_t bytes_of(const ParamSpec& spec) {
    size_t bytes = sizeof(float);
    for (int axis : spec.shape) bytes *= size_t(axis);
    return bytes;
}

void publish(const std::string& path, const std::string& data) {
    const std::string part = path + ".part";
    auto fail = [&](const char* what) {
        const std::string reason = std::strerror(errno);
        unlink(part.c_str());
        throw Error(Status::file, std::string("cannot ") + what + " " + quoted(path) + ": " + reason);
    };
    const int file = open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) fail("write");
    for (size_t done = 0; done < data.size();) {
        const ssize_t wrote = write(file, data.data() + done, data.size() - done);
        if (wrote < 0) close(file), fail("write");
        done += size_t(wrote);
    }
    if (fsync(file) != 0) close(file), fail("sync");
    close(file);
    if (rename(part.c_str(), path.c_str()) != 0) fail("replace");
}

double first_value(const Init& init, const ParamSpec& spec, uint32_t word) {
    if (init.kind == "glorot") return (2.0 * (double(word >> 8) * 0x1p-24) - 1.0) * std::sqrt(6.0 / double(init.fan_in + init.fan_out));
    if (init.kind == "ones") return 1.0;
    if (init.kind == "zeros" || init.kind.empty()) return 0.0;
    throw Error(Status::unsupported, "parameter " + quoted(spec.name) + " begins as " + quoted(init.kind) +
                                         "; known here: glorot, ones, zeros. Give a file of weights");
}

}  // namespace

void check_tensor(const SafetensorsFile& file, const SafeTensor& tensor, const std::string& path) {
    if (file.metadata().empty()) return;
    const std::string wanted = member(member(file.metadata(), "sha256"), tensor.name);
    if (wanted.empty() || tensor.dtype != "F32") return;
    std::vector<int> shape;
    for (uint64_t axis : shape_of(tensor)) shape.push_back(int(std::min<uint64_t>(axis, 1 << 30)));
    if (array_hash(shape, tensor.data, tensor.bytes) != wanted)
        damaged(quoted(path) + ": tensor " + quoted(tensor.name) + " is damaged (its checksum does not match)");
}

Weights weights_from_file(const Description& description, const std::string& path, bool check) {
    auto file = std::make_shared<MappedFile>(path);
    const SafetensorsFile tensors(file->data(), file->size());
    const std::string sums = member(tensors.metadata(), "sha256");
    if (check) check_sums(tensors.metadata(), sums, description.params.size(), path);
    if (tensors.tensors().size() != description.params.size())
        damaged(quoted(path) + " holds " + std::to_string(tensors.tensors().size()) + " tensors, the plan has " +
                std::to_string(description.params.size()) + " parameters");
    std::vector<size_t> offsets;
    bool aligned = true;
    for (const ParamSpec& spec : description.params) {
        const auto found = std::find_if(tensors.tensors().begin(), tensors.tensors().end(),
                                        [&](const SafeTensor& t) { return t.name == spec.name; });
        if (found == tensors.tensors().end()) damaged(quoted(path) + " has no tensor " + quoted(spec.name));
        std::vector<int> shape;
        for (uint64_t axis : shape_of(*found)) shape.push_back(int(std::min<uint64_t>(axis, 1 << 30)));
        if (found->dtype != "F32" || shape != spec.shape)
            damaged("tensor " + quoted(spec.name) + " is " + std::string(found->dtype) + dimensions(shape, ", ") +
                    ", the plan needs F32" + dimensions(spec.shape, ", "));
        if (check && array_hash(shape, found->data, found->bytes) != member(sums, spec.name))
            damaged(quoted(path) + ": tensor " + quoted(spec.name) + " is damaged (its checksum does not match)");
        const size_t offset = size_t(found->data - file->data());
        aligned = aligned && offset % sizeof(float) == 0;
        offsets.push_back(offset / sizeof(float));
    }
    const float* base = reinterpret_cast<const float*>(file->data());
    if (aligned) return Weights(description.params, file, base, offsets);
    throw Error(Status::unsupported, quoted(path) + " does not keep its tensors on whole floats");
}

Weights first_weights(const Description& description, int64_t seed) {
    Weights weights(description.params);
    std::vector<float> values;
    for (size_t i = 0; i < description.params.size(); ++i) {
        const ParamSpec& spec = description.params[i];
        const Stream stream = derive(seed, "init", spec.name);
        values.resize(bytes_of(spec) / sizeof(float));
        uint32_t words[4] = {};
        for (size_t k = 0; k < values.size(); ++k) {
            if (k % 4 == 0) philox_block(stream.key, stream.nonce, 0, uint32_t(k / 4), words);
            values[k] = float(first_value(description.inits[i], spec, words[k % 4]));
        }
        weights.pack(int(i), values.data(), weights.data());
    }
    return weights;
}

void save_weights(const Description& description, const Weights& weights, const std::string& path) {
    const std::string beside = manifest_path(path);
    std::vector<size_t> order(description.params.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return description.params[a].name < description.params[b].name; });
    std::string body, header = "{\"__metadata__\":{\"sha256\":\"{", sums, listed;
    for (size_t i : order) {
        const ParamSpec& spec = description.params[i];
        std::string values(bytes_of(spec), '\0');
        weights.unpack(int(i), weights.values(), reinterpret_cast<float*>(values.data()));
        const std::string hash = array_hash(spec.shape, values.data(), values.size());
        sums += (sums.empty() ? "" : ",\n") + std::string("  \"") + spec.name + "\": \"" + hash + "\"";
        header += "\\\"" + spec.name + "\\\": \\\"" + hash + "\\\", ";
        listed += ",\"" + spec.name + "\":{\"dtype\":\"F32\",\"shape\":" + dimensions(spec.shape, ",") + ",\"data_offsets\":[" +
                  std::to_string(body.size()) + "," + std::to_string(body.size() + values.size()) + "]}";
        body += values;
    }
    header += "\\\"__metadata__\\\": \\\"" + sha256("{}") + "\\\"}\"}" + listed + "}";
    header.append((8 - header.size() % 8) % 8, ' ');
    std::string data(8, '\0');
    for (int i = 0; i < 8; ++i) data[size_t(i)] = char(uint8_t(uint64_t(header.size()) >> (8 * i)));
    data += header + body;
    const std::string manifest = "{\n \"checksums\": {\n" + sums + "\n },\n \"data_hash\": \"\",\n \"dtype\": \"float32\",\n \"lineage\": {},\n" +
                                 " \"network\": \"" + description.name + "\",\n \"schema\": 1,\n \"seed\": null,\n \"sha256\": \"" + sha256(data) +
                                 "\",\n \"spec_hash\": \"" + description.spec_hash + "\"\n}\n";
    publish(path, data);
    publish(beside, manifest);
}

}  // namespace alexandra
