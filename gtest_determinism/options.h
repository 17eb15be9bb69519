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
// Applied before each run but run 0 and undone after it.
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

struct Options {
  // Runs for each input, run 0 included. Unset: --determinism_runs, else 30.
  std::optional<int> runs;
  // Instead of a count: as many runs as show, if none differs, that the rate
  // is below this at 95 %. E.g. 0.01 asks for 300 runs.
  std::optional<double> rate_below;
  int warmups = 0;
  // Unset: allocator poison and competing load. Empty: none.
  std::optional<std::vector<std::shared_ptr<Perturbation>>> perturbations;
  std::vector<Control> controls;
  std::optional<std::uint64_t> seed;  // of perturbations; unset: --determinism_seed, else 42
  std::optional<std::chrono::duration<double>> budget;  // stop after this time; what was not run is not claimed
  bool stop_at_first_difference = false;
  // Digests only, no bytes of run 0 kept: for traces too large to keep.
  bool digest_only = false;
  std::string property = "run_to_run";
  // Called after each run, for progress. (run, runs)
  std::function<void(int, int)> on_run;
};

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_OPTIONS_H_
