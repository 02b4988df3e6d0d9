// include/alexandra.h on the engine: every call checks what comes from outside, and turns errors into statuses.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>

#include "alexandra.h"
#include "c_decoder.h"
#include "c_model.h"
#include "c_train.h"
#include "hashes.h"

// A network, or, where `decoder` is set, a decoder.
struct alexandra_model {
    alexandra::CModel inside;
    std::unique_ptr<alexandra::CDecoder> decoder;
};

namespace alexandra {

int64_t CModel::below(int node) const {
    int64_t smallest = 0;
    for (const NodeSpec& reader : description.nodes)
        if (reader.op == "embedding" && reader.inputs[0] == node) {
            const int64_t rows = description.params[size_t(reader.params[0])].shape[0];
            smallest = smallest ? std::min(smallest, rows) : rows;
        }
    return smallest;
}

void CModel::plan(int wanted) {
    network = std::make_unique<Network>(engine, description.nodes, wanted);
    max_rows = wanted;
    places.resize(outputs.size());
    rows.resize(inputs.size());
}

void CModel::own() {
    if (!engine->weights.mapped()) return;
    engine->weights.own();
    plan(max_rows);
}

namespace {

thread_local std::string latest;

template <typename F>
alexandra_status guarded(F call) noexcept {
    try {
        call();
        return ALEXANDRA_OK;
    } catch (const Error& error) {
        latest = error.what();
        switch (error.status) {
            case Status::invalid_argument: return ALEXANDRA_INVALID_ARGUMENT;
            case Status::unsupported: return ALEXANDRA_UNSUPPORTED;
            case Status::out_of_memory: return ALEXANDRA_OUT_OF_MEMORY;
            case Status::not_finite: return ALEXANDRA_NOT_FINITE;
            case Status::file: return ALEXANDRA_FILE;
            case Status::ok: break;
        }
        return ALEXANDRA_INTERNAL;
    } catch (const std::bad_alloc&) {
        latest = "no memory";
        return ALEXANDRA_OUT_OF_MEMORY;
    } catch (const std::exception& error) {
        latest = error.what();
        return ALEXANDRA_INTERNAL;
    } catch (...) {
        latest = "an unknown error";
        return ALEXANDRA_INTERNAL;
    }
}

void need(const void* pointer, const char* what) {
    if (!pointer) throw Error(Status::invalid_argument, std::string(what) + " is NULL");
}

// What stands behind a model that must be a network, or a decoder.
template <typename M>
auto& network_of(M* model) {
    need(model, "model");
    if (model->decoder) throw Error(Status::invalid_argument, "this model is a decoder: alexandra_decode or alexandra_forward");
    return model->inside;
}
template <typename M>
auto& decoder_of(M* model) {
    need(model, "model");
    if (!model->decoder) throw Error(Status::invalid_argument, "this model is a network, not a decoder: alexandra_forward");
    return *model->decoder;
}

void need_arrays(const void* const* arrays, size_t count, const char* what) {
    need(arrays, what);
    for (size_t i = 0; i < count; ++i)
        if (!arrays[i]) throw Error(Status::invalid_argument, std::string(what) + "[" + std::to_string(i) + "] is NULL");
}

void need_rows(int64_t rows, int64_t least) {
    if (rows < least || rows > (int64_t(1) << 31) - 1)
        throw Error(Status::invalid_argument, "rows must be " + std::to_string(least) + " .. 2^31 - 1, got " + std::to_string(rows));
}

void need_below(const int32_t* values, int64_t count, int64_t below, const std::string& what) {
    for (int64_t i = 0; i < count; ++i)
        if (values[i] < 0 || values[i] >= below)
            throw Error(Status::invalid_argument, what + " holds " + std::to_string(values[i]) + ", allowed are 0 .. " + std::to_string(below - 1));
}

// Checks the inputs and fills `rows`.
void take_inputs(const CModel& m, int64_t count, const void* const* inputs, std::vector<Rows>& rows) {
    need_arrays(inputs, m.inputs.size(), "inputs");
    for (size_t i = 0; i < m.inputs.size(); ++i) {
        const Node& node = m.node(m.inputs[i]);
        rows[i] = {inputs[i], count, node.features()};
        if (const int64_t below = node.integer ? m.below(m.inputs[i]) : 0)
            need_below(static_cast<const int32_t*>(inputs[i]), count * node.features(), below, "input '" + node.name + "'");
    }
}

const ParamSpec& parameter(const CModel& m, int index) {
    if (index < 0 || size_t(index) >= m.description.params.size())
        throw Error(Status::invalid_argument, "parameter " + std::to_string(index) + " of " + std::to_string(m.description.params.size()));
    return m.description.params[size_t(index)];
}

void fill_info(const std::string& name, const std::vector<int>& shape, alexandra_info* info) {
    *info = {};
    info->name = name.c_str();
    info->num_axes = int(shape.size());
    info->values = 1;
    for (size_t i = 0; i < shape.size(); ++i) info->axes[i] = shape[i], info->values *= shape[i];
}

void describe(const CModel& m, alexandra_kind kind, int index, alexandra_info* info) {
    if (kind == ALEXANDRA_PARAMETER) {
        const ParamSpec& spec = parameter(m, index);
        return fill_info(spec.name, spec.shape, info);
    }
    if (kind != ALEXANDRA_INPUT && kind != ALEXANDRA_OUTPUT)
        throw Error(Status::invalid_argument, "kind " + std::to_string(int(kind)) + " is not known");
    const std::vector<int>& nodes = kind == ALEXANDRA_INPUT ? m.inputs : m.outputs;
    if (index < 0 || size_t(index) >= nodes.size())
        throw Error(Status::invalid_argument, std::string(kind == ALEXANDRA_INPUT ? "input " : "output ") +
                                                  std::to_string(index) + " of " + std::to_string(nodes.size()));
    const NodeSpec& spec = m.description.nodes[size_t(nodes[size_t(index)])];
    fill_info(spec.name, spec.shape, info);
    if (spec.op != "input" || spec.numbers.empty() || spec.numbers[0] != 1) return;
    info->is_int32 = 1;
    info->below = m.below(nodes[size_t(index)]);
}

alexandra_model* load(const char* plan, size_t bytes, const char* weights, const alexandra_options& options) {
    auto model = std::make_unique<alexandra_model>();
    if (is_decoder_plan({plan, bytes})) {
        need(weights, "weights");
        model->decoder = std::make_unique<CDecoder>(read_decoder_plan({plan, bytes}), weights, !options.trust_file,
                                                    options.threads ? options.threads : 1, options.isa ? options.isa : "");
        return model.release();
    }
    CModel& m = model->inside;
    m.description = read_description({plan, bytes});
    for (size_t i = 0; i < m.description.nodes.size(); ++i) {
        if (m.description.nodes[i].op == "input") m.inputs.push_back(int(i));
        if (m.description.nodes[i].op == "output") m.outputs.push_back(int(i));
    }
    Weights first = weights ? weights_from_file(m.description, weights, !options.trust_file)
                            : first_weights(m.description, options.seed);
    m.engine = std::make_shared<Engine>(std::move(first), options.threads ? options.threads : 1, options.isa ? options.isa : "");
    m.plan(1);
    return model.release();
}

}  // namespace
}  // namespace alexandra

