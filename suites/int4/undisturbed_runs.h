#ifndef SUITES_INT4_UNDISTURBED_RUNS_H_
#define SUITES_INT4_UNDISTURBED_RUNS_H_

#include <chrono>
#include <vector>

#include "gtest_determinism/options.h"

namespace suites {

// Options of a control or of a replay: so many runs, without a perturbation, and
// whatever --determinism_budget says. A control that a budget cut short would
// say of the comparison what is true of the clock.
inline gtest_determinism::Options UndisturbedRuns(int runs, bool stop_at_first_difference = false) {
  gtest_determinism::Options options;
  options.runs = runs;
  options.perturbations.emplace();
  options.stop_at_first_difference = stop_at_first_difference;
  options.budget = std::chrono::hours(24 * 365);
  return options;
}

}  // namespace suites

#endif  // SUITES_INT4_UNDISTURBED_RUNS_H_
