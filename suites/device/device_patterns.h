// Bit patterns of a callable whose result lies on a CUDA device, counted there.
#ifndef SUITES_DEVICE_DEVICE_PATTERNS_H_
#define SUITES_DEVICE_DEVICE_PATTERNS_H_

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "gtest_determinism/options.h"

namespace suites {

struct Patterns {
  int runs = 0;
  int distinct = 0;   // by digest
  int deviating = 0;  // runs whose bytes differ from those of run 0
  // Of ten runs in a row, run 0 (which finds everything cold) left out: how many
  // such tens there are, and how many of them hold more than one pattern.
  int tens = 0;
  int tens_that_differ = 0;
};

struct PatternOptions {
  int runs = 1000;
  // Applied before each run but run 0 and undone after it; each run is then waited for.
  std::vector<std::shared_ptr<gtest_determinism::Perturbation>> perturbations = {};
  std::uint64_t seed = 1;
};

// Calls `run` that many times. Digests and comparisons stay on the device until
// the end, so that many runs of a quick kernel take little more than the kernel.
// Throws std::invalid_argument where the result's size changes.
Patterns CountPatterns(const std::function<at::Tensor()>& run, const PatternOptions& options);
inline Patterns CountPatterns(const std::function<at::Tensor()>& run, int runs) {
  return CountPatterns(run, PatternOptions{.runs = runs});
}

}  // namespace suites

#endif  // SUITES_DEVICE_DEVICE_PATTERNS_H_
