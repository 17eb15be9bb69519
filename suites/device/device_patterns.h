// Bit patterns of a callable whose result lies on a CUDA device, counted there.
#ifndef SUITES_DEVICE_DEVICE_PATTERNS_H_
#define SUITES_DEVICE_DEVICE_PATTERNS_H_

#include <ATen/core/Tensor.h>

#include <functional>

namespace suites {

struct Patterns {
  int runs = 0;
  int distinct = 0;   // by a 64-bit sum of products, run for run
  int deviating = 0;  // runs whose bytes differ from run 0
};

// Calls `run` that many times. Nothing is copied to the host but one answer for
// each run, at the end. The result's size in bytes is a multiple of 8.
Patterns CountPatterns(const std::function<at::Tensor()>& run, int runs);

}  // namespace suites

#endif  // SUITES_DEVICE_DEVICE_PATTERNS_H_
