// From a record to a verdict, by rules that are written down in docs/verdicts.md.
#ifndef REPORTERS_VERDICT_H_
#define REPORTERS_VERDICT_H_

#include <optional>
#include <string>
#include <vector>

#include "reporters/record.h"

namespace reporters {

struct Verdict {
  gtest_determinism::Outcome outcome = gtest_determinism::Outcome::kInconclusive;
  std::optional<bool> is_deterministic;  // nothing: inconclusive
  bool deterministic_mode_tested = false;
  std::string summary;     // one of three strings, DESIGN section 7
  std::string root_cause;  // only what evidence shows; else says unknown
  std::string forensic_implications;
  std::vector<std::string> details;
  bool met_expectation = false;
  std::string expectation;  // one line: expected against found
};

// Pure. A record whose control did not fire, whose exact twin differed, whose
// expected kernel is not in the profile, or that compared nothing is inconclusive.
Verdict DeriveVerdict(const VariantRecord& record);

}  // namespace reporters

#endif  // REPORTERS_VERDICT_H_
