#include <cstdlib>
#include <string>

#include "decode_kernels.h"
#include "error.h"
#include "processor.h"

namespace alexandra {

namespace decode_portable {
const DecodeKernels& table();
}
#if defined(__x86_64__)
namespace decode_avx2 {
const DecodeKernels& table();
}
namespace decode_avx512 {
const DecodeKernels& table();
}
namespace decode_avx512vnni {
const DecodeKernels& table();
}
namespace decode_avx512bf16 {
const DecodeKernels& table();
}
namespace decode_amx {
const DecodeKernels& table();
}
#endif

namespace {

struct Row {
    bool (*present)();
    const DecodeKernels& (*table)();
};

const Row kRows[] = {
#if defined(__x86_64__)
    {has_amx, decode_amx::table},
    {has_bf16, decode_avx512bf16::table},
    {has_vnni, decode_avx512vnni::table},
    {has_avx512, decode_avx512::table},
    {[] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c"); },
     decode_avx2::table},
#endif
    {[] { return true; }, decode_portable::table},
};
constexpr int kCount = int(sizeof kRows / sizeof kRows[0]);

}  // namespace

const DecodeKernels* const* available_decode_kernels(int* count) {
    static const DecodeKernels* tables[kCount];
    static const int found = [] {
        int n = 0;
        for (const Row& row : kRows)
            if (row.present()) tables[n++] = &row.table();
        return n;
    }();
    *count = found;
    return tables;
}

const DecodeKernels& choose_decode_kernels(const char* isa) {
    const char* variable = std::getenv("ALEXANDRA_ISA");
    const std::string wanted = isa && *isa ? isa : variable ? variable : "";
    int count;
    const DecodeKernels* const* tables = available_decode_kernels(&count);
    std::string known;
    for (int i = 0; i < count; ++i) {
        if (wanted.empty() || wanted == tables[i]->isa) return *tables[i];
        known += (known.empty() ? "" : ", ") + std::string(tables[i]->isa);
    }
    throw Error(Status::unsupported, "instruction set '" + wanted + "' is not available here; known: " + known);
}

}  // namespace alexandra
