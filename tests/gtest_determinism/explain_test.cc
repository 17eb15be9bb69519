#include "gtest_determinism/explain.h"

#include <gtest/gtest.h>

#include <vector>

#include "gtest_determinism/runner.h"

namespace gtest_determinism {
namespace {

Options Runs(int runs) { return {.runs = runs, .perturbations = std::vector<std::shared_ptr<Perturbation>>{}}; }

TEST(SummarizeTest, BitExactStatesItsPowerAndAssumption) {
  EXPECT_EQ(Summarize(RunRepeated([] { return 1; }, Runs(30))),
            "30 of 30 runs bit-exact; a deviation of probability >= 9.81 % per run would have been seen with 95 % "
            "certainty (29 comparisons, if runs are independent)");
  Options options = Runs(2);
  options.digest_only = true;
  EXPECT_EQ(Summarize(RunRepeated([] { return 1; }, options)),
            "2 of 2 runs bit-exact by digest; a deviation of probability >= 95 % per run would have been seen with 95 "
            "% certainty (1 comparison, if runs are independent)");
  EXPECT_EQ(Summarize(RunRepeated(
                Inputs(4, [](int i) { return i; }), [](int i) { return i; }, Runs(30))),
            "4 inputs, for each 30 of 30 runs bit-exact; a deviation of probability >= 2.55 % per run, on average over "
            "these inputs, would have been seen with 95 % certainty (116 comparisons, if runs are independent)");
}

TEST(ExplainFailureTest, Nondeterministic) {
  int run = 0;
  const Report report = RunRepeated([&run] { return ++run == 3 ? 2.f : 1.f; }, Runs(10));
  EXPECT_EQ(ExplainFailure(report, "f", "./t --gtest_filter='A.B'"),
            "Expected: f gives one bit pattern in 10 runs\n"
            "  Actual: 2 distinct patterns; 1 of 10 runs differs from run 0\n"
            "   First: run 2, element 0; 0x40000000 (2) instead of 0x3f800000 (1), 8388608 ulp; 1 of 1 elements "
            "differ, max |difference| 1, max 8388608 ulp\n"
            "    Rate: 11.1 % of runs; at least 0.568 %, at most 42.9 %, each with 95 % certainty if runs are "
            "independent\n"
            "  Re-run: ./t --gtest_filter='A.B'");
}

TEST(ExplainFailureTest, Inconclusive) {
  EXPECT_EQ(ExplainFailure(RunRepeated([] { return 1; }, Runs(1)), "f", ""),
            "Expected: f gives one bit pattern in 1 run\n"
            "  Actual: inconclusive: one run has nothing to be compared with; ask for at least 2");
}

TEST(AbbreviateTest, OneLineOfLimitedLength) {
  EXPECT_EQ(Abbreviate("[&] {\n    return   f(x);\n  }"), "[&] { return f(x); }");
  EXPECT_EQ(Abbreviate("abcdef", 3), "abc...");
}

}  // namespace
}  // namespace gtest_determinism
