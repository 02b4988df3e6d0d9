// Errors of the engine: a status and a message that carries the values. Thrown while planning and at the
// boundary of a call, never from inside a kernel.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace alexandra {

enum class Status { ok, invalid_argument, unsupported, out_of_memory, not_finite, file };

class Error : public std::runtime_error {
public:
    Error(Status status, const std::string& message) : std::runtime_error(message), status(status) {}
    const Status status;
};

}  // namespace alexandra
