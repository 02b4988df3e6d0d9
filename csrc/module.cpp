// The extension module alexandra._native: what crosses between Python and the engine.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>

namespace nb = nanobind;

// The instruction sets that this build carries kernels for, comma-separated, oldest first.
static std::string built_isas() { return ALEXANDRA_ISA_LIST; }

NB_MODULE(_native, m) {
    m.doc() = "The native engine of alexandra.";
    m.def("built_isas", &built_isas);
}
