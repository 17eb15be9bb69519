// The model of one determinism claim: what was run, what was seen, and how much
// that proves. A plain value; formats nothing.
#ifndef GTEST_DETERMINISM_REPORT_H_
#define GTEST_DETERMINISM_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gtest_determinism/diff.h"
#include "gtest_determinism/digest.h"

namespace gtest_determinism {

enum class Outcome : std::uint8_t {
  kBitExact,          // every comparison equal, every control as it must be
  kNondeterministic,  // at least one run differs from run 0
  kInconclusive,      // nothing that was seen allows a claim; `reason` says why
  kSkipped,           // not tried; `reason` says why
  kError,             // the callable threw, or broke a fence; `reason` says what
};
std::string_view NameOf(Outcome outcome);  // "bit_exact", "nondeterministic", ...

// Runs that gave the same bits. One that differs from run 0 by its bytes is another
// pattern even where digests collide.
struct Pattern {
  Digest digest{};
  int runs = 0;       // how many runs showed it
  int first_run = 0;  // the first that did
};

// The first difference, in the order of runs and then of parts.
struct Divergence {
  int run = -1;        // the first run that differs from run 0
  int input = 0;       // of the inputs tried
  std::string part;    // name of the first differing part of the trace, "" if it has one part
  int part_index = 0;  // its position in the trace
  int different_parts = 0;
  int parts = 0;
  BitDiff diff;      // of that part, run 0 against `run`
  std::string note;  // what else is known of it, "" if nothing: "not written in run 3: holds its poison 0x5a"
};

// Statement about p, the probability that a run differs from run 0. Assumes
// independent runs; over several inputs p is the mean of their rates. One-sided
// Clopper-Pearson bounds (Biometrika 26, 1934): statistics.h.
struct Power {
  int comparisons = 0;  // runs - 1, summed over the inputs
  int deviations = 0;
  double confidence = 0.95;
  double rate = 0;         // deviations / comparisons
  double upper_bound = 1;  // p is at most this
  double lower_bound = 0;  // p is at least this
};

// A control proves that the check could have failed, or that it does not cry wolf.
struct ControlResult {
  std::string name;                // "arrival_order_matmul"
  bool expects_difference = true;  // true: must be seen to differ; false: must not
  Outcome outcome = Outcome::kSkipped;
  int runs = 0;
  int deviations = 0;
  std::string detail;  // what was seen, or what would be needed
  bool as_expected = false;
};

struct Report {
  Outcome outcome = Outcome::kInconclusive;
  std::string reason;                   // for kInconclusive, kSkipped, kError: one line
  std::string property = "run_to_run";  // the claim's name; properties are separate claims
  int requested_runs = 0;
  int runs = 0;                        // completed, for each input; where a budget cut some short, the fewest
  int inputs = 0;                      // different inputs that were run at all
  std::int64_t elements = 0;           // elements compared in one run
  std::int64_t bytes = 0;              // likewise
  std::vector<Pattern> patterns;       // of input 0, by first appearance
  std::vector<int> pattern_of_run;     // of input 0: index into `patterns`
  std::vector<int> distinct_of_input;  // distinct patterns, by input
  bool compared_by_digest_only = false;
  std::optional<Divergence> first_divergence;
  Power power;
  std::vector<ControlResult> controls;
  std::vector<std::string> perturbations;  // names with seeds, "allocator_poison(seed=1)"
  std::vector<double> seconds;             // wall time of each run of input 0
  std::uint64_t seed = 0;                  // of the perturbations
  bool stopped_early = false;              // a budget or a stop rule ended it before requested_runs
};

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_REPORT_H_
