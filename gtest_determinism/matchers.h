// gmock matchers on a Report, for finer claims than EXPECT_DETERMINISTIC.
//
//   EXPECT_THAT(RunRepeated(f, {.runs = 200}), IsBitExact());
//   EXPECT_THAT(RunRepeated(atomic_sum), Not(IsBitExact()));
//   EXPECT_THAT(RunRepeated(f), DistinctPatterns(Le(2)));
//   EXPECT_THAT(RunRepeated(f, {.runs = 1000}), DeviationRateBelow(0.01));
//
// Not() of these also holds for a Report that is inconclusive, skipped or an
// error, which proves nothing: a negative control says IsNondeterministic().
#ifndef GTEST_DETERMINISM_MATCHERS_H_
#define GTEST_DETERMINISM_MATCHERS_H_

#include <gmock/gmock.h>

#include <ostream>
#include <type_traits>

#include "gtest_determinism/assertions.h"
#include "gtest_determinism/explain.h"
#include "gtest_determinism/report.h"

namespace gtest_determinism {

// How gtest prints a Report. The matchers below add only what this does not say.
inline void PrintTo(const Report& report, std::ostream* out) {
  *out << Summarize(report);
  if (report.first_divergence) *out << "\n   First: " << Describe(*report.first_divergence);
}

// Every run was seen to equal run 0, every control was as it must be.
MATCHER(IsBitExact, negation ? "is not bit-exact over its runs" : "is bit-exact over its runs") {
  *result_listener << "with the outcome " << NameOf(arg.outcome);
  return arg.outcome == Outcome::kBitExact;
}

// A difference was seen.
MATCHER(IsNondeterministic, negation ? "shows no difference between its runs" : "shows a difference between its runs") {
  *result_listener << "with the outcome " << NameOf(arg.outcome);
  return arg.outcome == Outcome::kNondeterministic;
}

// The outcome of those runs is this one.
MATCHER_P(HasOutcome, outcome,
          (negation ? "has not the outcome " : "has the outcome ") + std::string(NameOf(outcome))) {
  *result_listener << "with the outcome " << NameOf(arg.outcome);
  return arg.outcome == outcome;
}

// The number of distinct patterns of each input matches `m`, a number or a
// matcher. A Report that compared nothing matches nothing.
MATCHER_P(DistinctPatterns, m,
          "has for each input a number of distinct patterns that " +
              testing::DescribeMatcher<const int&>(m, negation)) {
  if (arg.outcome != Outcome::kBitExact && arg.outcome != Outcome::kNondeterministic) {
    *result_listener << "which compared nothing";
    return false;
  }
  const testing::Matcher<const int&> matcher = testing::SafeMatcherCast<const int&>(m);
  for (std::size_t i = 0; i < arg.distinct_of_input.size(); ++i) {
    if (!matcher.Matches(arg.distinct_of_input[i])) {
      *result_listener << "input " << i << " has " << arg.distinct_of_input[i];
      return false;
    }
  }
  return !arg.distinct_of_input.empty();
}

// The runs exclude rates of deviation above `p` at the Report's confidence: its
// upper bound is at most p. Deviations may have been seen.
MATCHER_P(DeviationRateBelow, p,
          std::string(negation ? "does not exclude" : "excludes") + " deviation rates above " + Percent(p)) {
  *result_listener << "the upper bound is " << Percent(arg.power.upper_bound) << " (" << arg.power.deviations << " of "
                   << arg.power.comparisons << " comparisons differ)";
  return (arg.outcome == Outcome::kBitExact || arg.outcome == Outcome::kNondeterministic) &&
         arg.power.comparisons > 0 && arg.power.upper_bound <= p;
}

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_MATCHERS_H_
