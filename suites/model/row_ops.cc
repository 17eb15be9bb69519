#include "suites/model/row_ops.h"

namespace suites::internal {

Isa BestIsa() {
#if defined(__x86_64__)
  static const Isa best = [] {
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
                      __builtin_cpu_supports("f16c") != 0;
    if (avx2 && __builtin_cpu_supports("avx512f") != 0) return Isa::kAvx512;
    return avx2 ? Isa::kAvx2 : Isa::kBaseline;
  }();
  return best;
#else
  return Isa::kBaseline;
#endif
}

const RowOps& RowOpsFor(Precision precision, Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return RowOpsAvx512(precision);
  if (isa == Isa::kAvx2) return RowOpsAvx2(precision);
#endif
  static_cast<void>(isa);
  return RowOpsBaseline(precision);
}

}  // namespace suites::internal
