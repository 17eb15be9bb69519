#include "kernels/cpu/isa.h"

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
  }
  return "unknown";
}

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> isas = {Isa::kPortable};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    if (__builtin_cpu_supports("avx2")) isas.push_back(Isa::kAvx2);
    if (__builtin_cpu_supports("avx512f")) isas.push_back(Isa::kAvx512);
  }
#endif
  return isas;
}

Isa ActiveIsa() { return Active().load(std::memory_order_relaxed); }

void SetActiveIsa(Isa isa) { Active().store(Checked(NameOf(isa)), std::memory_order_relaxed); }

}  // namespace kernels::cpu
