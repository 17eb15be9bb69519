// What RunRepeated() (runner.h) and the assertions are asked for.
#ifndef GTEST_DETERMINISM_OPTIONS_H_
#define GTEST_DETERMINISM_OPTIONS_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gtest_determinism/report.h"

namespace gtest_determinism {

// Changes something around a run that the computation must not depend on.
// Applied before each run but run 0 and undone after it, on the thread that makes
// the run. What these throw makes the outcome kError. See perturbations.h.
class Perturbation {
 public:
  virtual ~Perturbation() = default;
  virtual std::string Name() const = 0;  // "allocator_poison"
  // `run` counts from 1 in each input; all that varies follows from it and `seed`.
  virtual void Apply(int run, std::uint64_t seed) = 0;
  virtual void Undo() = 0;
};

// A check of the check: see ControlResult (report.h). `run` returns what it saw; one that
// throws is not as expected.
struct Control {
  std::string name;  // "arrival_order_matmul"
  bool expects_difference = true;
  std::function<Report()> run;
};

// What is unset comes from the flags (configuration.h).
struct Options {
  // Runs for each input, run 0 included. With fewer than 2 nothing is compared, and
  // the outcome is inconclusive.
  std::optional<int> runs = std::nullopt;
  // Instead of a count: as many runs, of all inputs together, as show, if none
  // differs, that the rate is below this at 95 %. Above 0 and below 1; 0.01 asks for
  // 300 runs of one input. Where `runs` is set too, the larger count. If a budget
  // ends the runs before that is shown, the outcome is inconclusive.
  std::optional<double> rate_below = std::nullopt;
  int warmups = 0;  // runs of each input before run 0 that are not compared
  // Unset: allocator poison and competing load. Empty: none.
  std::optional<std::vector<std::shared_ptr<Perturbation>>> perturbations = std::nullopt;
  // Run after the repetitions. One that is not as it must be makes a bit-exact
  // outcome inconclusive; a control that must not differ and does, any outcome.
  std::vector<Control> controls = {};
  std::optional<std::uint64_t> seed = std::nullopt;  // of perturbations
  // No run begins after this time, of all inputs together; what was not run is not claimed.
  std::optional<std::chrono::duration<double>> budget = std::nullopt;
  // No further run, of any input, once one differs. The bounds stay valid: for one
  // deviation they are those of inverse sampling or wider.
  bool stop_at_first_difference = false;
  // Digests only, no bytes of run 0 kept: for traces too large to keep. The first
  // differing part is then named only where its name or form differs.
  bool digest_only = false;
  std::string property = "run_to_run";  // the claim's name, for the Report
  // Called after each run, for progress: (completed runs, runs) of an input.
  std::function<void(int, int)> on_run = {};
};

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_OPTIONS_H_
