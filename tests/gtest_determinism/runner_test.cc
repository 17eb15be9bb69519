#include "gtest_determinism/runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "far_memory.h"
#include "gtest_determinism/assertions.h"
#include "gtest_determinism/configuration.h"
#include "gtest_determinism/matchers.h"

namespace gtest_determinism {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Le;
using testing::Not;
using testing::SizeIs;

Options Runs(int runs) { return {.runs = runs, .perturbations = std::vector<std::shared_ptr<Perturbation>>{}}; }

// Returns the values one after the other, then again from the first.
auto Cycle(std::vector<float> values) {
  return [values, i = std::size_t{0}]() mutable { return values[i++ % values.size()]; };
}

int FreeFunction() { return 3; }

TEST(RunRepeatedTest, EqualRunsAreBitExact) {
  const Report report = RunRepeated([] { return std::vector<float>(100, 1.5f); }, Runs(20));
  EXPECT_EQ(report.outcome, Outcome::kBitExact);
  EXPECT_EQ(report.reason, "");
  EXPECT_EQ(report.requested_runs, 20);
  EXPECT_EQ(report.runs, 20);
  EXPECT_EQ(report.inputs, 1);
  EXPECT_EQ(report.elements, 100);
  EXPECT_EQ(report.bytes, 400);
  EXPECT_THAT(report.patterns, SizeIs(1));
  EXPECT_EQ(report.patterns[0].runs, 20);
  EXPECT_THAT(report.pattern_of_run, AllOf(SizeIs(20), Each(0)));
  EXPECT_THAT(report.distinct_of_input, ElementsAre(1));
  EXPECT_THAT(report.seconds, SizeIs(20));
  EXPECT_FALSE(report.first_divergence.has_value());
  EXPECT_FALSE(report.stopped_early);
  EXPECT_EQ(report.power.comparisons, 19);
  EXPECT_NEAR(report.power.upper_bound, 0.14586850331224345, 1e-12);
}

TEST(RunRepeatedTest, PatternsInOrderOfAppearance) {
  const Report report = RunRepeated(Cycle({1, 2, 1, 3, 2}), Runs(10));
  EXPECT_EQ(report.outcome, Outcome::kNondeterministic);
  EXPECT_THAT(report.pattern_of_run, ElementsAre(0, 1, 0, 2, 1, 0, 1, 0, 2, 1));
  ASSERT_THAT(report.patterns, SizeIs(3));
  EXPECT_EQ(report.patterns[0].runs, 4);
  EXPECT_EQ(report.patterns[1].runs, 4);
  EXPECT_EQ(report.patterns[1].first_run, 1);
  EXPECT_EQ(report.patterns[2].runs, 2);
  EXPECT_EQ(report.patterns[2].first_run, 3);
  EXPECT_EQ(report.power.deviations, 6);
  EXPECT_EQ(report.power.comparisons, 9);
  EXPECT_EQ(report.first_divergence->run, 1);
  EXPECT_EQ(report.first_divergence->diff.actual_value, "2");
}

TEST(RunRepeatedTest, BytesDecide) {
  EXPECT_THAT(RunRepeated(Cycle({0.0f, -0.0f}), Runs(2)), IsNondeterministic());
  EXPECT_THAT(RunRepeated(Cycle({std::numeric_limits<float>::quiet_NaN()}), Runs(2)), IsBitExact());
}

TEST(RunRepeatedTest, SizeThatChangesIsADifference) {
  std::size_t n = 3;
  const Report report = RunRepeated([&n] { return std::vector<float>(n++); }, Runs(2));
  EXPECT_THAT(report, IsNondeterministic());
  EXPECT_EQ(report.first_divergence->diff.mismatch, "float32[4] instead of float32[3]");
}

TEST(RunRepeatedTest, DTypeThatChangesIsADifference) {
  int run = 0;
  const float zero = 0;
  const auto changing = [&] {
    BitView view{.data = &zero, .bytes = 4, .dtype = run++ == 0 ? DType::kFloat32 : DType::kInt32, .shape = {}};
    return view;
  };
  EXPECT_EQ(RunRepeated(changing, Runs(2)).first_divergence->diff.mismatch, "int32[] instead of float32[]");
}

TEST(RunRepeatedTest, WhatIsReturnedByReferenceIsKeptByValue) {
  std::vector<int> state = {1, 2};
  const auto by_reference = [&state]() -> const std::vector<int>& {
    ++state[1];
    return state;
  };
  EXPECT_THAT(RunRepeated(by_reference, Runs(3)), IsNondeterministic());
  const auto by_span = [&state] {
    ++state[0];
    return std::span<const int>(state);
  };
  EXPECT_THAT(RunRepeated(by_span, Runs(3)), IsNondeterministic());
}

TEST(RunRepeatedTest, TakesFunctionsAndMoveOnlyCallables) {
  EXPECT_THAT(RunRepeated(FreeFunction, Runs(2)), IsBitExact());
  EXPECT_THAT(RunRepeated(&FreeFunction, Runs(2)), IsBitExact());
  EXPECT_THAT(RunRepeated([p = std::make_unique<int>(3)] { return *p; }, Runs(2)), IsBitExact());
}

TEST(RunRepeatedTest, OnePartOfATrace) {
  int run = 0;
  const Report report = RunRepeated(
      [&run] {
        ++run;
        return std::tuple(1, std::vector<float>{1, 2}, std::vector<float>{3, run == 4 ? 5.f : 4.f});
      },
      Runs(5));
  EXPECT_EQ(report.first_divergence->part, "[2]");
  EXPECT_EQ(report.first_divergence->part_index, 2);
  EXPECT_EQ(report.first_divergence->parts, 3);
  EXPECT_EQ(report.first_divergence->different_parts, 1);
  EXPECT_EQ(report.first_divergence->diff.element, 1);
  EXPECT_EQ(report.elements, 5);
}

TEST(RunRepeatedTest, NothingComparedIsInconclusive) {
  const auto one = [] { return 1; };
  EXPECT_EQ(RunRepeated(one, Runs(0)).outcome, Outcome::kInconclusive);
  EXPECT_THAT(RunRepeated(one, Runs(0)).reason, HasSubstr("no runs were asked for"));
  EXPECT_EQ(RunRepeated(one, Runs(-3)).outcome, Outcome::kInconclusive);
  EXPECT_EQ(RunRepeated(one, Runs(1)).outcome, Outcome::kInconclusive);
  EXPECT_THAT(RunRepeated(one, Runs(1)).reason, HasSubstr("one run has nothing to be compared with"));
  EXPECT_EQ(RunRepeated(one, Runs(1)).power.upper_bound, 1);
  const Report empty = RunRepeated([] { return std::vector<float>(); }, Runs(5));
  EXPECT_EQ(empty.outcome, Outcome::kInconclusive);
  EXPECT_THAT(empty.reason, HasSubstr("no elements"));
  EXPECT_EQ(RunRepeated([](Outputs&) {}, Runs(5)).outcome, Outcome::kInconclusive);
}

TEST(RunRepeatedTest, WhatIsThrownIsAnError) {
  int run = 0;
  const Report report = RunRepeated([&run] { return ++run == 4 ? throw std::runtime_error("boom") : 1; }, Runs(9));
  EXPECT_EQ(report.outcome, Outcome::kError);
  EXPECT_EQ(report.reason, "run 3 threw: boom");
  EXPECT_EQ(report.runs, 3);
  EXPECT_EQ(report.power.comparisons, 2);
  EXPECT_EQ(RunRepeated([]() -> int { throw 7; }, Runs(2)).reason,
            "run 0 threw: something that is not a std::exception");
}

TEST(RunRepeatedTest, SkipRunsSkips) {
  const Report report = RunRepeated([]() -> int { throw SkipRuns("no AVX-512 here"); }, Runs(9));
  EXPECT_EQ(report.outcome, Outcome::kSkipped);
  EXPECT_EQ(report.reason, "no AVX-512 here");
}

TEST(RunRepeatedTest, WarmUpsAreNotCompared) {
  int calls = 0;
  const Report report =
      RunRepeated([&calls] { return ++calls <= 3 ? calls : 10; },
                  {.runs = 4, .warmups = 3, .perturbations = std::vector<std::shared_ptr<Perturbation>>{}});
  EXPECT_THAT(report, IsBitExact());
  EXPECT_EQ(calls, 7);
}

TEST(RunRepeatedTest, ProgressIsReported) {
  std::vector<std::pair<int, int>> seen;
  Options options = Runs(3);
  options.on_run = [&seen](int run, int runs) { seen.emplace_back(run, runs); };
  RunRepeated([] { return 1; }, options);
  EXPECT_THAT(seen, ElementsAre(std::pair(1, 3), std::pair(2, 3), std::pair(3, 3)));
}

TEST(RunRepeatedTest, StopsAtTheFirstDifference) {
  int calls = 0;
  Options options = Runs(100);
  options.stop_at_first_difference = true;
  const Report report = RunRepeated([&calls] { return ++calls >= 5; }, options);
  EXPECT_THAT(report, IsNondeterministic());
  EXPECT_EQ(calls, 5);
  EXPECT_EQ(report.runs, 5);
  EXPECT_TRUE(report.stopped_early);
  EXPECT_EQ(report.power.comparisons, 4);
}

TEST(RunRepeatedTest, RateBelowChoosesTheCount) {
  Options options = Runs(0);
  options.runs.reset();
  options.rate_below = 0.05;
  int calls = 0;
  const Report report = RunRepeated([&calls] { return ++calls, 1; }, options);
  EXPECT_EQ(calls, 60);
  EXPECT_THAT(report, AllOf(IsBitExact(), DeviationRateBelow(0.05)));
  options.runs = 100;
  EXPECT_EQ(RunRepeated([] { return 1; }, options).runs, 100);
  options.rate_below = 2;
  EXPECT_EQ(RunRepeated([] { return 1; }, options).outcome, Outcome::kError);
}

TEST(RunRepeatedTest, BudgetEndsTheRunsAndTheClaim) {
  Options options = Runs(1000000);
  options.budget = std::chrono::milliseconds(30);
  const Report report =
      RunRepeated([] { return std::this_thread::sleep_for(std::chrono::milliseconds(1)), 1; }, options);
  EXPECT_TRUE(report.stopped_early);
  EXPECT_LT(report.runs, 1000);
  EXPECT_EQ(report.power.comparisons, report.runs - 1);

  options.rate_below = 1e-4;
  const Report short_of =
      RunRepeated([] { return std::this_thread::sleep_for(std::chrono::milliseconds(1)), 1; }, options);
  EXPECT_EQ(short_of.outcome, Outcome::kInconclusive);
  EXPECT_THAT(short_of.reason, AllOf(HasSubstr("not above the 0.0001 asked for"), HasSubstr("the time budget ended")));

  options.budget = std::chrono::nanoseconds(0);
  const Report none = RunRepeated([] { return 1; }, options);
  EXPECT_EQ(none.outcome, Outcome::kInconclusive);
  EXPECT_THAT(none.reason, HasSubstr("the time budget ended before two runs were made"));
}

TEST(InputsTest, EveryInputHasItsOwnRunZero) {
  std::vector<int> made;
  const Report report = RunRepeated(
      Inputs(3,
             [&made](int i) {
               made.push_back(i);
               return std::vector<int>(2, i);
             }),
      [](const std::vector<int>& v) { return v; }, Runs(4));
  EXPECT_THAT(report, IsBitExact());
  EXPECT_THAT(made, ElementsAre(0, 1, 2)) << "made once, then frozen";
  EXPECT_EQ(report.inputs, 3);
  EXPECT_EQ(report.power.comparisons, 9);
  EXPECT_THAT(report.distinct_of_input, ElementsAre(1, 1, 1));
}

TEST(InputsTest, OneInputOfSeveralThatShowsIt) {
  int calls = 0;
  const Report report = RunRepeated(
      Inputs(3, [](int i) { return i; }), [&calls](int i) { return i == 1 ? ++calls % 2 : i; }, Runs(4));
  EXPECT_THAT(report, IsNondeterministic());
  EXPECT_THAT(report.distinct_of_input, ElementsAre(1, 2, 1));
  EXPECT_EQ(report.first_divergence->input, 1);
  EXPECT_EQ(report.first_divergence->run, 1);
  EXPECT_THAT(report.patterns, SizeIs(1)) << "those of input 0";
  EXPECT_EQ(report.power.deviations, 2);
  EXPECT_THAT(report, DistinctPatterns(Le(2)));
  EXPECT_THAT(report, Not(DistinctPatterns(1)));
}

TEST(InputsTest, FillingOutputs) {
  const Report report = RunRepeated(
      Inputs(2, [](int i) { return i; }), [](int i, Outputs& out) { out.Buffer<int>("y", {1})[0] = i; }, Runs(3));
  EXPECT_THAT(report, IsBitExact());
}

TEST(InputsTest, NoneOrAGeneratorThatThrows) {
  const auto same = [](int i) { return i; };
  EXPECT_EQ(RunRepeated(Inputs(0, same), same, Runs(3)).outcome, Outcome::kInconclusive);
  const Report report =
      RunRepeated(Inputs(3, [](int i) { return i == 1 ? throw std::runtime_error("no data") : i; }), same, Runs(3));
  EXPECT_EQ(report.outcome, Outcome::kError);
  EXPECT_EQ(report.reason, "input 1 threw: no data");
}

TEST(InputsTest, RateBelowIsSharedAmongThem) {
  Options options = Runs(0);
  options.runs.reset();
  options.rate_below = 0.05;
  const Report report = RunRepeated(
      Inputs(4, [](int i) { return i; }), [](int i) { return i; }, options);
  EXPECT_EQ(report.power.comparisons, 60);  // 59 are needed: 15 of each
  EXPECT_THAT(report, DeviationRateBelow(0.05));
}

TEST(DigestOnlyTest, NamesPatternsWithoutKeepingBytes) {
  Options options = Runs(6);
  options.digest_only = true;
  const Report exact = RunRepeated([] { return std::vector<int>{1, 2}; }, options);
  EXPECT_THAT(exact, IsBitExact());
  EXPECT_TRUE(exact.compared_by_digest_only);
  const Report report = RunRepeated(Cycle({1, 2, 3}), options);
  EXPECT_THAT(report, IsNondeterministic());
  EXPECT_THAT(report.pattern_of_run, ElementsAre(0, 1, 2, 0, 1, 2));
  EXPECT_EQ(report.first_divergence->part_index, -1);
  EXPECT_THAT(report.first_divergence->diff.mismatch, HasSubstr("another digest"));
  std::size_t n = 1;
  const Report growing = RunRepeated([&n] { return std::vector<float>(n++); }, options);
  EXPECT_EQ(growing.first_divergence->diff.mismatch, "float32[2] instead of float32[1]");
}

// ---- the check of the check, and controls ----

TEST(ControlTest, FlippedBitIsFoundInEveryReport) {
  for (const bool digest_only : {false, true}) {
    Options options = Runs(2);
    options.digest_only = digest_only;
    const Report report = RunRepeated([] { return std::vector<float>(1000, 1); }, options);
    ASSERT_THAT(report.controls, SizeIs(1));
    EXPECT_EQ(report.controls[0].name, "flipped_bit");
    EXPECT_TRUE(report.controls[0].as_expected);
    EXPECT_THAT(report.controls[0].detail, HasSubstr("flipped in a copy of run 0: found"));
  }
}

// A space whose comparison is blind: the report must say so, not pass.
class BlindMemory final : public MemorySpace {
 public:
  std::string_view Name() const override { return "blind"; }
  std::shared_ptr<void> Allocate(std::size_t bytes) const override { return HostMemory().Allocate(bytes); }
  void Copy(void* to, const void* from, std::size_t n) const override { HostMemory().Copy(to, from, n); }
  void CopyToHost(void* to, const void* from, std::size_t n) const override { HostMemory().Copy(to, from, n); }
  void Fill(void* to, std::uint8_t value, std::size_t n) const override { HostMemory().Fill(to, value, n); }
  bool Equal(const void*, const void*, std::size_t) const override { return true; }
  void Synchronize() const override {}
};

TEST(ControlTest, ComparisonThatSeesNothingIsInconclusive) {
  const BlindMemory blind;
  const std::vector<float> values(4);
  const Report report = RunRepeated(
      [&] {
        BitView view = TraceOf(values)[0].view;
        view.space = &blind;
        return view;
      },
      Runs(5));
  EXPECT_EQ(report.outcome, Outcome::kInconclusive);
  EXPECT_THAT(report.reason, HasSubstr("the comparison is broken"));
}

Control ControlOf(bool expects_difference, bool differs) {
  return {.name = expects_difference ? "arrival_order" : "ordered",
          .expects_difference = expects_difference,
          .run = [differs] {
            return RunRepeated(Cycle(differs ? std::vector<float>{1, 2} : std::vector<float>{1}), Runs(4));
          }};
}

TEST(ControlTest, ThoseThatAreAsTheyMustBe) {
  Options options = Runs(3);
  options.controls = {ControlOf(true, true), ControlOf(false, false)};
  const Report report = RunRepeated([] { return 1; }, options);
  EXPECT_THAT(report, IsBitExact());
  ASSERT_THAT(report.controls, SizeIs(3));
  EXPECT_EQ(report.controls[1].deviations, 2);
  EXPECT_EQ(report.controls[1].runs, 4);
  EXPECT_TRUE(report.controls[1].as_expected);
  EXPECT_EQ(report.controls[2].outcome, Outcome::kBitExact);
}

TEST(ControlTest, SilentControlMakesAPassInconclusive) {
  Options options = Runs(3);
  options.controls = {ControlOf(true, false)};
  const Report report = RunRepeated([] { return 1; }, options);
  EXPECT_EQ(report.outcome, Outcome::kInconclusive);
  EXPECT_EQ(report.reason, "control 'arrival_order' should have differed and did not: 0 of 3 comparisons differ");
  // A difference that was seen needs no proof that one can be seen.
  EXPECT_THAT(RunRepeated(Cycle({1, 2}), options), IsNondeterministic());
}

TEST(ControlTest, ExactTwinThatDiffersMakesEverythingInconclusive) {
  Options options = Runs(3);
  options.controls = {ControlOf(false, true)};
  EXPECT_EQ(RunRepeated([] { return 1; }, options).outcome, Outcome::kInconclusive);
  EXPECT_EQ(RunRepeated(Cycle({1, 2}), options).outcome, Outcome::kInconclusive);
}

TEST(ControlTest, ControlThatThrowsIsNotAsItMustBe) {
  Options options = Runs(3);
  options.controls = {
      {.name = "c", .expects_difference = true, .run = []() -> Report { throw std::runtime_error("x"); }}};
  const Report report = RunRepeated([] { return 1; }, options);
  EXPECT_EQ(report.outcome, Outcome::kInconclusive);
  EXPECT_THAT(report.reason, HasSubstr("it threw: x"));
}

TEST(RunRepeatedTest, UsesTheConfigurationWhereOptionsAreUnset) {
  const Configuration saved = GetConfiguration();
  Configuration configuration = saved;
  configuration.runs = 7;
  configuration.seed = 5;
  configuration.perturb = false;
  SetConfiguration(configuration);
  const Report report = RunRepeated([] { return 1; });
  EXPECT_EQ(report.runs, 7);
  EXPECT_EQ(report.seed, 5u);
  EXPECT_THAT(report.perturbations, SizeIs(0));
  configuration.perturb = true;
  configuration.rate_below = 0.5;
  SetConfiguration(configuration);
  EXPECT_EQ(RunRepeated([] { return 1; }).runs, 6);
  EXPECT_THAT(RunRepeated([] { return 1; }).perturbations, SizeIs(2));
  SetConfiguration(saved);
}

TEST(MatchersTest, DeviationRateBelowNeedsTheBound) {
  EXPECT_THAT(RunRepeated([] { return 1; }, Runs(60)), DeviationRateBelow(0.05));
  EXPECT_THAT(RunRepeated([] { return 1; }, Runs(59)), Not(DeviationRateBelow(0.05)));
  EXPECT_THAT(RunRepeated(Cycle({1, 1, 1, 1, 1, 1, 1, 1, 1, 2}), Runs(100)), DeviationRateBelow(0.2));
  EXPECT_THAT(Report{}, AllOf(Not(IsBitExact()), Not(IsNondeterministic()), Not(DistinctPatterns(Le(5))),
                              Not(DeviationRateBelow(0.999)), HasOutcome(Outcome::kInconclusive)));
}

}  // namespace
}  // namespace gtest_determinism
