// A strict JSON reader that walks a text without building anything: numbers, nesting and strings are checked as it
// goes, so that a hostile header costs no memory.
#pragma once

#include <string_view>

#include "bytes.h"

namespace alexandra {

class JsonCursor {
public:
    explicit JsonCursor(std::string_view text) : text_(text) {}

    // Calls member(key) for each member of an object; it must consume the value. The key is raw: escapes as they
    // stand. `item()` likewise for each element of an array.
    template <typename F>
    void object(F member) {
        enter('{');
        if (!leave('}')) do {
                space();
                const std::string_view key = string();
                expect(':');
                member(key);
            } while (more('}'));
        --depth_;
    }
    template <typename F>
    void array(F item) {
        enter('[');
        if (!leave(']')) do item();
            while (more(']'));
        --depth_;
    }

    std::string_view string();  // between the quotes, escapes checked and left as they are
    uint64_t whole();           // 0, 1, ... as JSON writes it, below 2^63
    void skip();                // any value
    char peek() {
        space();
        return at_ < text_.size() ? text_[at_] : '\0';
    }
    void end();  // nothing but space may follow
    size_t at() const { return at_; }

private:
    [[noreturn]] void wrong(const char* wanted) const;
    void space() {
        while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) ++at_;
    }
    void expect(char c);
    void enter(char c);
    bool leave(char c);
    bool more(char close);
    void number();
    void word(std::string_view expected);

    std::string_view text_;
    size_t at_ = 0;
    int depth_ = 0;
};

}  // namespace alexandra
