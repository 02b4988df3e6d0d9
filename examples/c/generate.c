/* Continues a prompt of tokens with a decoder: generate PLAN.json WEIGHTS MAX_TOKENS TOKEN... Prints tokens, then text. */
#include <alexandra.h>

#include <stdio.h>
#include <stdlib.h>

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

static int print(const alexandra_model* model, const alexandra_row* row) {
    for (int i = 0; i < row->num_tokens; ++i) printf("%d%c", (int)row->tokens[i], i + 1 < row->num_tokens ? ' ' : '\n');
    for (int i = 0; i < row->num_tokens; ++i) {
        const char* bytes;
        size_t size;
        const alexandra_status status = alexandra_text(model, row->tokens[i], &bytes, &size);
        if (status == ALEXANDRA_UNSUPPORTED) return 0; /* the plan holds no texts */
        if (status) return 1;
        fwrite(bytes, 1, size, stdout);
    }
    putchar('\n');
    return 0;
}

int main(int argc, char** argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: generate PLAN.json WEIGHTS MAX_TOKENS TOKEN...\n");
        return 2;
    }
    size_t size = 0;
    char* plan = whole_file(argv[1], &size);
    if (!plan) {
        fprintf(stderr, "cannot read %s\n", argv[1]);
        return 1;
    }
    alexandra_model* model = NULL;
    int failed = alexandra_load(plan, size, argv[2], NULL, &model);
    free(plan);
    const int count = argc - 4, most = atoi(argv[3]);
    int32_t* prompt = malloc(sizeof(int32_t) * (size_t)count);
    int32_t* tokens = malloc(sizeof(int32_t) * (size_t)(most > 0 ? most : 64));
    for (int i = 0; i < count; ++i) prompt[i] = (int32_t)atoi(argv[4 + i]);
    alexandra_row row = {.prompt = prompt, .prompt_tokens = count, .tokens = tokens};
    alexandra_sampling greedy = {.max_tokens = most};
    failed = failed || alexandra_decode(model, &row, 1, &greedy) || print(model, &row);
    if (failed) fprintf(stderr, "%s\n", alexandra_error());
    free(prompt);
    free(tokens);
    alexandra_free(model);
    return failed;
}
