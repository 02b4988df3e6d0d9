/* Answers one row with a network that Python saved: infer PLAN.json WEIGHTS.safetensors NUMBER... */
#include <alexandra.h>

#include <stdio.h>
#include <stdlib.h>

static int failed(const char* what) {
    fprintf(stderr, "%s: %s\n", what, alexandra_error());
    return 1;
}

static char* whole_file(const char* path, size_t* size) {
    FILE* file = fopen(path, "rb");
    if (!file) return NULL;
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char* text = malloc(*size + 1);
    if (text && fread(text, 1, *size, file) != *size) free(text), text = NULL;
    fclose(file);
    return text;
}

int main(int argc, char** argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: infer PLAN.json WEIGHTS.safetensors NUMBER...\n");
        return 2;
    }
    size_t size = 0;
    char* plan = whole_file(argv[1], &size);
    if (!plan) {
        fprintf(stderr, "cannot read %s\n", argv[1]);
        return 1;
    }
    alexandra_model* model;
    if (alexandra_load(plan, size, argv[2], NULL, &model)) return failed("load");
    free(plan);
    alexandra_info in, out;
    if (alexandra_describe(model, ALEXANDRA_INPUT, 0, &in) || alexandra_describe(model, ALEXANDRA_OUTPUT, 0, &out))
        return failed("describe");
    if (in.is_int32 || in.values != argc - 3) {
        fprintf(stderr, "input %s takes %lld numbers, got %d\n", in.name, (long long)in.values, argc - 3);
        return 1;
    }
    float* row = malloc(sizeof(float) * (size_t)in.values);
    float* answer = malloc(sizeof(float) * (size_t)out.values);
    for (int i = 3; i < argc; ++i) row[i - 3] = strtof(argv[i], NULL);
    const void* inputs[] = {row};
    float* outputs[] = {answer};
    if (alexandra_forward(model, 1, inputs, outputs)) return failed("forward");
    for (int64_t i = 0; i < out.values; ++i) printf("%.9g%c", (double)answer[i], i + 1 < out.values ? ' ' : '\n');
    free(row);
    free(answer);
    alexandra_free(model);
    return 0;
}
