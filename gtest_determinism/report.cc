#include "gtest_determinism/report.h"

namespace gtest_determinism {

std::string_view NameOf(Outcome outcome) {
  switch (outcome) {
    case Outcome::kBitExact:
      return "bit_exact";
    case Outcome::kNondeterministic:
      return "nondeterministic";
    case Outcome::kInconclusive:
      return "inconclusive";
    case Outcome::kSkipped:
      return "skipped";
    case Outcome::kError:
      return "error";
  }
  return "unknown";
}

}  // namespace gtest_determinism
