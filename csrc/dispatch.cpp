#include "dispatch.h"

#include <cstdlib>

#include "error.h"
#include "naive.h"
#include "processor.h"

namespace alexandra {

namespace portable {
const Kernels& table();
}
#if defined(__x86_64__)
namespace avx2 {
const Kernels& table();
}
namespace avx512 {
const Kernels& table();
}
namespace amx {
const Kernels& table();
}
#endif

namespace {

struct Row {
    bool (*present)();
    const Kernels& (*table)();
};

const Row kRows[] = {
#if defined(__x86_64__)
    {has_amx, amx::table},
    {has_avx512, avx512::table},
    {[] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }, avx2::table},
#endif
    {[] { return true; }, portable::table},
};

}  // namespace

std::vector<std::string> available_isas() {
    std::vector<std::string> names;
    for (const Row& row : kRows)
        if (row.present()) names.push_back(row.table().isa);
    return names;
}

const Kernels& choose_kernels(const std::string& isa) {
    const char* variable = std::getenv("ALEXANDRA_ISA");
    const std::string wanted = !isa.empty() ? isa : variable ? variable : "";
    for (const Row& row : kRows)
        if (row.present() && (wanted.empty() || wanted == row.table().isa)) return row.table();
#if !ALEXANDRA_INFERENCE_ONLY
    if (wanted == "naive") return naive_kernels();
#endif
    std::string known;
    for (const std::string& name : available_isas()) known += (known.empty() ? "" : ", ") + name;
    throw Error(Status::unsupported, "instruction set '" + wanted + "' is not available here; known: " + known);
}

}  // namespace alexandra
