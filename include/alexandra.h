/* The native engine of Alexandra for C and whatever calls C: load a network, plan its memory, run it, train it, save it.
 *
 * A network is described by a plan: JSON that alexandra.backends.native_plan.describe writes in Python (or that you
 * write by hand, docs/engine.md). Its weights are a safetensors file with the manifest beside it, as WeightSet.save
 * writes them; alexandra_save writes the same. Inference reads the file's pages without a copy.
 *
 * A decoder (a language model that generates) is a plan that alexandra.backends.decode_describe.save_decoder writes,
 * and the GGUF or safetensors file that it names the tensors of. alexandra_plan then says how many rows generate at once.
 *
 * Every function but the first two returns a status; alexandra_error() then says what was given and what is allowed.
 * Nothing is thrown. A model may be used by one thread at a time; different models by different threads. After
 * alexandra_plan and alexandra_train have returned, forward and step allocate no memory.
 */
#ifndef ALEXANDRA_H
#define ALEXANDRA_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define ALEXANDRA_API __declspec(dllexport)
#else
#define ALEXANDRA_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum alexandra_status {
    ALEXANDRA_OK = 0,
    ALEXANDRA_INVALID_ARGUMENT = 1, /* also a damaged or unfitting file */
    ALEXANDRA_UNSUPPORTED = 2,      /* not in this build or on this processor */
    ALEXANDRA_OUT_OF_MEMORY = 3,
    ALEXANDRA_NOT_FINITE = 4, /* a loss became infinite or NaN; that step changed nothing */
    ALEXANDRA_FILE = 5,       /* a file could not be written */
    ALEXANDRA_INTERNAL = 6    /* a bug of ours */
} alexandra_status;

typedef struct alexandra_model alexandra_model;

/* Zero means the default of a field: start from `alexandra_options o = {0}`. */
typedef struct alexandra_options {
    int threads;     /* 1: the caller's alone */
    const char* isa; /* "avx512", "avx2", "portable"; NULL: the best of this processor */
    int64_t seed;    /* of the first weights, where no file is given */
    int trust_file;  /* nonzero: do not compare the file with its checksums */
} alexandra_options;

typedef enum alexandra_kind { ALEXANDRA_INPUT = 0, ALEXANDRA_OUTPUT = 1, ALEXANDRA_PARAMETER = 2 } alexandra_kind;

typedef struct alexandra_info {
    const char* name; /* lives as long as the model */
    int num_axes;
    int64_t axes[4];  /* without the axis of rows */
    int64_t values;   /* their product */
    int is_int32;     /* else float */
    int64_t below;    /* of an int32 input: its values must be 0 .. below - 1; 0 where any will do */
} alexandra_info;

typedef struct alexandra_sizes {
    size_t weights, arena, gradients, optimizer; /* bytes */
    size_t cache;                                /* bytes of keys and values, of a decoder */
    int weights_mapped;                          /* the weights are pages of a file */
} alexandra_sizes;

typedef enum alexandra_objective { ALEXANDRA_CROSS_ENTROPY = 0, ALEXANDRA_MSE = 1 } alexandra_objective;
typedef enum alexandra_optimizer { ALEXANDRA_SGD = 0, ALEXANDRA_ADAM = 1, ALEXANDRA_ADAMW = 2 } alexandra_optimizer;
typedef enum alexandra_decay {
    ALEXANDRA_CONSTANT = 0, ALEXANDRA_COSINE = 1, ALEXANDRA_STEP = 2, ALEXANDRA_LINEAR = 3,
    ALEXANDRA_WSD = 4 /* warm-up, full rate, linear over the last `every` steps */
} alexandra_decay;

/* Everything that decides a run; alexandra_defaults fills it in. The same program, weights and rows give the same
 * bytes here, from Python, and for any number of threads. */
typedef struct alexandra_program {
    alexandra_objective objective;
    double label_smoothing;
    alexandra_optimizer optimizer;
    double lr, beta1, beta2, eps, weight_decay, momentum, l1;
    alexandra_decay decay;
    int64_t warmup_steps, total_steps, every;
    double final_factor, decay_factor;
    int batch_size, accumulate;
    double clip_norm; /* 0: none */
    int shuffle;
    int64_t seed;
} alexandra_program;

