// alexandra._native.decode: files (GGUF, safetensors), quantisation, and decoders that generate.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "decode_batch.h"
#include "gguf.h"
#include "safetensors.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace alexandra {

namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Out = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Floats = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using FloatsOut = nb::ndarray<float, nb::c_contig, nb::device::cpu>;
using Tokens = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using View = nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>>;

// A mapped file and what was read in it.
template <typename File>
struct Mapped {
    explicit Mapped(const std::string& path) : bytes(path), file(bytes.data(), bytes.size()) {}
    MappedFile bytes;
    File file;
};
// What Python holds. Arrays share the mapping, not this object: they outlive it, and make no cycle with it.
template <typename File>
struct Handle {
    explicit Handle(const std::string& path) : file(std::make_shared<Mapped<File>>(path)) {}
    std::shared_ptr<Mapped<File>> file;
};
typedef Handle<GgufFile> Gguf;
typedef Handle<SafetensorsFile> Safetensors;

// Bytes of the file as an array that keeps it mapped.
template <typename File>
View view_of(const std::shared_ptr<Mapped<File>>& owner, const uint8_t* data, uint64_t size) {
    auto* kept = new std::shared_ptr<Mapped<File>>(owner);
    nb::capsule capsule(kept, [](void* p) noexcept { delete static_cast<std::shared_ptr<Mapped<File>>*>(p); });
    return View(data, {size_t(size)}, capsule);
}

nb::bytes bytes_of(std::string_view text) { return nb::bytes(text.data(), text.size()); }

template <typename T>
nb::object number_of(ByteReader& in) {
    const T value = in.number<T>("a value");
    if constexpr (std::is_floating_point_v<T>) return nb::float_(double(value));
    else return nb::int_(value);
}

nb::object item_of(ByteReader& in, GgufType type) {
    switch (type) {
        case GgufType::u8: return number_of<uint8_t>(in);
        case GgufType::i8: return number_of<int8_t>(in);
        case GgufType::u16: return number_of<uint16_t>(in);
        case GgufType::i16: return number_of<int16_t>(in);
        case GgufType::u32: return number_of<uint32_t>(in);
        case GgufType::i32: return number_of<int32_t>(in);
        case GgufType::f32: return number_of<float>(in);
        case GgufType::boolean: return nb::bool_(in.number<uint8_t>("a value") != 0);
        case GgufType::u64: return number_of<uint64_t>(in);
        case GgufType::i64: return number_of<int64_t>(in);
        case GgufType::f64: return number_of<double>(in);
        default: return bytes_of(in.text("a text"));
    }
}

// (key, type, value): texts are bytes, arrays lists.
nb::list gguf_values(const Gguf& g) {
    nb::list result;
    for (size_t i = 0; i < g.file->file.num_values(); ++i) {
        const GgufValue value = g.file->file.value(i);
        ByteReader in(g.file->file.data(), g.file->file.size(), value.at);
        nb::object item;
        if (value.type == GgufType::array) {
            nb::list items;
            for (uint64_t j = 0; j < value.count; ++j) items.append(item_of(in, value.element));
            item = items;
        } else {
            item = item_of(in, value.type);
        }
        result.append(nb::make_tuple(bytes_of(value.key), uint32_t(value.type), item));
    }
    return result;
}

// (name, type, dims slowest first, bytes)
nb::list gguf_tensors(const Gguf& g) {
    nb::list result;
    for (const GgufTensor& t : g.file->file.tensors()) {
        nb::list dims;
        for (uint32_t d = t.num_dims; d > 0; --d) dims.append(nb::int_(t.dim(d - 1)));
        result.append(nb::make_tuple(bytes_of(t.name), std::string(type_info(t.type).name), dims,
                                     view_of(g.file, t.data, t.bytes)));
    }
    return result;
}

nb::list safe_tensors(const Safetensors& s) {
    nb::list result;
    for (const SafeTensor& t : s.file->file.tensors())
        result.append(nb::make_tuple(bytes_of(t.name), std::string(t.dtype), shape_of(t),
                                     view_of(s.file, t.data, t.bytes)));
    return result;
}

void check_values(TensorType type, size_t values, size_t bytes) {
    if (values % size_t(type_info(type).block) || row_bytes(type, values) != bytes)
        throw Error(Status::invalid_argument, std::to_string(values) + " values of " + type_info(type).name + " and " +
                                                  std::to_string(bytes) + " bytes do not fit each other");
}

void encode_array(const std::string& name, const Floats& x, Out& out) {
    const TensorType type = type_named(name);
    check_values(type, x.size(), out.size());
    const nb::gil_scoped_release release;
    encode(type, x.data(), x.size(), out.data());
}

void decode_array(const std::string& name, const Bytes& data, FloatsOut& out) {
    const TensorType type = type_named(name);
    check_values(type, out.size(), data.size());
    const nb::gil_scoped_release release;
    decode(type, data.data(), out.size(), out.data());
}

typedef std::tuple<std::string, std::string, std::vector<int>, int, std::vector<int>, std::vector<double>> NodeTuple;
typedef std::tuple<std::string, std::string, int64_t, int64_t, Bytes> WeightTuple;

// A batch, and the arrays that its weights are views of.
struct Session {
    std::vector<Bytes> kept;
    std::unique_ptr<Batch> batch;
};

