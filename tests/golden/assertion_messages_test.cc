// The text of each macro, whole: EXPECT and ASSERT, with text streamed in, in a
// template, in an if without braces, of a lambda with commas.
#include <gmock/gmock.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "gtest_determinism/configuration.h"
#include "gtest_determinism/determinism.h"
#include "gtest_determinism/matchers.h"

namespace gtest_determinism {
namespace {

using testing::Le;
using testing::Not;

// EXPECT_FATAL_FAILURE runs its statement in a static function: what it uses is here.
int calls = 0;
float FourthRunDiffers() { return ++calls == 4 ? -0.0f : 0.0f; }

class Messages : public testing::Test {
 protected:
  void SetUp() override {
    calls = 0;
    saved_ = GetConfiguration();
    Configuration configuration;
    configuration.runs = 10;
    configuration.program = "./tests";
    configuration.flags_parsed = true;
    SetConfiguration(configuration);
  }
  void TearDown() override { SetConfiguration(saved_); }

 private:
  Configuration saved_;
};

// The whole message: gtest-spi.h matches substrings only.
template <class F>
std::vector<std::string> FailuresOf(const F& statement) {
  testing::TestPartResultArray parts;
  {
    testing::ScopedFakeTestPartResultReporter fake(
        testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &parts);
    statement();
  }
  std::vector<std::string> messages;
  for (int i = 0; i < parts.size(); ++i) {
    std::string message = parts.GetTestPartResult(i).message();
    // GoogleTest 1.14 ends a streamed message with a line break, 1.12 does not.
    if (message.ends_with('\n')) message.pop_back();
    messages.push_back(std::move(message));
  }
  return messages;
}

constexpr char kFourthRun[] =
    "  Actual: 2 distinct patterns; 1 of 10 runs differs from run 0\n"
    "   First: run 3, element 0; 0x80000000 (-0) instead of 0x00000000 (0), 0 ulp; 1 of 1 elements differ, max "
    "|difference| 0, max 0 ulp\n"
    "    Rate: 11.1 % of runs; at least 0.568 %, at most 42.9 %, each with 95 % certainty if runs are independent\n";

TEST_F(Messages, ExpectDeterministic) {
  const std::vector<std::string> failures = FailuresOf([] { EXPECT_DETERMINISTIC(FourthRunDiffers) << "streamed"; });
  EXPECT_THAT(failures, testing::ElementsAre(
                            std::string("Expected: FourthRunDiffers gives one bit pattern in 10 runs\n") + kFourthRun +
                            "  Re-run: ./tests --gtest_filter='Messages.ExpectDeterministic' "
                            "--determinism_runs=10 --determinism_seed=42\nstreamed"));
}

TEST_F(Messages, AssertDeterministicIsFatal) {
  EXPECT_FATAL_FAILURE(ASSERT_DETERMINISTIC(FourthRunDiffers) << "streamed",
                       std::string("Expected: FourthRunDiffers gives one bit pattern in 10 runs\n") + kFourthRun +
                           "  Re-run: ./tests --gtest_filter='Messages.AssertDeterministicIsFatal' "
                           "--determinism_runs=10 --determinism_seed=42\nstreamed");
}

TEST_F(Messages, ExpectDeterministicWith) {
  EXPECT_NONFATAL_FAILURE(EXPECT_DETERMINISTIC_WITH((Options{.runs = 5, .warmups = 1, .seed = 7}), FourthRunDiffers),
                          "Expected: FourthRunDiffers gives one bit pattern in 5 runs\n"
                          "  Actual: 2 distinct patterns; 1 of 5 runs differs from run 0\n"
                          "   First: run 2, element 0; 0x80000000 (-0) instead of 0x00000000 (0), 0 ulp");
}

TEST_F(Messages, AssertDeterministicWithIsFatal) {
  EXPECT_FATAL_FAILURE(ASSERT_DETERMINISTIC_WITH(Options{.runs = 1}, FourthRunDiffers),
                       "Expected: FourthRunDiffers gives one bit pattern in 1 run\n"
                       "  Actual: inconclusive: one run has nothing to be compared with; ask for at least 2\n"
                       "  Re-run: ./tests --gtest_filter='Messages.AssertDeterministicWithIsFatal'");
}

TEST_F(Messages, LambdaWithCommasKeepsItsSourceText) {
  int a = 0, b = 0;
  const std::vector<std::string> failures = FailuresOf([&] {
    EXPECT_DETERMINISTIC([&a, &b] {
      std::pair<int, int> c{a, ++b};
      return c;
    });
  });
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_EQ(failures[0].substr(0, failures[0].find("   First")),
            "Expected: [&a, &b] { std::pair<int, int> c{a, ++b}; return c; } gives one bit pattern in 10 runs\n"
            "  Actual: 10 distinct patterns; 9 of 10 runs differ from run 0\n");
  EXPECT_THAT(failures[0], testing::HasSubstr("First: run 1, '[1]', element 0; 0x00000002 (2) instead of 0x00000001 "
                                              "(1); 1 of 1 elements differ, max |difference| 1; 1 of 2 parts differ"));
}

TEST_F(Messages, InputsAndACallable) {
  int call = 0;
  const std::vector<std::string> failures = FailuresOf([&call] {
    EXPECT_DETERMINISTIC_WITH(Options{.runs = 3}, Inputs(2, [](int i) { return i; }),
                              [&call](int i) { return i == 1 ? ++call : 0; });
  });
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_THAT(failures[0],
              testing::HasSubstr("gives one bit pattern in 3 runs of each of 2 inputs\n"
                                 "  Actual: up to 3 distinct patterns for one of 2 inputs; 2 of 4 runs differ from run "
                                 "0 of their input\n"
                                 "   First: input 1, run 1, element 0; 0x00000002 (2) instead of 0x00000001 (1)"));
}

TEST_F(Messages, OutputNeverWritten) {
  EXPECT_NONFATAL_FAILURE(EXPECT_DETERMINISTIC([](Outputs& out) {
                            out.Buffer<float>("y", {2, 2})[0] = 1;
                          }),
                          "  Actual: error: element 1 of output 'y' was never written: it still holds the poison of "
                          "each run (3 of 4 elements)\n");
}

template <class T>
void ExpectInATemplate(T value) {
  EXPECT_DETERMINISTIC([&] { return std::vector<T>(2, ++value); }) << "for this type";
}

TEST_F(Messages, InATemplate) {
  const std::vector<std::string> failures = FailuresOf([] { ExpectInATemplate<std::int64_t>(0); });
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_THAT(failures[0],
              testing::StartsWith("Expected: [&] { return std::vector<T>(2, ++value); } gives one bit pattern in 10 "
                                  "runs\n  Actual: 10 distinct patterns"));
  EXPECT_THAT(failures[0], testing::EndsWith("\nfor this type"));
}

TEST_F(Messages, InAnIfWithoutBraces) {
  bool otherwise = false;
  if (calls == 0)
    EXPECT_DETERMINISTIC([] { return 1; });
  else
    otherwise = true;
  if (calls == 1)
    EXPECT_BIT_EXACT(1, 2);
  else
    otherwise = true;
  EXPECT_TRUE(otherwise);
}

TEST_F(Messages, SuccessIsWordedToo) {
  const testing::AssertionResult result = internal::IsDeterministic(
      {"EXPECT_DETERMINISTIC", "f", __FILE__, __LINE__},
      [](const Options& options) { return RunRepeated([] { return 1; }, options); }, Options{});
  EXPECT_TRUE(result);
  EXPECT_STREQ(result.message(),
               "10 of 10 runs bit-exact; a deviation of probability >= 28.3 % per run would have been seen with 95 % "
               "certainty (9 comparisons, if runs are independent)");
}

// Of several inputs the bound is that of the mean of their rates.
TEST_F(Messages, SuccessOfSeveralInputs) {
  const testing::AssertionResult result = internal::IsDeterministic(
      {"EXPECT_DETERMINISTIC", "f", __FILE__, __LINE__},
      [](const Options& options) {
        return RunRepeated(
            Inputs(2, [](int i) { return i; }), [](int i) { return i; }, options);
      },
      Options{.runs = 10});
  EXPECT_TRUE(result);
  EXPECT_STREQ(result.message(),
               "2 inputs, for each 10 of 10 runs bit-exact; a deviation of probability >= 15.3 % per run, on average "
               "over these inputs, would have been seen with 95 % certainty (18 comparisons, if runs are independent)");
}

TEST_F(Messages, ExpectBitExact) {
  const std::vector<float> actual = {1, 2, 3}, expected = {1, 2.5f, 3};
  const std::vector<std::string> failures = FailuresOf([&] { EXPECT_BIT_EXACT(actual, expected) << "streamed"; });
  EXPECT_THAT(failures,
              testing::ElementsAre("Expected: actual has the bits of expected\n"
                                   "  Actual: element 1; 0x40000000 (2) instead of 0x40200000 (2.5), 2097152 ulp; 1 of "
                                   "3 elements differ, max |difference| 0.5, max 2097152 ulp\n"
                                   "  Re-run: ./tests --gtest_filter='Messages.ExpectBitExact'\nstreamed"));
  EXPECT_BIT_EXACT(actual, actual);
}

TEST_F(Messages, AssertBitExactIsFatal) {
  EXPECT_FATAL_FAILURE(ASSERT_BIT_EXACT(0.0, -0.0),
                       "Expected: 0.0 has the bits of -0.0\n"
                       "  Actual: element 0; 0x0000000000000000 (0) instead of 0x8000000000000000 (-0), 0 ulp");
}

TEST_F(Messages, BitExactOfNothingIsAFailure) {
  const std::vector<float> none;
  EXPECT_NONFATAL_FAILURE(EXPECT_BIT_EXACT(none, none), "  Actual: both are empty, so nothing was compared");
}

TEST_F(Messages, Matchers) {
  const Report exact = RunRepeated([] { return 1; });
  calls = 0;
  const Report noisy = RunRepeated(FourthRunDiffers);
  EXPECT_NONFATAL_FAILURE(EXPECT_THAT(noisy, IsBitExact()),
                          "Value of: noisy\nExpected: is bit-exact over its runs\n"
                          "  Actual: 2 distinct patterns; 1 of 10 runs differs from run 0\n   First: run 3, element 0");
  EXPECT_NONFATAL_FAILURE(EXPECT_THAT(exact, Not(IsBitExact())), "Expected: is not bit-exact over its runs");
  EXPECT_NONFATAL_FAILURE(EXPECT_THAT(exact, IsNondeterministic()), "Expected: shows a difference between its runs");
  EXPECT_NONFATAL_FAILURE(EXPECT_THAT(noisy, DistinctPatterns(Le(1))),
                          "Expected: has for each input a number of distinct patterns that is <= 1");
  EXPECT_NONFATAL_FAILURE(EXPECT_THAT(noisy, DistinctPatterns(Le(1))), "input 0 has 2");
  EXPECT_NONFATAL_FAILURE(EXPECT_THAT(noisy, DeviationRateBelow(0.01)), "Expected: excludes deviation rates above 1 %");
  EXPECT_NONFATAL_FAILURE(EXPECT_THAT(noisy, DeviationRateBelow(0.01)),
                          "the upper bound is 42.9 % (1 of 9 comparisons differ)");
  EXPECT_NONFATAL_FAILURE(EXPECT_THAT(noisy, HasOutcome(Outcome::kBitExact)), "Expected: has the outcome bit_exact");
}

}  // namespace
}  // namespace gtest_determinism
