#ifndef SUITES_BENCHMARKS_DETERMINISTIC_SWITCH_H_
#define SUITES_BENCHMARKS_DETERMINISTIC_SWITCH_H_

#include <ATen/Context.h>

namespace quant_suites {

// PyTorch's deterministic switch as a variant wants it, while it lives. Without the NaN that PyTorch then
// writes to memory before it is used, launches that no kernel of a step needs.
class DeterministicSwitch {
 public:
  explicit DeterministicSwitch(bool on)
      : before_(at::globalContext().deterministicAlgorithms()),
        fill_before_(at::globalContext().deterministicFillUninitializedMemory()) {
    at::globalContext().setDeterministicFillUninitializedMemory(false);
    Set(on);
  }
  ~DeterministicSwitch() {
    Set(before_);
    at::globalContext().setDeterministicFillUninitializedMemory(fill_before_);
  }
  DeterministicSwitch(const DeterministicSwitch&) = delete;
  DeterministicSwitch& operator=(const DeterministicSwitch&) = delete;

 private:
  static void Set(bool on) { at::globalContext().setDeterministicAlgorithms(on, /*warn_only=*/true); }
  const bool before_, fill_before_;
};

}  // namespace quant_suites

#endif  // SUITES_BENCHMARKS_DETERMINISTIC_SWITCH_H_
