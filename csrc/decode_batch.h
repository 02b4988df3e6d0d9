// Continuous batching: requests wait for a slot, share steps with whoever is running, and leave when they are done. One
// that begins as a running one does takes over its keys and values: a prompt is computed once for all its answers.
//
// A token is drawn from a Philox stream of its own request, word `i` for its i-th token, so that what a request
// becomes does not depend on its neighbours, on the number of slots, or on when it was started. Greedy is
// temperature 0; ties go to the lower token. Logarithms of probabilities are of the model's own distribution,
// before penalty, temperature and cuts.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "decode.h"
#include "philox.h"

namespace alexandra {

struct Sampling {
    float temperature = 0.0f, top_p = 1.0f, penalty = 1.0f;
    int top_k = 0;  // 0: all
    Stream stream;
};

enum class Finish { none, length, end, stop };

struct Request {
    std::vector<int32_t> tokens;  // prompt, then what was generated
    int prompt = 0, most = 0, alternatives = 0;
    Sampling sampling;
    std::vector<int32_t> ends;       // tokens that end it
    bool keep_end = false;           // whether the one that did is part of the result
    std::vector<std::string> stops;  // texts that end it
    // Results: one logarithm per generated token, and `alternatives` best tokens with theirs.
    std::vector<float> logprobs, other_logprobs;
    std::vector<int32_t> others;
    std::string text;
    int64_t stop_at = -1;  // where the text was cut
    Finish finish = Finish::none;
    // While it runs:
    int slot = -1, done = 0;         // tokens whose keys are in the cache
    int leader = -1, shared = 0;     // a slot whose first `shared` keys are awaited, because its tokens are the same
};

class Batch {
public:
    // `pieces`: the bytes of each token, for stops; may be empty.
    Batch(std::shared_ptr<Decoder> decoder, std::vector<std::string> pieces);

    // Takes a request and returns its number; refuses what can never fit.
    size_t submit(Request request);
    // Up to `steps` steps; returns how many requests are not finished.
    size_t run(int steps);
    // A finished or running request; `forget` frees it.
    const Request& request(size_t number) const;
    void forget(size_t number);
    // Reads the weights again, whose bytes have changed; refused while a request runs.
    void refresh();
    // Logits of every position of a sequence, written to out [count][vocab].
    void all_logits(const int32_t* tokens, int count, float* out);
    const std::shared_ptr<Decoder>& decoder() const { return decoder_; }
    size_t steps() const { return steps_; }

private:
    void admit();
    void find_leader(Request& request);
    void follow(Request& request);
    void leave(Request& request);
    void step();
    void finish_row(Request& request, const float* logits, int scratch);
    int choose(Request& request, const float* logits, int scratch);
    void note(Request& request, const float* logits, int token, int scratch);
    bool stopped(Request& request, int token);

    std::shared_ptr<Decoder> decoder_;
    std::vector<std::string> pieces_;
    size_t longest_piece_ = 0;
    std::vector<std::unique_ptr<Request>> requests_;
    std::vector<size_t> waiting_;  // first `next_` of them are gone
    size_t next_ = 0, steps_ = 0;
    std::vector<Request*> slots_;
    // A step, planned: no vector grows while it runs.
    std::vector<int32_t> tokens_;
    std::vector<Run> runs_;
    std::vector<int> wanted_;
    std::vector<Request*> ready_;
    std::vector<float> scores_;      // [threads][vocab]
    std::vector<int32_t> indices_;   // [threads][vocab]
    std::vector<uint8_t> seen_;      // [slots][vocab]
    std::mutex busy_;
};

}  // namespace alexandra
