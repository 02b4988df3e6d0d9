#include "json_cursor.h"

namespace alexandra {

namespace {

constexpr int kDeepest = 32;

bool digit(char c) { return c >= '0' && c <= '9'; }
bool hex(char c) { return digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

}  // namespace

void JsonCursor::wrong(const char* wanted) const {
    damaged("the JSON is wrong at byte " + std::to_string(at_) + ": " + wanted + " wanted" +
            (at_ < text_.size() ? ", found " + quoted(text_.substr(at_, 1)) : ", found its end"));
}

void JsonCursor::expect(char c) {
    space();
    if (at_ >= text_.size() || text_[at_] != c) wrong(quoted(std::string_view(&c, 1)).c_str());
    ++at_;
}

void JsonCursor::enter(char c) {
    expect(c);
    if (++depth_ > kDeepest) damaged("the JSON is nested more than " + std::to_string(kDeepest) + " deep");
}

bool JsonCursor::leave(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
}

bool JsonCursor::more(char close) {
    space();
    if (at_ < text_.size() && text_[at_] == ',') return ++at_, true;
    if (at_ >= text_.size() || text_[at_] != close) wrong("',' or a closing bracket");
    ++at_;
    return false;
}

std::string_view JsonCursor::string() {
    expect('"');
    const size_t begin = at_;
    for (; at_ < text_.size() && text_[at_] != '"'; ++at_) {
        if (static_cast<unsigned char>(text_[at_]) < 32) wrong("no control character");
        if (text_[at_] != '\\') continue;
        if (++at_ >= text_.size()) break;
        if (text_[at_] == 'u') {
            for (int i = 0; i < 4; ++i)
                if (++at_ >= text_.size() || !hex(text_[at_])) wrong("four hexadecimal digits");
        } else if (std::string_view("\"\\/bfnrt").find(text_[at_]) == std::string_view::npos) {
            wrong("an escape");
        }
    }
    if (at_ >= text_.size()) wrong("'\"'");
    return text_.substr(begin, at_++ - begin);
}

uint64_t JsonCursor::whole() {
    space();
    const size_t begin = at_;
    uint64_t value = 0;
    for (; at_ < text_.size() && digit(text_[at_]); ++at_) {
        if (value > (uint64_t(1) << 63) / 10 - 1) wrong("a smaller number");
        value = value * 10 + uint64_t(text_[at_] - '0');
    }
    if (at_ == begin || (text_[begin] == '0' && at_ > begin + 1)) wrong("a whole number");
    return value;
}

void JsonCursor::number() {
    const size_t begin = at_;
    if (text_[at_] == '-') ++at_;
    const size_t digits = at_;
    while (at_ < text_.size() && digit(text_[at_])) ++at_;
    if (at_ == digits || (text_[digits] == '0' && at_ > digits + 1)) wrong("a number");
    const auto some = [&] {
        const size_t from = at_;
        while (at_ < text_.size() && digit(text_[at_])) ++at_;
        if (at_ == from) wrong("a digit");
    };
    if (at_ < text_.size() && text_[at_] == '.') ++at_, some();
    if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
        ++at_;
        if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
        some();
    }
    if (at_ - begin > 400) wrong("a shorter number");
}

void JsonCursor::word(std::string_view expected) {
    if (text_.substr(at_, expected.size()) != expected) wrong("a value");
    at_ += expected.size();
}

void JsonCursor::skip() {
    switch (peek()) {
        case '{': return object([&](std::string_view) { skip(); });
        case '[': return array([&] { skip(); });
        case '"': string(); return;
        case 't': return word("true");
        case 'f': return word("false");
        case 'n': return word("null");
        case '\0': wrong("a value");
        default: number();
    }
}

void JsonCursor::end() {
    space();
    if (at_ != text_.size()) wrong("nothing more");
}

}  // namespace alexandra
