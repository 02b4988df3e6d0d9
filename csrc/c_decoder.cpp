#include "c_decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "c_model.h"
#include "gguf.h"
#include "hashes.h"
#include "plan_reader.h"
#include "safetensors.h"

namespace alexandra {

namespace {

constexpr int kChunk = 128;  // rows of a step, as in Python

std::vector<uint8_t> from_base64(std::string_view text) {
    const auto value = [](char c) {
        if (c >= 'A' && c <= 'Z') return c - 'A';
        if (c >= 'a' && c <= 'z') return c - 'a' + 26;
        if (c >= '0' && c <= '9') return c - '0' + 52;
        return c == '+' ? 62 : c == '/' ? 63 : -1;
    };
    size_t end = text.size();
    while (end && text.size() - end < 2 && text[end - 1] == '=') --end;
    std::vector<uint8_t> bytes;
    bytes.reserve(end / 4 * 3 + 2);
    uint32_t word = 0;
    for (size_t i = 0; i < end; ++i) {
        const int six = value(text[i]);
        if (six < 0) damaged(quoted(text.substr(i, 20)) + " is not base64");
        word = word << 6 | uint32_t(six);
        if (i % 4) bytes.push_back(uint8_t(word >> (6 - 2 * (i % 4))));
    }
    if (text.size() % 4) damaged("a base64 text of " + std::to_string(text.size()) + " letters");
    return bytes;
}

// Whole numbers in numbers of ops must survive a conversion to int.
double bounded(PlanReader& in) {
    const double value = in.real();
    if (!(std::fabs(value) <= 1e9)) damaged("a number of " + std::to_string(value) + " in a step");
    return value;
}

void read_weight(PlanReader& in, DecoderPlan& plan) {
    PlannedWeight w{};
    std::string type;
    in.fields("a weight", {"name", "type", "rows", "cols", "tensor", "at", "data"}, [&](std::string_view key) {
        if (key == "name") w.name = in.name("weight");
        if (key == "type") type = in.name("type");
        if (key == "rows") w.rows = in.whole("rows");
        if (key == "cols") w.cols = in.whole("cols");
        if (key == "tensor") w.tensor = in.name("tensor");
        if (key == "at") w.at = size_t(in.natural());
        if (key == "data") w.data = from_base64(in.text());
    });
    w.type = type_named(type);
    const int block = type_info(w.type).block;
    if (w.rows < 1 || w.cols < 1 || w.cols % block || w.cols > (1 << 26))
        damaged("weight " + quoted(w.name) + " is " + std::to_string(w.rows) + " x " + std::to_string(w.cols) + " of " + type);
    if (w.tensor.empty() && w.data.size() != size_t(w.rows) * row_bytes(w.type, size_t(w.cols)))
        damaged("weight " + quoted(w.name) + " has " + std::to_string(w.data.size()) + " bytes of data");
    plan.weights.push_back(std::move(w));
}

void read_step(PlanReader& in, DecoderPlan& plan) {
    DecodeNodeSpec step{};
    in.fields("a step", {"name", "op", "inputs", "width", "params", "numbers"}, [&](std::string_view key) {
        if (key == "name") step.name = in.name("step");
        if (key == "op") step.op = in.name("op");
        if (key == "inputs") in.list([&] { step.inputs.push_back(in.whole("an input")); });
        if (key == "width") step.width = in.whole("width");
        if (key == "params") in.list([&] { step.params.push_back(in.whole_or_none("a parameter")); });
        if (key == "numbers") in.list([&] { step.numbers.push_back(bounded(in)); });
    });
    plan.steps.push_back(std::move(step));
}

struct Bytes {
    std::string type;
    const uint8_t* data;
    uint64_t bytes;
};
typedef std::map<std::string, Bytes, std::less<>> Tensors;

Tensors tensors_of(const MappedFile& file, const std::string& path, bool check) {
    Tensors found;
    if (file.size() >= 4 && std::memcmp(file.data(), "GGUF", 4) == 0) {
        const GgufFile gguf(file.data(), file.size());
        for (const GgufTensor& t : gguf.tensors())
            found[std::string(t.name)] = {type_info(t.type).name, t.data, t.bytes};
        return found;
    }
    const SafetensorsFile safe(file.data(), file.size());
    for (const SafeTensor& t : safe.tensors()) {
        if (check) check_tensor(safe, t, path);
        found[std::string(t.name)] = {std::string(t.dtype), t.data, t.bytes};
    }
    return found;
}

}  // namespace

bool is_decoder_plan(std::string_view json) {
    bool found = false;
    if (json.size() > kMaxDescription) return false;
    try {
        JsonCursor in(json);
        in.object([&](std::string_view key) {
            if (key == "format" && in.peek() == '"')
                found = in.string() == "alexandra-decoder";
            else
                in.skip();
        });
    } catch (const Error&) {
    }
    return found;
}

DecoderPlan read_decoder_plan(std::string_view json) {
    DecoderPlan plan;
    int version = 0;
    PlanReader in(json);
    in.fields("the plan", {"format", "version", "name", "context", "ends", "pieces", "weights", "steps"}, [&](std::string_view key) {
        if (key == "format") in.name("format");
        if (key == "version") version = in.whole("version");
        if (key == "name") plan.name = in.name("decoder");
        if (key == "context") plan.context = in.whole("context");
        if (key == "ends") in.list([&] { plan.ends.push_back(in.whole("an end token")); });
        if (key == "pieces")
            in.list([&] {
                const std::vector<uint8_t> bytes = from_base64(in.text());
                plan.pieces.emplace_back(bytes.begin(), bytes.end());
            });
        if (key == "weights") in.list([&] { read_weight(in, plan); });
        if (key == "steps") in.list([&] { read_step(in, plan); });
    });
    in.end();
    if (version != 1) damaged("a decoder's plan says version 1; this one " + std::to_string(version));
    if (plan.context < 1 || plan.context > (1 << 24)) damaged("a context of " + std::to_string(plan.context));
    return plan;
}

CDecoder::CDecoder(DecoderPlan plan, const std::string& path, bool check, int threads, std::string isa)
    : plan_(std::move(plan)), file_(std::make_unique<MappedFile>(path)), threads_(threads), isa_(std::move(isa)) {
    const Tensors tensors = tensors_of(*file_, path, check);
    for (const PlannedWeight& w : plan_.weights) {
        WeightView view{w.name, w.type, w.rows, w.cols, w.data.data()};
        if (!w.tensor.empty()) {
            const auto found = tensors.find(w.tensor);
            if (found == tensors.end()) damaged(quoted(path) + " has no tensor " + quoted(w.tensor));
            const uint64_t wanted = uint64_t(w.rows) * row_bytes(w.type, size_t(w.cols)), there = found->second.bytes;
            if (found->second.type != type_info(w.type).name || w.at > there || wanted > there - w.at ||
                w.at % row_bytes(w.type, size_t(w.cols)))
                damaged("tensor " + quoted(w.tensor) + " has " + std::to_string(there) + " bytes of " + found->second.type +
                        ", the plan wants " + std::to_string(wanted) + " at " + std::to_string(w.at) + " of " + type_info(w.type).name);
            view.data = found->second.data + w.at;
        }
        views_.push_back(std::move(view));
    }
    this->plan(1);
}

void CDecoder::plan(int slots) {
    if (slots < 1 || slots > 4096) throw Error(Status::invalid_argument, "max_rows must be 1 .. 4096, got " + std::to_string(slots));
    const DecodeConfig config{.slots = slots, .context = plan_.context, .rows = std::max(slots, kChunk), .threads = threads_,
                              .packed = true, .isa = isa_};
    batch_.reset();
    batch_ = std::make_unique<Batch>(std::make_shared<Decoder>(plan_.steps, views_, config), plan_.pieces);
}

void CDecoder::describe(alexandra_kind kind, int index, alexandra_info* info) const {
    const int count = kind == ALEXANDRA_PARAMETER ? 0 : 1;
    if (index < 0 || index >= count)
        throw Error(Status::invalid_argument, "a decoder has one input and one output, and no parameters here; got " +
                                                  std::to_string(index) + " of " + std::to_string(count));
    *info = {};
    info->values = 1;
    info->name = kind == ALEXANDRA_INPUT ? "tokens" : "logits";
    const int vocab = batch_->decoder()->vocab();
    if (kind == ALEXANDRA_INPUT)
        info->is_int32 = 1, info->below = vocab;
    else
        info->num_axes = 1, info->axes[0] = info->values = vocab;
}

void CDecoder::forward(int64_t rows, const int32_t* tokens, float* logits) {
    if (rows > plan_.context)
        throw Error(Status::invalid_argument, std::to_string(rows) + " tokens do not fit the context of " + std::to_string(plan_.context));
    batch_->all_logits(tokens, int(rows), logits);
}

Request CDecoder::request_of(const alexandra_row& row, int index, const alexandra_sampling& sampling, int most) const {
    const std::string which = "row " + std::to_string(index) + ": ";
    if (!row.prompt || !row.tokens) throw Error(Status::invalid_argument, which + "prompt or tokens is NULL");
    if (row.prompt_tokens < 1) throw Error(Status::invalid_argument, which + "a prompt has no token");
    Request request;
    request.tokens.assign(row.prompt, row.prompt + row.prompt_tokens);
    request.sampling = {.temperature = sampling.temperature, .top_p = sampling.top_p == 0 ? 1.0f : sampling.top_p,
                        .penalty = sampling.repetition_penalty == 0 ? 1.0f : sampling.repetition_penalty,
                        .top_k = sampling.top_k, .stream = derive(sampling.seed, "sample", int64_t(index))};
    request.most = most;
    if (!sampling.ignore_end) request.ends = plan_.ends;
    for (int i = 0; i < sampling.num_stops; ++i) request.stops.emplace_back(sampling.stops[i]);
    return request;
}

void CDecoder::decode(alexandra_row* rows, int count, const alexandra_sampling& sampling) {
    if (count < 0) throw Error(Status::invalid_argument, "num_rows must be 0 or more, got " + std::to_string(count));
    if (sampling.num_stops < 0 || (sampling.num_stops && !sampling.stops))
        throw Error(Status::invalid_argument, "stops is NULL or num_stops below 0");
    const int most = sampling.max_tokens == 0 ? 64 : sampling.max_tokens;
    std::vector<size_t> numbers;
    const auto forget = [&] {
        for (size_t number : numbers) batch_->forget(number);
    };
    try {
        for (int i = 0; i < count; ++i) numbers.push_back(batch_->submit(request_of(rows[i], i, sampling, most)));
        while (batch_->run(1 << 20)) {
        }
        for (int i = 0; i < count; ++i) {
            const Request& done = batch_->request(numbers[size_t(i)]);
            rows[i].num_tokens = int(done.tokens.size()) - done.prompt;
            std::copy(done.tokens.begin() + done.prompt, done.tokens.end(), rows[i].tokens);
            if (rows[i].logprobs) std::copy(done.logprobs.begin(), done.logprobs.end(), rows[i].logprobs);
            rows[i].finish = alexandra_finish(int(done.finish));
        }
    } catch (...) {
        forget();
        throw;
    }
    forget();
}

std::string_view CDecoder::text(int token) const {
    if (token < 0 || token >= batch_->decoder()->vocab())
        throw Error(Status::invalid_argument, "token " + std::to_string(token) + " is not below the vocabulary of " +
                                                  std::to_string(batch_->decoder()->vocab()));
    if (size_t(token) >= plan_.pieces.size()) throw Error(Status::unsupported, "the plan holds no text of token " + std::to_string(token));
    return plan_.pieces[size_t(token)];
}

void CDecoder::memory(alexandra_sizes* sizes) const {
    const DecodeMemory m = batch_->decoder()->memory();
    *sizes = {};
    sizes->weights = m.mapped + m.packed;
    sizes->arena = m.arena;
    sizes->cache = m.cache;
    sizes->weights_mapped = 1;
}

}  // namespace alexandra
