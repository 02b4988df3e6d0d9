#include "population_kernels.h"

#include <string>

#include "error.h"

namespace alexandra {

namespace portable {
const LaneKernels& lane_table();
}
#if defined(__x86_64__)
namespace avx2 {
const LaneKernels& lane_table();
}
namespace avx512 {
const LaneKernels& lane_table();
}
#endif

const LaneKernels& lane_kernels(const Kernels& kernels) {
    const std::string isa = kernels.isa;
#if defined(__x86_64__)
    if (isa == "avx512" || isa == "amx") return avx512::lane_table();
    if (isa == "avx2") return avx2::lane_table();
#endif
    if (isa == "portable") return portable::lane_table();
    throw Error(Status::unsupported, "instruction set '" + isa + "' has no kernels for populations");
}

}  // namespace alexandra
