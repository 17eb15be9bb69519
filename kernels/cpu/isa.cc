#include "kernels/cpu/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace kernels::cpu {
namespace {

std::string Names(const std::vector<Isa>& isas) {
  std::string names;
  for (const Isa isa : isas) names += (names.empty() ? "" : ", ") + std::string(NameOf(isa));
  return names;
}

#if defined(__x86_64__)
// The CPU has tiles of 8-bit integers, and Linux lets this process use them: it
// saves their 8 KiB for those threads only that asked (Documentation/arch/x86/xstate.rst).
bool MayUseAmx() {
  static const bool may = [] {
    constexpr unsigned kTiles = 1U << 24, kInt8 = 1U << 25;  // CPUID.7.0:EDX
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
    if ((edx & kTiles) == 0 || (edx & kInt8) == 0) return false;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  }();
  return may;
}
#endif

Isa Checked(std::string_view name) {
  const std::vector<Isa> supported = SupportedIsas();
  for (const Isa isa : supported) {
    if (NameOf(isa) == name) return isa;
  }
  throw std::invalid_argument("instruction set '" + std::string(name) + "' is not one that this CPU can run (" +
                              Names(supported) + ")");
}

std::atomic<Isa>& Active() {
  static std::atomic<Isa> active = [] {
    const char* const wanted = std::getenv("DETERMINISM_CPU_ISA");
    return wanted != nullptr && *wanted != '\0' ? Checked(wanted) : SupportedIsas().back();
  }();
  return active;
}

}  // namespace

std::string_view NameOf(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAmx:
      return "amx";
  }
  return "unknown";
}

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> isas = {Isa::kPortable};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    if (__builtin_cpu_supports("avx2")) isas.push_back(Isa::kAvx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vnni")) {
      isas.push_back(Isa::kAvx512);
      if (MayUseAmx()) isas.push_back(Isa::kAmx);
    }
  }
#endif
  return isas;
}

Isa ActiveIsa() { return Active().load(std::memory_order_relaxed); }

void SetActiveIsa(Isa isa) { Active().store(Checked(NameOf(isa)), std::memory_order_relaxed); }

}  // namespace kernels::cpu