using namespace alexandra;

extern "C" {

const char* alexandra_version(void) { return "0.1.0"; }
const char* alexandra_error(void) { return latest.c_str(); }

alexandra_status alexandra_load(const char* plan, size_t plan_bytes, const char* weights, const alexandra_options* options,
                                alexandra_model** model) {
    return guarded([&] {
        need(plan, "plan");
        need(model, "model");
        *model = nullptr;
        *model = load(plan, plan_bytes, weights, options ? *options : alexandra_options{});
    });
}

void alexandra_free(alexandra_model* model) { delete model; }

alexandra_status alexandra_plan(alexandra_model* model, int max_rows) {
    return guarded([&] {
        need(model, "model");
        if (model->decoder) return model->decoder->plan(max_rows);
        if (max_rows < 1 || max_rows > 1 << 24)
            throw Error(Status::invalid_argument, "max_rows must be 1 .. 2^24, got " + std::to_string(max_rows));
        model->inside.plan(max_rows);
    });
}

alexandra_status alexandra_memory(const alexandra_model* model, alexandra_sizes* sizes) {
    return guarded([&] {
        need(model, "model");
        need(sizes, "sizes");
        if (model->decoder) return model->decoder->memory(sizes);
        const CModel& m = model->inside;
        *sizes = {};
        sizes->weights = m.engine->weights.floats() * sizeof(float);
        sizes->arena = m.network->arena_floats() * sizeof(float);
        sizes->weights_mapped = m.engine->weights.mapped();
#if !ALEXANDRA_INFERENCE_ONLY
        if (!m.trainer) return;
        sizes->arena += m.trainer->arena_floats() * sizeof(float);
        sizes->gradients = m.trainer->plan().gradient_floats * sizeof(float);
        sizes->optimizer = m.trainer->moments().size() * m.trainer->plan().learned_floats * sizeof(float);
#endif
    });
}

alexandra_status alexandra_describe(const alexandra_model* model, alexandra_kind kind, int index, alexandra_info* info) {
    return guarded([&] {
        need(model, "model");
        need(info, "info");
        if (model->decoder) return model->decoder->describe(kind, index, info);
        describe(model->inside, kind, index, info);
    });
}

alexandra_status alexandra_forward(alexandra_model* model, int64_t rows, const void* const* inputs, float* const* outputs) {
    return guarded([&] {
        need(model, "model");
        need_rows(rows, 0);
        if (model->decoder) {
            need_arrays(inputs, 1, "inputs");
            need_arrays(reinterpret_cast<const void* const*>(outputs), 1, "outputs");
            return model->decoder->forward(rows, static_cast<const int32_t*>(inputs[0]), outputs[0]);
        }
        CModel& m = model->inside;
        need_arrays(reinterpret_cast<const void* const*>(outputs), m.outputs.size(), "outputs");
        take_inputs(m, rows, inputs, m.rows);
        std::copy_n(outputs, m.places.size(), m.places.begin());
        if (rows) m.network->forward(m.rows, m.places);
    });
}

alexandra_status alexandra_read(const alexandra_model* model, int index, float* values) {
    return guarded([&] {
        const CModel& m = network_of(model);
        need(values, "values");
        parameter(m, index);
        const Weights& weights = m.engine->weights;
        weights.unpack(index, weights.values(), values);
    });
}

alexandra_status alexandra_write(alexandra_model* model, int index, const float* values) {
    return guarded([&] {
        CModel& m = network_of(model);
        need(values, "values");
        parameter(m, index);
        m.own();
        Weights& weights = m.engine->weights;
        weights.pack(index, values, weights.data());
    });
}

alexandra_status alexandra_save(const alexandra_model* model, const char* path) {
    return guarded([&] {
        const CModel& m = network_of(model);
        need(path, "path");
        save_weights(m.description, m.engine->weights, path);
    });
}

alexandra_status alexandra_decode(alexandra_model* model, alexandra_row* rows, int num_rows, const alexandra_sampling* sampling) {
    return guarded([&] {
        CDecoder& decoder = decoder_of(model);
        need(rows, "rows");
        decoder.decode(rows, num_rows, sampling ? *sampling : alexandra_sampling{});
    });
}

alexandra_status alexandra_text(const alexandra_model* model, int token, const char** bytes, size_t* size) {
    return guarded([&] {
        const CDecoder& decoder = decoder_of(model);
        need(bytes, "bytes");
        need(size, "size");
        const std::string_view text = decoder.text(token);
        *bytes = text.data(), *size = text.size();
    });
}

#if ALEXANDRA_INFERENCE_ONLY
namespace {
alexandra_status no_training() {
    return guarded([] { throw Error(Status::unsupported, "this library was built for inference alone"); });
}
}  // namespace
alexandra_status alexandra_defaults(alexandra_program*) { return no_training(); }
alexandra_status alexandra_train(alexandra_model*, const alexandra_program*, int64_t, const void* const*, const void* const*) {
    return no_training();
}
alexandra_status alexandra_step(alexandra_model*, int64_t, double*) { return no_training(); }
#else
alexandra_status alexandra_defaults(alexandra_program* program) {
    return guarded([&] {
        need(program, "program");
        const Program p;
        *program = {};
        program->optimizer = ALEXANDRA_ADAMW;
        program->lr = p.lr, program->beta1 = p.beta1, program->beta2 = p.beta2, program->eps = p.eps;
        program->weight_decay = 0.01;
        program->every = 1, program->decay_factor = 1;
        program->batch_size = p.batch_size, program->accumulate = 1, program->shuffle = 1;
    });
}

alexandra_status alexandra_train(alexandra_model* model, const alexandra_program* program, int64_t rows,
                                 const void* const* inputs, const void* const* targets) {
    return guarded([&] {
        CModel& m = network_of(model);
        need(program, "program");
        need_rows(rows, 1);
        need_arrays(targets, m.outputs.size(), "targets");
        std::vector<Rows> given(m.inputs.size());
        take_inputs(m, rows, inputs, given);
        train(m, *program, std::move(given), targets);
    });
}

alexandra_status alexandra_step(alexandra_model* model, int64_t steps, double* losses) {
    return guarded([&] {
        CModel& m = network_of(model);
        if (!m.trainer) throw Error(Status::invalid_argument, "alexandra_train comes first");
        if (steps < 0) throw Error(Status::invalid_argument, "steps must be 0 or more, got " + std::to_string(steps));
        m.trainer->run(steps, losses);
    });
}
#endif

}  // extern "C"
