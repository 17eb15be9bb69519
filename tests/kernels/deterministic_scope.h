#ifndef TESTS_KERNELS_DETERMINISTIC_SCOPE_H_
#define TESTS_KERNELS_DETERMINISTIC_SCOPE_H_

#include <ATen/Context.h>

namespace kernels {

// PyTorch's deterministic mode while it lives; then what was there before, also
// where a test leaves early.
class DeterministicScope {
 public:
  DeterministicScope() { at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true); }
  ~DeterministicScope() { at::globalContext().setDeterministicAlgorithms(enabled_, warn_only_); }
  DeterministicScope(const DeterministicScope&) = delete;
  DeterministicScope& operator=(const DeterministicScope&) = delete;

 private:
  const bool enabled_ = at::globalContext().deterministicAlgorithms();
  const bool warn_only_ = at::globalContext().deterministicAlgorithmsWarnOnly();
};

}  // namespace kernels

#endif  // TESTS_KERNELS_DETERMINISTIC_SCOPE_H_
