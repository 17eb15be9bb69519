// Which instruction set the CPU kernels use. The choice changes no bit of any
// result (NaN payloads excepted): every path sums the same integers, exactly, see
// microkernels.h.
#ifndef KERNELS_CPU_ISA_H_
#define KERNELS_CPU_ISA_H_

#include <cstdint>
#include <string_view>
#include <vector>

namespace kernels::cpu {

enum class Isa : std::uint8_t {
  kPortable,  // baseline; needs nothing, slow
  kAvx2,      // AVX2, FMA and F16C
  kAvx512,    // AVX-512 F, BW and VNNI, FMA and F16C
  kAmx,       // that and AMX tiles of 8-bit integers
};
std::string_view NameOf(Isa isa);  // "portable", "avx2", "avx512", "amx"

// Those that this CPU can run, the quickest last. Asks the operating system for
// the use of AMX's registers, once.
std::vector<Isa> SupportedIsas();

// The quickest one, or what the environment variable DETERMINISM_CPU_ISA names.
// Throws std::invalid_argument where that names one that cannot run here.
Isa ActiveIsa();

// Replaces the choice from now on, for tests. Not to be called while a kernel
// runs. Throws std::invalid_argument where the CPU lacks it.
void SetActiveIsa(Isa isa);

}  // namespace kernels::cpu

#endif  // KERNELS_CPU_ISA_H_
