// A Report in words. All other words about a Report are made of these.
#ifndef GTEST_DETERMINISM_EXPLAIN_H_
#define GTEST_DETERMINISM_EXPLAIN_H_

#include <string>
#include <string_view>

#include "gtest_determinism/report.h"

namespace gtest_determinism {

// "9.81 %": three significant digits.
std::string Percent(double fraction);

// One line: what was seen and what it is worth, with its assumption.
//   "30 of 30 runs bit-exact; a deviation of probability >= 9.81 % per run would
//   have been seen with 95 % certainty (29 comparisons, if runs are independent)"
//   "7 distinct patterns; 41 of 100 runs differ from run 0"
//   "inconclusive: one run has nothing to be compared with; ask for at least 2"
std::string Summarize(const Report& report);

// "run 3, element 8197 = [2, 5]; 0x3c01 (1.00098) instead of ..."; what
// Describe() says of the diff, after where it was.
std::string Describe(const Divergence& divergence);

// The text of a failed assertion, some lines without a last newline. `rerun` is
// a command, "" to leave it out.
std::string ExplainFailure(const Report& report, std::string_view expression, std::string_view rerun);

// Source text on one line, cut after `most` characters.
std::string Abbreviate(std::string_view expression, std::size_t most = 120);

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_EXPLAIN_H_
