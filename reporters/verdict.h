// From a record to a verdict, by rules that are written down in docs/verdicts.md.
#ifndef REPORTERS_VERDICT_H_
#define REPORTERS_VERDICT_H_

#include <optional>
#include <string>
#include <vector>

#include "reporters/record.h"

namespace reporters {

inline constexpr char kSummaryDeterministic[] = "BASELINE IS DETERMINISTIC";
inline constexpr char kSummaryNondeterministic[] = "BASELINE IS NON-DETERMINISTIC";
inline constexpr char kSummaryInconclusive[] = "BASELINE IS INCONCLUSIVE";

// One thing was changed; what became of the noise.
struct Intervention {
  std::string name;                         // "deterministic_mode", "ordered_twin"
  Finding finding = Finding::kNotLookedAt;  // kShown: the noise ended
  std::string detail;
  std::optional<int> comparisons, deviations;  // with the change; nothing: not counted
  // Probability of so few deviations if the change did nothing: one-sided exact
  // test of Fisher over (deviations, comparisons) with and without the change.
  std::optional<double> p_value;
  // Median seconds of a repetition with the change over those without.
  std::optional<double> time_ratio;
};

struct Verdict {
  gtest_determinism::Outcome outcome = gtest_determinism::Outcome::kInconclusive;
  std::optional<bool> is_deterministic;  // nothing: inconclusive
  bool deterministic_mode_tested = false;
  std::string rule;             // the rule of docs/verdicts.md that decided, "V5"
  std::string reason;           // why it is inconclusive; "" if it is not
  std::string summary;          // one of the three strings above
  std::string root_cause;       // only what evidence shows; else says unknown
  std::string root_cause_rule;  // the rule of docs/verdicts.md that worded it, "C2"
  std::string forensic_implications;
  std::vector<std::string> details;
  bool met_expectation = false;
  std::string expectation;  // one line: expected against found
  NoiseStatistics baseline_noise, deterministic_noise;
  std::vector<Intervention> interventions;
  Evidence switch_ends_it;            // of interventions[0], the deterministic mode
  std::vector<std::string> warnings;  // what a reader must know before relying on it
};

// Pure. A record whose control did not fire, whose exact twin differed, whose
// expected kernel is not in the profile, or that compared nothing is inconclusive.
Verdict DeriveVerdict(const VariantRecord& record);

// Samples that a one-sided z-test at 5 % false alarms and 95 % power needs to
// see that the mean moved by `shift`, both tails being of `std`:
// ceil(((z95 + z95) * std / shift)^2), z95 = 1.6449; at least 1.
// Throws std::invalid_argument unless std >= 0 and shift > 0.
int SamplesForShift(double std, double shift);

// One-sided p-value of Fisher's exact test: the probability that, of all
// deviations seen, `deviations` or fewer fall among the `comparisons` of the
// second group, if both groups have the same rate.
double FisherExactP(int first_deviations, int first_comparisons, int deviations, int comparisons);

}  // namespace reporters

#endif  // REPORTERS_VERDICT_H_
