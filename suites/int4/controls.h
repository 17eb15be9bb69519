// The control of every verdict: proof, in the same run and through the same
// compare path, that the check could have failed and that it does not cry wolf.
#ifndef SUITES_INT4_CONTROLS_H_
#define SUITES_INT4_CONTROLS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "gtest_determinism/report.h"
#include "suites/checkpoint/model_config.h"
#include "suites/model/generation.h"

namespace suites {

struct ControlOptions {
  // M of the matmul; at most this many of the prompt's. On a GPU at most 50: for
  // more rows the kernel takes a way without partial sums (Int4Matmul::PathFor()).
  std::int64_t rows = 64;
  int max_runs = 200;  // give up when the arrival order has not shown often enough by then
  int runs = 20;       // of the ordered twin and of the flipped bit
  std::uint64_t seed = 42;
  std::string device = "cpu";  // where the matmul runs: the variant's own, "cpu" or "cuda:N"
};

// Three results:
//   "arrival_order_matmul"  x [rows, K] times INT4 [K, N] of the model's
//                           down_proj shape, partial sums meet in arrival
//                           order: must be seen to differ, as MustDiffer() says
//   "ordered_twin"          the same numbers in a fixed order: must not
//   "flipped_logit_bit"     `generation` repeated, the lowest bit of one logit
//                           flipped in one run: must be found, in that logit
std::vector<gtest_determinism::ControlResult> RunControls(const ModelSizes& config, const Generation& generation,
                                                          const ControlOptions& options);

// The control of runs that must differ: kMustDifferTimes comparisons, each with a first run of
// its own and up to its first difference, have to see one, within `max_runs` runs in
// all. Seen once is not enough: threads that are only just started differ once, and
// where runs differ in one of a hundred, a variant's twenty repetitions show nothing.
inline constexpr int kMustDifferTimes = 3;
gtest_determinism::ControlResult MustDiffer(std::string name, const std::function<at::Tensor()>& run, int max_runs);

}  // namespace suites

#endif  // SUITES_INT4_CONTROLS_H_
