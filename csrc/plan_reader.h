// Reads plans: JSON objects by tables of their fields, names and numbers within bounds (description.cpp, c_decoder.cpp).
#pragma once

#include <charconv>
#include <map>
#include <string>
#include <vector>

#include "json_cursor.h"

namespace alexandra {

using Names = std::map<std::string, int, std::less<>>;

inline std::string name_of(std::string_view text, const char* what) {
    if (text.empty() || text.size() > 1000 || text.find('\\') != std::string_view::npos)
        damaged(std::string(what) + " " + quoted(text) + " is not a name");
    return std::string(text);
}

inline int lookup(const Names& names, std::string_view name, const char* what) {
    const auto found = names.find(name);
    if (found == names.end()) damaged("there is no " + std::string(what) + " " + quoted(name) + " before it is used");
    return found->second;
}

// Reads the members of objects by tables of fields: each once, and no other.
class PlanReader {
public:
    explicit PlanReader(std::string_view text) : text_(text), in_(text) {}

    template <typename F>
    void fields(const char* what, std::initializer_list<std::string_view> known, F member) {
        unsigned seen = 0;
        in_.object([&](std::string_view key) {
            unsigned index = 0;
            for (std::string_view name : known) {
                if (name == key) break;
                ++index;
            }
            if (index == known.size()) damaged(std::string(what) + " has an unknown field " + quoted(key));
            if (seen >> index & 1) damaged(std::string(what) + " has the field " + quoted(key) + " twice");
            seen |= 1u << index;
            member(key);
        });
    }

    std::string name(const char* what) { return name_of(in_.string(), what); }
    std::string_view text() { return in_.string(); }
    template <typename F>
    void list(F item) {
        in_.array(item);
    }
    int whole(const char* what) {
        const uint64_t n = in_.whole();
        if (n > (uint64_t(1) << 30)) damaged(std::string(what) + " " + std::to_string(n) + " is above 2^30");
        return int(n);
    }
    double real() {
        in_.peek();
        const size_t from = in_.at();
        in_.skip();
        const std::string_view number = text_.substr(from, in_.at() - from);
        double value = 0;
        const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
        if (error != std::errc() || end != number.data() + number.size()) damaged(quoted(number) + " is not a number");
        return value;
    }
    uint64_t natural() { return in_.whole(); }
    // A whole number, or -1 for null.
    int whole_or_none(const char* what) {
        if (in_.peek() != 'n') return whole(what);
        in_.skip();
        return -1;
    }
    bool truth() {
        const char first = in_.peek();
        if (first != 't' && first != 'f') damaged("true or false wanted at byte " + std::to_string(in_.at()));
        in_.skip();
        return first == 't';
    }
    std::vector<int> shape() {
        std::vector<int> axes;
        in_.array([&] {
            axes.push_back(whole("an axis"));
            if (axes.size() > 8) damaged("a shape has more than 8 axes");
        });
        return axes;
    }
    void end() { in_.end(); }

private:
    std::string_view text_;
    JsonCursor in_;
};

}  // namespace alexandra
