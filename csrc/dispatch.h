// Which kernels run on this processor.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace alexandra {

// Instruction sets that are compiled in and that this processor has, best first.
std::vector<std::string> available_isas();

// The kernels named `isa`, or with "" those named by the environment variable ALEXANDRA_ISA, or the best;
// "naive" are the scalar versions that tests compare with.
// Throws Error for a name that is not available.
const Kernels& choose_kernels(const std::string& isa);

}  // namespace alexandra