std::shared_ptr<Session> make_session(const std::vector<NodeTuple>& nodes, const std::vector<WeightTuple>& weights,
                                      const std::tuple<int, int, int, int>& sizes, bool packed, const std::string& isa,
                                      const std::vector<nb::bytes>& pieces) {
    std::vector<DecodeNodeSpec> specs;
    for (const auto& [name, op, inputs, width, params, numbers] : nodes)
        specs.push_back({name, op, inputs, width, params, numbers});
    auto session = std::make_shared<Session>();
    std::vector<WeightView> views;
    for (const auto& [name, type, rows, cols, data] : weights) {
        const TensorType kind = type_named(type);
        if (rows < 1 || cols < 1 || rows > (1 << 30) || cols > (1 << 26))
            throw Error(Status::invalid_argument, "weight '" + name + "' has a strange shape");
        check_values(kind, size_t(rows) * size_t(cols), data.size());
        views.push_back({name, kind, rows, cols, data.data()});
        session->kept.push_back(data);
    }
    std::vector<std::string> texts;
    for (const nb::bytes& piece : pieces) texts.emplace_back(piece.c_str(), piece.size());
    const nb::gil_scoped_release release;
    const DecodeConfig config{.slots = std::get<0>(sizes), .context = std::get<1>(sizes), .rows = std::get<2>(sizes),
                              .threads = std::get<3>(sizes), .packed = packed, .isa = isa};
    session->batch = std::make_unique<Batch>(std::make_shared<Decoder>(specs, std::move(views), config), std::move(texts));
    return session;
}

// numbers: temperature, top_p, penalty; counts: top_k, most, alternatives; stream: key, nonce, lane
size_t submit(Session& session, const Tokens& prompt, const std::tuple<float, float, float>& numbers,
              const std::tuple<int, int, int>& counts, const std::tuple<uint64_t, uint64_t, uint32_t>& stream,
              const std::vector<int32_t>& ends, bool keep_end, const std::vector<nb::bytes>& stops) {
    Request request;
    request.tokens.assign(prompt.data(), prompt.data() + prompt.size());
    request.sampling = {.temperature = std::get<0>(numbers), .top_p = std::get<1>(numbers),
                        .penalty = std::get<2>(numbers), .top_k = std::get<0>(counts),
                        .stream = {std::get<0>(stream), std::get<1>(stream), std::get<2>(stream)}};
    request.most = std::get<1>(counts);
    request.alternatives = std::get<2>(counts);
    request.ends = ends;
    request.keep_end = keep_end;
    for (const nb::bytes& stop : stops) request.stops.emplace_back(stop.c_str(), stop.size());
    return session.batch->submit(std::move(request));
}

// (new tokens, logprobs, other tokens, their logprobs, finish, where the text was cut)
nb::tuple result(const Session& session, size_t number) {
    const Request& r = session.batch->request(number);
    return nb::make_tuple(std::vector<int32_t>(r.tokens.begin() + r.prompt, r.tokens.end()), r.logprobs, r.others,
                          r.other_logprobs, int(r.finish), r.stop_at);
}

void bind_files(nb::module_& m) {
    nb::class_<Gguf>(m, "Gguf")
        .def(nb::init<const std::string&>(), "path"_a)
        .def_prop_ro("version", [](const Gguf& g) { return g.file->file.version(); })
        .def_prop_ro("size", [](const Gguf& g) { return g.file->bytes.size(); })
        .def("values", &gguf_values)
        .def("tensors", &gguf_tensors);
    nb::class_<Safetensors>(m, "Safetensors")
        .def(nb::init<const std::string&>(), "path"_a)
        .def("metadata", [](const Safetensors& s) { return bytes_of(s.file->file.metadata()); })
        .def("tensors", &safe_tensors);
    m.def("check_manifest", [](const nb::bytes& text) { return check_manifest({text.c_str(), text.size()}); });
    m.def("encode", &encode_array, "type"_a, "x"_a, "out"_a);
    m.def("decode", &decode_array, "type"_a, "data"_a, "out"_a);
}

void bind_session(nb::module_& m) {
    nb::class_<Session>(m, "Session")
        .def(nb::new_(&make_session), "nodes"_a, "weights"_a, "sizes"_a, "packed"_a, "isa"_a, "pieces"_a)
        .def_prop_ro("isa", [](const Session& s) { return std::string(s.batch->decoder()->kernels().isa); })
        .def_prop_ro("vocab", [](const Session& s) { return s.batch->decoder()->vocab(); })
        .def_prop_ro("steps", [](const Session& s) { return s.batch->steps(); })
        .def_prop_ro("memory",
                     [](const Session& s) {
                         const DecodeMemory m = s.batch->decoder()->memory();
                         return std::make_tuple(m.mapped, m.packed, m.cache, m.arena);
                     })
        .def("submit", &submit)
        .def("run", [](Session& s, int steps) {
            const nb::gil_scoped_release release;
            return s.batch->run(steps);
        })
        .def("result", &result)
        .def("forget", [](Session& s, size_t number) { s.batch->forget(number); })
        .def("refresh", [](Session& s) {
            const nb::gil_scoped_release release;
            s.batch->refresh();
        })
        .def("logits", [](Session& s, const Tokens& tokens, FloatsOut out) {
            if (out.size() != tokens.size() * size_t(s.batch->decoder()->vocab()))
                throw Error(Status::invalid_argument, "'out' has the wrong size");
            const nb::gil_scoped_release release;
            s.batch->all_logits(tokens.data(), int(tokens.size()), out.data());
        });
}

}  // namespace

void bind_decode(nb::module_& m) {
    nb::module_ d = m.def_submodule("decode", "Files of weights, quantisation, and decoders that generate.");
    d.def("available_isas", [] {
        int count;
        const DecodeKernels* const* tables = available_decode_kernels(&count);
        std::vector<std::string> names;
        for (int i = 0; i < count; ++i) names.emplace_back(tables[i]->isa);
        return names;
    });
    bind_files(d);
    bind_session(d);
}

}  // namespace alexandra
