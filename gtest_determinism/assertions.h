// Assertions over RunRepeated() and over bits.
//
//   TEST(SplitK, RunToRun) {
//     EXPECT_DETERMINISTIC([&] { return SplitKMatmul(x, w); });
//     EXPECT_DETERMINISTIC_WITH((Options{.runs = 300, .warmups = 3}), [&] { return SplitKMatmul(x, w); });
//     EXPECT_DETERMINISTIC(Inputs(8, RandomMatrix), [&](const Matrix& m) { return SplitKMatmul(m, w); });
//     EXPECT_DETERMINISTIC([&](Outputs& out) { SplitKMatmul(x, w, out.Buffer<float>("y", {m, n}).data()); });
//     EXPECT_BIT_EXACT(SplitKMatmul(x, w), expected);
//   }
//
// Each is sugar over a function that returns testing::AssertionResult. Only
// Outcome::kBitExact passes. A pass prints one line with its power (not with
// --determinism_quiet); every Report becomes properties of the test
// ("determinism_runs", and for a second one in the same test
// "determinism_2_runs") and is published in ResultSink.
//
// A callable that skips the test (GTEST_SKIP() in one that fills Outputs, or by
// throwing SkipRuns) makes the test skipped. gtest has no way to leave a test
// body from an assertion without failing it, so the body goes on.
#ifndef GTEST_DETERMINISM_ASSERTIONS_H_
#define GTEST_DETERMINISM_ASSERTIONS_H_

#include <gtest/gtest.h>

#include <functional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>

#include "gtest_determinism/has_bits.h"
#include "gtest_determinism/options.h"
#include "gtest_determinism/report.h"
#include "gtest_determinism/runner.h"

namespace gtest_determinism {

// Publishes a Report that no macro made, under this name, and returns it:
//   EXPECT_THAT(Record("atomic sum", RunRepeated(atomic_sum)), IsNondeterministic());
Report Record(std::string_view name, Report report, std::source_location where = std::source_location::current());

namespace internal {

// Names and places of one use of a macro.
struct Site {
  const char* assertion;
  const char* expression;
  const char* file;
  int line;
};

// What the macros pass on: how to make the Report.
using MakeReport = std::function<Report(const Options&)>;

testing::AssertionResult IsDeterministic(const Site& site, const MakeReport& make, const Options& options);
testing::AssertionResult IsBitExactTo(const char* actual_text, const char* expected_text, const Trace& actual,
                                      const Trace& expected);

// From the arguments of a macro, which a lambda's commas may have split, back to
// a call of RunRepeated().
template <class F>
auto Repeat(F&& callable) {
  return [&callable](const Options& options) { return RunRepeated(callable, options); };
}
template <class Generator, class F>
auto Repeat(Inputs<Generator> inputs, F&& callable) {
  return [inputs = std::move(inputs), &callable](const Options& options) {
    return RunRepeated(inputs, callable, options);
  };
}

struct DeterministicFormatter {
  Site site;
  template <class Make>
  testing::AssertionResult operator()(const char*, const Make& make) const {
    return IsDeterministic(site, make, Options{});
  }
  template <class Make>
  testing::AssertionResult operator()(const char*, const char*, const Options& options, const Make& make) const {
    return IsDeterministic(site, make, options);
  }
};

struct BitExactFormatter {
  template <class A, class E>
  testing::AssertionResult operator()(const char* actual_text, const char* expected_text, const A& actual,
                                      const E& expected) const {
    return IsBitExactTo(actual_text, expected_text, TraceOf(actual), TraceOf(expected));
  }
};

// Tells the engine of GTEST_SKIP() and fatal failures inside a callable.
bool InstallGoogleTestProbe();
inline const bool kGoogleTestProbe = InstallGoogleTestProbe();

}  // namespace internal

// The text is taken here and not further in, where macros in it are expanded.
#define GTEST_DETERMINISM_FORMATTER_(assertion, expression) \
  (::gtest_determinism::internal::DeterministicFormatter{   \
      ::gtest_determinism::internal::Site{assertion, expression, __FILE__, __LINE__}})

// The callable gives one bit pattern in all its runs. Argument: a callable, or
// Inputs(n, generator) and a callable (runner.h).
#define EXPECT_DETERMINISTIC(...)                                                         \
  EXPECT_PRED_FORMAT1(GTEST_DETERMINISM_FORMATTER_("EXPECT_DETERMINISTIC", #__VA_ARGS__), \
                      ::gtest_determinism::internal::Repeat(__VA_ARGS__))
#define ASSERT_DETERMINISTIC(...)                                                         \
  ASSERT_PRED_FORMAT1(GTEST_DETERMINISM_FORMATTER_("ASSERT_DETERMINISTIC", #__VA_ARGS__), \
                      ::gtest_determinism::internal::Repeat(__VA_ARGS__))

// With options, which stand in parentheses where they have commas.
#define EXPECT_DETERMINISTIC_WITH(options, ...)                                                         \
  EXPECT_PRED_FORMAT2(GTEST_DETERMINISM_FORMATTER_("EXPECT_DETERMINISTIC_WITH", #__VA_ARGS__), options, \
                      ::gtest_determinism::internal::Repeat(__VA_ARGS__))
#define ASSERT_DETERMINISTIC_WITH(options, ...)                                                         \
  ASSERT_PRED_FORMAT2(GTEST_DETERMINISM_FORMATTER_("ASSERT_DETERMINISTIC_WITH", #__VA_ARGS__), options, \
                      ::gtest_determinism::internal::Repeat(__VA_ARGS__))

// Two values have the same parts with the same bytes: -0.0 is not +0.0, a NaN
// equals itself. Values without any element compare nothing, which is a failure.
#define EXPECT_BIT_EXACT(actual, expected) \
  EXPECT_PRED_FORMAT2(::gtest_determinism::internal::BitExactFormatter{}, actual, expected)
#define ASSERT_BIT_EXACT(actual, expected) \
  ASSERT_PRED_FORMAT2(::gtest_determinism::internal::BitExactFormatter{}, actual, expected)

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_ASSERTIONS_H_
