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
// Applied before each run but run 0 and undone after it. See perturbations.h.
class Perturbation {
 public:
  virtual ~Perturbation() = default;
  virtual std::string Name() const = 0;
  virtual void Apply(int run, std::uint64_t seed) = 0;
  virtual void Undo() = 0;
};

// A check of the check: see ControlResult. `run` returns what it saw.
struct Control {
  std::string name;
  bool expects_difference = true;
  std::function<Report()> run;
};

// What is unset comes from the flags (configuration.h).
struct Options {
  // Runs for each input, run 0 included.
  std::optional<int> runs = std::nullopt;
  // Instead of a count: as many runs as show, if none differs, that the rate
  // is below this at 95 %. E.g. 0.01 asks for 300 runs. Where `runs` is set too,
  // the larger count. If a budget ends the runs before that is shown, the
  // outcome is inconclusive.
  std::optional<double> rate_below = std::nullopt;
  int warmups = 0;  // runs of each input before run 0 that are not compared
  // Unset: allocator poison and competing load. Empty: none.
  std::optional<std::vector<std::shared_ptr<Perturbation>>> perturbations = std::nullopt;
  // Run after the repetitions. One that is not as it must be makes a bit-exact
  // outcome inconclusive; a control that must not differ and does, any outcome.
  std::vector<Control> controls = {};
  std::optional<std::uint64_t> seed = std::nullopt;  // of perturbations
  std::optional<std::chrono::duration<double>> budget =
      std::nullopt;  // stop after this time; what was not run is not claimed
  // The bounds stay valid: for one deviation they are those of inverse sampling
  // or wider.
  bool stop_at_first_difference = false;
  // Digests only, no bytes of run 0 kept: for traces too large to keep.
  bool digest_only = false;
  std::string property = "run_to_run";
  // Called after each run, for progress: (completed runs, runs) of an input.
  std::function<void(int, int)> on_run = {};
};

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_OPTIONS_H_
