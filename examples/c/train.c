/* Learns whether a point lies inside a circle: two numbers in, two classes out, no Python. Saves, loads, compares. */
#include <alexandra.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char* const kPlan =
    "{\"format\": \"alexandra-plan\", \"version\": 1, \"name\": \"circle\", \"spec_hash\": \"by-hand\","
    " \"params\": ["
    "  {\"name\": \"h.weight\", \"shape\": [16, 2], \"init\": \"glorot\", \"fan_in\": 2, \"fan_out\": 16},"
    "  {\"name\": \"h.bias\", \"shape\": [16], \"init\": \"zeros\"},"
    "  {\"name\": \"y.weight\", \"shape\": [2, 16], \"init\": \"glorot\", \"fan_in\": 16, \"fan_out\": 2},"
    "  {\"name\": \"y.bias\", \"shape\": [2], \"init\": \"zeros\"}],"
    " \"nodes\": ["
    "  {\"name\": \"x\", \"op\": \"input\", \"shape\": [2]},"
    "  {\"name\": \"h.dense\", \"op\": \"dense\", \"inputs\": [\"x\"], \"shape\": [16],"
    "   \"params\": [\"h.weight\", \"h.bias\"]},"
    "  {\"name\": \"h\", \"op\": \"tanh\", \"inputs\": [\"h.dense\"], \"shape\": [16]},"
    "  {\"name\": \"y.dense\", \"op\": \"dense\", \"inputs\": [\"h\"], \"shape\": [2],"
    "   \"params\": [\"y.weight\", \"y.bias\"]},"
    "  {\"name\": \"y.act\", \"op\": \"softmax\", \"inputs\": [\"y.dense\"], \"shape\": [2]},"
    "  {\"name\": \"y\", \"op\": \"output\", \"inputs\": [\"y.act\"], \"shape\": [2]}],"
    " \"heads\": [{\"output\": \"y\", \"logits\": \"y.dense\", \"sigmoid\": false}]}";

enum { kRows = 512, kSteps = 400 };

static void check(alexandra_status status, const char* what) {
    if (status == ALEXANDRA_OK) return;
    fprintf(stderr, "%s: %s (status %d)\n", what, alexandra_error(), (int)status);
    exit(1);
}

int main(int argc, char** argv) {
    const char* path = argc > 1 ? argv[1] : "circle.safetensors";
    static float x[kRows][2], y[kRows][2], again[kRows][2];
    static int32_t inside[kRows];
    uint32_t state = 1;
    for (int i = 0; i < kRows; ++i) {
        for (int j = 0; j < 2; ++j) {
            state = state * 1664525u + 1013904223u;
            x[i][j] = (float)(state >> 8) / 8388608.0f - 1.0f;
        }
        inside[i] = x[i][0] * x[i][0] + x[i][1] * x[i][1] < 0.6f;
    }

    alexandra_model* model;
    check(alexandra_load(kPlan, strlen(kPlan), NULL, NULL, &model), "load");
    check(alexandra_plan(model, kRows), "plan");
    alexandra_program program;
    check(alexandra_defaults(&program), "defaults");
    program.lr = 0.02;
    const void* inputs[] = {x};
    const void* targets[] = {inside};
    check(alexandra_train(model, &program, kRows, inputs, targets), "train");
    alexandra_sizes sizes;
    check(alexandra_memory(model, &sizes), "memory");
    printf("memory: %zu bytes of weights, %zu arena, %zu gradients, %zu optimizer\n", sizes.weights, sizes.arena,
           sizes.gradients, sizes.optimizer);
    static double losses[kSteps];
    check(alexandra_step(model, kSteps, losses), "step");
    printf("loss: %.4f at first, %.4f at last\n", losses[0], losses[kSteps - 1]);

    float* outputs[] = {&y[0][0]};
    check(alexandra_forward(model, kRows, inputs, outputs), "forward");
    int right = 0;
    for (int i = 0; i < kRows; ++i) right += (y[i][1] > y[i][0]) == inside[i];
    printf("right: %d of %d\n", right, kRows);

    check(alexandra_save(model, path), "save");
    alexandra_free(model);
    check(alexandra_load(kPlan, strlen(kPlan), path, NULL, &model), "load again");
    outputs[0] = &again[0][0];
    check(alexandra_forward(model, kRows, inputs, outputs), "forward again");
    printf("the same after loading: %s\n", memcmp(y, again, sizeof y) ? "no" : "yes");
    alexandra_free(model);

    /* An error is a status and a sentence. */
    const alexandra_status status = alexandra_load("{}", 2, NULL, NULL, &model);
    printf("refused with status %d: %s\n", (int)status, alexandra_error());
    return right > kRows * 9 / 10 && losses[kSteps - 1] < losses[0] / 3 && !memcmp(y, again, sizeof y) ? 0 : 1;
}