ALEXANDRA_API const char* alexandra_version(void);
ALEXANDRA_API const char* alexandra_error(void); /* of the latest failure in this thread */

/* `weights` may be NULL: then they begin as derive(seed, "init", name) says, as in Python. */
ALEXANDRA_API alexandra_status alexandra_load(const char* plan, size_t plan_bytes, const char* weights,
                                              const alexandra_options* options, alexandra_model** model);
ALEXANDRA_API void alexandra_free(alexandra_model* model);

/* Takes the memory that forward needs for up to `max_rows` rows at once; more rows run in chunks. */
ALEXANDRA_API alexandra_status alexandra_plan(alexandra_model* model, int max_rows);
ALEXANDRA_API alexandra_status alexandra_memory(const alexandra_model* model, alexandra_sizes* sizes);
/* Input, output or parameter number `index`; ALEXANDRA_INVALID_ARGUMENT beyond the last one. */
ALEXANDRA_API alexandra_status alexandra_describe(const alexandra_model* model, alexandra_kind kind, int index,
                                                  alexandra_info* info);

/* Row-major arrays [rows][values] in the order of alexandra_describe. */
ALEXANDRA_API alexandra_status alexandra_forward(alexandra_model* model, int64_t rows, const void* const* inputs,
                                                 float* const* outputs);

/* How a decoder chooses tokens; zero means the default of a field. */
typedef struct alexandra_sampling {
    int max_tokens;           /* 0: 64 */
    float temperature;        /* 0: greedy */
    int top_k;                /* 0: all */
    float top_p;              /* 0 or 1: all */
    float repetition_penalty; /* 0 or 1: none */
    int ignore_end;           /* nonzero: end tokens do not end a row */
    const char* const* stops; /* texts that end a row */
    int num_stops;
    int64_t seed; /* row i draws from derive(seed, "sample", i), as in Python */
} alexandra_sampling;

typedef enum alexandra_finish { ALEXANDRA_LENGTH = 1, ALEXANDRA_END = 2, ALEXANDRA_STOP = 3 } alexandra_finish;

/* A prompt and what it became; `tokens` and `logprobs` (may be NULL) have room for max_tokens values. */
typedef struct alexandra_row {
    const int32_t* prompt;
    int prompt_tokens;
    int32_t* tokens;
    float* logprobs;
    int num_tokens;
    alexandra_finish finish;
} alexandra_row;

/* Generates for every row of a decoder; what a row becomes does not depend on the others. alexandra_forward of a
 * decoder gives the logits after each of `rows` tokens of one sequence. */
ALEXANDRA_API alexandra_status alexandra_decode(alexandra_model* model, alexandra_row* rows, int num_rows,
                                                const alexandra_sampling* sampling);
/* What a token adds to a text: bytes, not ended by zero, which live as long as the model. */
ALEXANDRA_API alexandra_status alexandra_text(const alexandra_model* model, int token, const char** bytes, size_t* size);

/* One parameter to or from `values`; writing takes a copy of mapped weights first. */
ALEXANDRA_API alexandra_status alexandra_read(const alexandra_model* model, int parameter, float* values);
ALEXANDRA_API alexandra_status alexandra_write(alexandra_model* model, int parameter, const float* values);

/* Begins a run over rows that the engine reads in place: keep them until the run is over. A target per output:
 * for cross-entropy int32 class numbers [rows][values / width] before a softmax, float 0 or 1 before a sigmoid; for
 * MSE float [rows][values]. */
ALEXANDRA_API alexandra_status alexandra_defaults(alexandra_program* program);
ALEXANDRA_API alexandra_status alexandra_train(alexandra_model* model, const alexandra_program* program, int64_t rows,
                                               const void* const* inputs, const void* const* targets);
/* Goes on with that run; the loss of each step, taken before its update, goes to `losses` (may be NULL). */
ALEXANDRA_API alexandra_status alexandra_step(alexandra_model* model, int64_t steps, double* losses);

/* Publishes weights and manifest: whole under their names, or not at all. */
ALEXANDRA_API alexandra_status alexandra_save(const alexandra_model* model, const char* path);

#ifdef __cplusplus
}
#endif

#endif
