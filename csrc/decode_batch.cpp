#include "decode_batch.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "float_mode.h"

namespace alexandra {

namespace {

[[noreturn]] void refuse(const std::string& message) { throw Error(Status::invalid_argument, message); }

// Uniform in [0, 1) with 24 random bits: word `index` of the stream, as alexandra.rng gives it.
double uniform(const Stream& stream, uint32_t index) {
    uint32_t words[4];
    philox_block(stream.key, stream.nonce, stream.lane, index / 4, words);
    return double(words[index % 4] >> 8) * 0x1p-24;
}

}  // namespace

Batch::Batch(std::shared_ptr<Decoder> decoder, std::vector<std::string> pieces)
    : decoder_(std::move(decoder)), pieces_(std::move(pieces)) {
    const DecodeConfig& config = decoder_->config();
    const size_t vocab = size_t(decoder_->vocab()), slots = size_t(config.slots), rows = size_t(config.rows);
    if (!pieces_.empty() && pieces_.size() > vocab)
        refuse(std::to_string(pieces_.size()) + " token texts for a vocabulary of " + std::to_string(vocab));
    for (const std::string& piece : pieces_) longest_piece_ = std::max(longest_piece_, piece.size());
    slots_.assign(slots, nullptr);
    tokens_.reserve(rows);
    runs_.reserve(slots);
    wanted_.reserve(rows);
    ready_.reserve(rows);
    scores_.resize(vocab * size_t(config.threads));
    indices_.resize(vocab * size_t(config.threads));
    seen_.resize(vocab * slots);
}

size_t Batch::submit(Request request) {
    const std::lock_guard lock(busy_);
    const int context = decoder_->config().context;
    request.prompt = int(request.tokens.size());
    if (request.prompt < 1) refuse("a prompt has no token");
    if (request.most < 1 || int64_t(request.prompt) + request.most > context)
        refuse("a prompt of " + std::to_string(request.prompt) + " and " + std::to_string(request.most) +
               " new tokens do not fit the context of " + std::to_string(context));
    for (int32_t token : request.tokens)
        if (token < 0 || token >= decoder_->vocab())
            refuse("token " + std::to_string(token) + " is not below the vocabulary of " + std::to_string(decoder_->vocab()));
    if (!request.stops.empty() && pieces_.empty()) refuse("stop texts need the texts of the tokens");
    for (const std::string& stop : request.stops)
        if (stop.empty()) refuse("a stop text is empty");
    const Sampling& s = request.sampling;
    if (!(s.temperature >= 0.0f) || !(s.top_p > 0.0f && s.top_p <= 1.0f) || !(s.penalty > 0.0f) || s.top_k < 0)
        refuse("sampling needs temperature >= 0, 0 < top_p <= 1, top_k >= 0, a penalty > 0");
    if (request.alternatives < 0 || request.alternatives > decoder_->vocab()) refuse("more alternatives than tokens");
    const size_t most = size_t(request.most);
    request.tokens.reserve(request.tokens.size() + most);
    request.logprobs.reserve(most);
    request.others.reserve(most * size_t(request.alternatives));
    request.other_logprobs.reserve(most * size_t(request.alternatives));
    if (!pieces_.empty()) request.text.reserve(most * longest_piece_);
    requests_.push_back(std::make_unique<Request>(std::move(request)));
    waiting_.push_back(requests_.size() - 1);
    return requests_.size() - 1;
}

const Request& Batch::request(size_t number) const {
    if (number >= requests_.size() || !requests_[number]) refuse("there is no request " + std::to_string(number));
    return *requests_[number];
}

void Batch::forget(size_t number) {
    const std::lock_guard lock(busy_);
    if (number >= requests_.size() || !requests_[number]) return;
    Request* request = requests_[number].get();
    if (request->slot >= 0) leave(*request);
    requests_[number].reset();
}

void Batch::admit() {
    for (size_t slot = 0; slot < slots_.size() && next_ < waiting_.size(); ++slot) {
        if (slots_[slot]) continue;
        while (next_ < waiting_.size() && !requests_[waiting_[next_]]) ++next_;
        if (next_ == waiting_.size()) return;
        Request* request = requests_[waiting_[next_++]].get();
        request->slot = int(slot);
        slots_[slot] = request;
        find_leader(*request);
        if (request->sampling.penalty == 1.0f) continue;
        uint8_t* seen = seen_.data() + slot * size_t(decoder_->vocab());
        std::memset(seen, 0, size_t(decoder_->vocab()));
        for (int32_t token : request->tokens) seen[token] = 1;
    }
}

// The running request whose tokens agree with the prompt for longest, if it is for half of it.
void Batch::find_leader(Request& request) {
    for (const Request* other : slots_) {
        if (!other || other == &request || other->leader >= 0) continue;
        const int most = std::min(request.prompt - 1, int(other->tokens.size()));
        const auto end = request.tokens.begin() + most;
        const int same = int(std::mismatch(request.tokens.begin(), end, other->tokens.begin()).first - request.tokens.begin());
        if (same > request.shared) request.leader = other->slot, request.shared = same;
    }
    if (2 * request.shared < request.prompt) request.leader = -1;
    follow(request);
}

void Batch::follow(Request& request) {
    if (request.leader < 0 || slots_[size_t(request.leader)]->done < request.shared) return;
    decoder_->copy_keys(request.leader, request.slot, request.shared);
    request.done = request.shared;
    request.leader = -1;
}

// Whoever waits for its keys computes them itself.
void Batch::leave(Request& request) {
    for (Request* other : slots_)
        if (other && other->leader == request.slot) other->leader = -1;
    slots_[size_t(request.slot)] = nullptr;
    request.slot = -1;
}

void Batch::refresh() {
    const std::lock_guard lock(busy_);
    if (std::any_of(slots_.begin(), slots_.end(), [](Request* r) { return r; }))
        refuse("weights cannot change while a text is being generated");
    decoder_->load_weights();
}

size_t Batch::run(int steps) {
    const std::lock_guard lock(busy_);
    const auto left = [&] {
        size_t active = 0;
        for (const Request* request : slots_) active += request != nullptr;
        for (size_t i = next_; i < waiting_.size(); ++i) active += requests_[waiting_[i]] != nullptr;
        return active;
    };
    for (int i = 0; i < steps; ++i) {
        admit();
        if (std::all_of(slots_.begin(), slots_.end(), [](Request* r) { return !r; })) break;
        step();
        ++steps_;
    }
    return left();
}

// Rows that generate take one row each; what is left of the step goes to prompts, in order of slots.
void Batch::step() {
    tokens_.clear(), runs_.clear(), wanted_.clear(), ready_.clear();
    int room = decoder_->config().rows;
    for (const bool generating : {true, false})
        for (size_t slot = 0; slot < slots_.size(); ++slot) {
            Request* r = slots_[slot];
            const int left = r && r->leader < 0 ? int(r->tokens.size()) - r->done : 0;
            if (!left || (left == 1) != generating || !room) continue;
            const int count = std::min(room, left);
            runs_.push_back({int(slot), int(tokens_.size()), count, r->done});
            tokens_.insert(tokens_.end(), r->tokens.begin() + r->done, r->tokens.begin() + r->done + count);
            r->done += count;
            room -= count;
            if (r->done < int(r->tokens.size())) continue;
            wanted_.push_back(int(tokens_.size()) - 1);
            ready_.push_back(r);
        }
    decoder_->step(int(tokens_.size()), tokens_.data(), runs_.data(), int(runs_.size()), wanted_.data(), int(wanted_.size()));
    const RowsView logits = decoder_->logits();
    bool broken = false;
    const auto work = [&](Part part) {
        const FlushSubnormals mode;
        const auto [first, last] = part.of(int(ready_.size()));
        for (int i = first; i < last; ++i) finish_row(*ready_[size_t(i)], logits.row(i), part.index);
    };
    if (ready_.size() * size_t(decoder_->vocab()) < 65536)
        work(Part{0, 1});
    else
        decoder_->pool().split(work);
    for (Request* request : slots_)
        if (request) follow(*request);
    for (Request* request : ready_) broken = broken || request->done < 0;
    for (Request* request : ready_)
        if (request->finish != Finish::none || request->done < 0) leave(*request);
    if (broken) throw Error(Status::not_finite, "the logits of a row are not numbers; its weights or scales are damaged");
}

void Batch::finish_row(Request& request, const float* logits, int scratch) {
    const int token = choose(request, logits, scratch);
    if (token < 0) {
        request.done = -1;
        request.finish = Finish::length;
        return;
    }
    const bool ended = std::find(request.ends.begin(), request.ends.end(), token) != request.ends.end();
    if (ended) request.finish = Finish::end;
    if (ended && !request.keep_end) return;
    note(request, logits, token, scratch);
    request.tokens.push_back(token);
    if (ended) return;
    if (request.sampling.penalty != 1.0f) seen_[size_t(request.slot) * size_t(decoder_->vocab()) + size_t(token)] = 1;
    if (stopped(request, token))
        request.finish = Finish::stop;
    else if (int(request.tokens.size()) - request.prompt == request.most)
        request.finish = Finish::length;
}

int Batch::choose(Request& request, const float* logits, int scratch) {
    const int vocab = decoder_->vocab();
    const DecodeKernels& kernels = decoder_->kernels();
    const Sampling& s = request.sampling;
    if (s.temperature == 0.0f && s.penalty == 1.0f) return kernels.argmax(vocab, logits);
    float* score = scores_.data() + size_t(scratch) * size_t(vocab);
    std::memcpy(score, logits, size_t(vocab) * sizeof(float));
    if (s.penalty != 1.0f) {
        const uint8_t* seen = seen_.data() + size_t(request.slot) * size_t(vocab);
        for (int i = 0; i < vocab; ++i)
            if (seen[i]) score[i] = score[i] > 0.0f ? score[i] / s.penalty : score[i] * s.penalty;
    }
    const int best = kernels.argmax(vocab, score);
    if (best < 0 || !std::isfinite(score[best])) return -1;
    if (s.temperature == 0.0f) return best;
    const float inverse = 1.0f / s.temperature;
    for (int i = 0; i < vocab; ++i) score[i] *= inverse;
    kernels.softmax(vocab, score, score);
    const double draw = uniform(s.stream, uint32_t(request.tokens.size()) - uint32_t(request.prompt));
    const bool cut_k = s.top_k > 0 && s.top_k < vocab, cut_p = s.top_p < 1.0f;
    int32_t* order = indices_.data() + size_t(scratch) * size_t(vocab);
    int count = vocab;
    double total = 0.0;
    for (int i = 0; i < vocab; ++i) order[i] = i, total += score[i];
    if (cut_k || cut_p) {
        const auto before = [&](int32_t a, int32_t b) { return score[a] != score[b] ? score[a] > score[b] : a < b; };
        count = cut_k ? s.top_k : vocab;
        if (cut_k && cut_p) {  // what top_p leaves is a share of what top_k leaves
            std::partial_sort(order, order + count, order + vocab, before);
            total = 0.0;
            for (int i = 0; i < count; ++i) total += score[order[i]];
        }
        int sorted = 0;
        double sum = 0.0;
        for (int next = cut_p ? 64 : count; sorted < count; next *= 4) {
            const int to = std::min(next, count);
            std::partial_sort(order + sorted, order + to, order + vocab, before);
            int i = sorted;
            for (; i < to && !(cut_p && sum >= double(s.top_p) * total); ++i) sum += score[order[i]];
            if (i < to || to == count) {
                count = i;
                break;
            }
            sorted = to;
        }
        total = sum;
    }
    double sum = 0.0;
    for (int i = 0; i < count; ++i) {
        sum += score[order[i]];
        if (sum > draw * total) return order[i];
    }
    return best;
}

void Batch::note(Request& request, const float* logits, int token, int scratch) {
    const int vocab = decoder_->vocab();
    const float norm = decoder_->kernels().log_sum_exp(vocab, logits);
    request.logprobs.push_back(logits[token] - norm);
    if (!request.alternatives) return;
    int32_t* order = indices_.data() + size_t(scratch) * size_t(vocab);
    for (int i = 0; i < vocab; ++i) order[i] = i;
    std::partial_sort(order, order + request.alternatives, order + vocab, [&](int32_t a, int32_t b) {
        return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    });
    for (int i = 0; i < request.alternatives; ++i) {
        request.others.push_back(order[i]);
        request.other_logprobs.push_back(logits[order[i]] - norm);
    }
}

// Adds the token's text; true when a stop text is now in it. The earliest one cuts the text.
bool Batch::stopped(Request& request, int token) {
    if (request.stops.empty() || token >= int(pieces_.size())) return false;
    const std::string& piece = pieces_[size_t(token)];
    const size_t before = request.text.size();
    request.text += piece;
    size_t cut = std::string::npos;
    for (const std::string& stop : request.stops)
        cut = std::min(cut, request.text.find(stop, before >= stop.size() ? before - stop.size() + 1 : 0));
    if (cut == std::string::npos) return false;
    request.stop_at = int64_t(cut);
    return true;
}

void Batch::all_logits(const int32_t* tokens, int count, float* out) {
    const std::lock_guard lock(busy_);
    if (!std::all_of(slots_.begin(), slots_.end(), [](Request* r) { return !r; }))
        refuse("logits of a whole text need a decoder that generates nothing meanwhile");
    std::vector<int> wanted(size_t(decoder_->config().rows));
    for (size_t i = 0; i < wanted.size(); ++i) wanted[i] = int(i);
    const int vocab = decoder_->vocab();
    for (int first = 0; first < count; first += decoder_->config().rows) {
        const int rows = std::min(decoder_->config().rows, count - first);
        const Run run{0, 0, rows, first};
        decoder_->step(rows, tokens + first, &run, 1, wanted.data(), rows);
        for (int r = 0; r < rows; ++r)
            std::memcpy(out + size_t(first + r) * size_t(vocab), decoder_->logits().row(r), size_t(vocab) * sizeof(float));
    }
}

}  // namespace alexandra
