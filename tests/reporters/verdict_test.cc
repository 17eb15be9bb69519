// Each rule of docs/verdicts.md, and beside it the record from which only that
// rule's cause was taken out.
#include "reporters/verdict.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>

#include "reporters/text.h"
#include "tests/reporters/golden.h"
#include "tests/reporters/sample_records.h"

namespace reporters {
namespace {

using gtest_determinism::Outcome;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

TEST(DeriveVerdict, BitExact) {
  const Verdict verdict = DeriveVerdict(BitExactRecord());
  EXPECT_EQ(verdict.rule, "V12");
  EXPECT_EQ(verdict.outcome, Outcome::kBitExact);
  EXPECT_EQ(verdict.is_deterministic, true);
  EXPECT_EQ(verdict.summary, "BASELINE IS DETERMINISTIC");
  EXPECT_TRUE(verdict.deterministic_mode_tested);
  EXPECT_TRUE(verdict.met_expectation);
  EXPECT_EQ(verdict.reason, "");
  // 1 - 0.05^(1/5) = 45.1 %; 0.451^4 < 5 % < 0.451^3.
  EXPECT_THAT(verdict.forensic_implications, HasSubstr("at most 45.1 %"));
  EXPECT_THAT(verdict.forensic_implications, HasSubstr("4 deviating samples in a row"));
  EXPECT_THAT(verdict.details, Contains(HasSubstr("A deviation of probability 45.1 %")));
}

TEST(DeriveVerdict, Nondeterministic) {
  const Verdict verdict = DeriveVerdict(NondeterministicRecord());
  EXPECT_EQ(verdict.rule, "V11");
  EXPECT_EQ(verdict.outcome, Outcome::kNondeterministic);
  EXPECT_EQ(verdict.is_deterministic, false);
  EXPECT_EQ(verdict.summary, "BASELINE IS NON-DETERMINISTIC");
  EXPECT_TRUE(verdict.met_expectation);
  EXPECT_THAT(verdict.details, Contains("First divergence: repetition 4, logits[2], " +
                                        Describe(NondeterministicRecord().baseline.report.first_divergence->diff)));
  EXPECT_THAT(verdict.details, Contains(HasSubstr("at least 7.6 %; at most 81.1 % (each of the two holds alone")));
  EXPECT_THAT(verdict.details, Contains("Control flipped_logit_bit: 1 of 20 runs differs, as it must be"));
}

struct Case {
  const char* name;
  const char* rule;
  const char* reason;
  std::function<void(VariantRecord&)> break_it;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

void SetControl(VariantRecord& record, const std::string& name, bool as_expected) {
  for (auto* controls : {&record.controls, &record.baseline.report.controls}) {
    for (auto& control : *controls) {
      if (control.name == name) control.as_expected = as_expected;
    }
  }
}
void DropControls(VariantRecord& record, const std::function<bool(const gtest_determinism::ControlResult&)>& drop) {
  std::erase_if(record.controls, drop);
  std::erase_if(record.baseline.report.controls, drop);
}

class Inconclusive : public testing::TestWithParam<Case> {};

TEST_P(Inconclusive, IsNeverAClaim) {
  for (VariantRecord record : {BitExactRecord(), NondeterministicRecord()}) {
    ASSERT_TRUE(DeriveVerdict(record).is_deterministic.has_value()) << "the record must claim before it is broken";
    GetParam().break_it(record);
    const Verdict verdict = DeriveVerdict(record);
    EXPECT_EQ(verdict.rule, GetParam().rule) << verdict.reason;
    EXPECT_THAT(verdict.reason, HasSubstr(GetParam().reason));
    EXPECT_FALSE(verdict.is_deterministic.has_value());
    EXPECT_EQ(verdict.summary, "BASELINE IS INCONCLUSIVE");
    EXPECT_FALSE(verdict.met_expectation);
    EXPECT_THAT(verdict.root_cause, HasSubstr("Unknown"));
    EXPECT_THAT(verdict.forensic_implications, HasSubstr("None"));
    EXPECT_EQ(verdict.outcome, std::string(GetParam().rule) == "V1" ? Outcome::kError : Outcome::kInconclusive);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Rule, Inconclusive,
    testing::Values(
        Case{"DidNotRun", "V1", "no space",
             [](VariantRecord& r) {
               r.success = false;
               r.error = "no space";
             }},
        Case{"BaselineFailed", "V1", "threw",
             [](VariantRecord& r) {
               r.baseline.succeeded = false;
               r.baseline.error = "threw";
             }},
        Case{"OneRepetition", "V2", "there was 1",
             [](VariantRecord& r) {
               r.baseline.tokens.resize(1);
               r.baseline.logprobs.resize(1);
               r.baseline.report = ReportOf(1, 0);
             }},
        Case{"NoRepetition", "V2", "there were 0",
             [](VariantRecord& r) {
               r.baseline.tokens.clear();
               r.baseline.logprobs.clear();
               r.baseline.report = ReportOf(0, 0);
             }},
        Case{"ZeroTokens", "V3", "zero tokens",
             [](VariantRecord& r) {
               for (auto& row : r.baseline.tokens) row.clear();
               for (auto& row : r.baseline.logprobs) row.clear();
             }},
        Case{"ZeroElements", "V3", "zero elements", [](VariantRecord& r) { r.baseline.report.elements = 0; }},
        Case{"FlippedLogitNotFound", "V4", "flipped_logit_bit was not seen",
             [](VariantRecord& r) { SetControl(r, kFlippedLogitControl, false); }},
        Case{"FlippedBitNotFound", "V4", "flipped_bit was not seen",
             [](VariantRecord& r) { SetControl(r, "flipped_bit", false); }},
        Case{"ExactTwinDiffers", "V5", "ordered_twin was seen to differ",
             [](VariantRecord& r) { SetControl(r, kOrderedTwinControl, false); }},
        Case{"ControlSilent", "V6",
             "arrival_order_matmul was not seen to differ as often as it must (1 of 3 runs): [64, 768]",
             [](VariantRecord& r) { SetControl(r, kArrivalOrderControl, false); }},
        Case{"NoFlippedBit", "V7", "no control flipped a bit",
             [](VariantRecord& r) { DropControls(r, [](const auto& c) { return c.name.rfind("flipped", 0) == 0; }); }},
        Case{"NoTwin", "V7", "no exact control",
             [](VariantRecord& r) { DropControls(r, [](const auto& c) { return !c.expects_difference; }); }},
        Case{"NoArrivalOrder", "V7", "no control that must differ",
             [](VariantRecord& r) { DropControls(r, [](const auto& c) { return c.name == kArrivalOrderControl; }); }},
        Case{"KernelAbsent", "V8", "ran 0 times in the profile, where at least 140 calls must show",
             [](VariantRecord& r) { r.profile.expected_count = 0; }},
        Case{"KernelRanTooFewTimes", "V8", "ran 139 times in the profile, where at least 140 calls must show",
             [](VariantRecord& r) { r.profile.expected_count = 139; }},
        Case{"KernelRanTooFewTimesInIncomplete", "V8", "ran 139 times in an incomplete profile, where at least 140",
             [](VariantRecord& r) {
               r.profile.expected_count = 139;
               r.profile.status = ProfileStatus::kIncomplete;
             }},
        Case{"NoCallNeededIsNoProof", "V8", "ran 0 times in the profile, where at least 1 call must show",
             [](VariantRecord& r) { r.profile.expected_count = r.profile.expected_at_least = 0; }},
        Case{"KernelAbsentInIncomplete", "V8", "where at least 140 calls must show (3 records lost)",
             [](VariantRecord& r) {
               r.profile.expected_count = 0;
               r.profile.status = ProfileStatus::kIncomplete;
               r.profile.reason = "3 records lost";
             }},
        Case{"ProfileEmpty", "V8", "the profile is empty",
             [](VariantRecord& r) {
               r.profile.kernels.clear();
               r.profile.status = ProfileStatus::kEmpty;
             }},
        Case{"ProfileOkButEmpty", "V8", "the profile is empty", [](VariantRecord& r) { r.profile.kernels.clear(); }},
        Case{"ProfileUnavailable", "V8", "the profile is unavailable",
             [](VariantRecord& r) { r.profile.status = ProfileStatus::kUnavailable; }},
        Case{"ProfileNotRequested", "V8", "no profile was taken",
             [](VariantRecord& r) {
               r.profile = KernelProfile();
               r.profile.expected_kernel = "int4::marlin_gemm";
             }},
        Case{"NoKernelNamed", "V8", "no kernel is named", [](VariantRecord& r) { r.profile.expected_kernel.clear(); }},
        Case{"RowsMissing", "V9", "6 runs compared, 5 rows",
             [](VariantRecord& r) {
               r.baseline.tokens.pop_back();
               r.baseline.logprobs.pop_back();
             }},
        Case{"DifferenceUnseen", "V9", "the comparison saw no difference",
             [](VariantRecord& r) {
               r.baseline.report = ReportOf(6, 0);
               r.baseline.tokens[3][1] = 99;
             }}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(DeriveVerdict, ComparisonThatEndedInconclusiveIsNoPass) {
  VariantRecord record = BitExactRecord();
  record.baseline.report.outcome = Outcome::kInconclusive;
  record.baseline.report.reason = "the budget ended it";
  const Verdict verdict = DeriveVerdict(record);
  EXPECT_EQ(verdict.rule, "V10");
  EXPECT_THAT(verdict.reason, HasSubstr("the budget ended it"));
  EXPECT_FALSE(verdict.is_deterministic.has_value());
}

TEST(DeriveVerdict, CallsOfTheKernelAreCountedAgainstTheNeed) {
  VariantRecord record = BitExactRecord();
  EXPECT_THAT(DeriveVerdict(record).details,
              Contains("Kernel int4::marlin_gemm ran 140 times in the profiled pass; at least 140 needed"));
  record.profile.expected_count = 141;
  EXPECT_EQ(DeriveVerdict(record).rule, "V12");
}

TEST(DeriveVerdict, Float32SaysThatNoInt4KernelRan) {
  const auto says = Contains(HasSubstr("No INT4 kernel ran"));
  VariantRecord record = BitExactRecord();
  EXPECT_THAT(DeriveVerdict(record).details, Not(says));
  record.compute = "fp32";
  EXPECT_THAT(DeriveVerdict(record).details, says);
  record.provider = "openvino";  // INT4 weights, whatever it accumulates in
  EXPECT_THAT(DeriveVerdict(record).details, Not(says));
}

TEST(DeriveVerdict, IncompleteProfileThatShowsTheKernelProvesEngagement) {
  VariantRecord record = BitExactRecord();
  record.profile.status = ProfileStatus::kIncomplete;
  record.profile.reason = "3 records lost";
  const Verdict verdict = DeriveVerdict(record);
  EXPECT_EQ(verdict.is_deterministic, true);
  EXPECT_THAT(verdict.warnings, Contains(HasSubstr("3 records lost")));
}

// ---- expectation ----

TEST(Expectation, FoundAgainstExpected) {
  VariantRecord record = BitExactRecord();
  record.expected = "nondeterministic";
  Verdict verdict = DeriveVerdict(record);
  EXPECT_FALSE(verdict.met_expectation);
  EXPECT_THAT(verdict.expectation, HasSubstr("can no longer be seen"));
  record = NondeterministicRecord();
  record.expected = "bit_exact";
  verdict = DeriveVerdict(record);
  EXPECT_FALSE(verdict.met_expectation);
  EXPECT_EQ(verdict.expectation, "expected bit_exact on cpu/builtin, found nondeterministic");
  for (const char* unknown : {"", "inconclusive", "maybe"}) {
    record.expected = unknown;
    EXPECT_FALSE(DeriveVerdict(record).met_expectation) << unknown;
  }
  record.success = false;
  record.expected = "error";
  EXPECT_FALSE(DeriveVerdict(record).met_expectation);
}

// ---- interventions ----

TEST(DeterministicMode, EndsItOnlyWhereChanceIsExcluded) {
  VariantRecord record = NondeterministicRecord();
  // 2 of 5 without, 0 of 19 with: C(19, 7) ... by hand: P(both among the 5 of 24) = (5*4)/(24*23).
  Verdict verdict = DeriveVerdict(record);
  ASSERT_EQ(verdict.interventions[0].name, "deterministic_mode");
  EXPECT_NEAR(*verdict.interventions[0].p_value, 20.0 / 552, 1e-12);
  EXPECT_EQ(verdict.interventions[0].finding, Finding::kShown);
  EXPECT_THAT(verdict.details, Contains("✓ DETERMINISTIC MODE FIXES IT"));
  EXPECT_NEAR(*verdict.interventions[0].time_ratio, 2.0, 1e-12);
  EXPECT_THAT(verdict.details, Contains(HasSubstr("2.00 times")));

  // 0 of 2 would be seen by chance with (22 choose ...): too few.
  for (auto* rows : {&record.deterministic.tokens}) rows->resize(3);
  record.deterministic.logprobs.resize(3);
  record.deterministic.report = ReportOf(3, 0);
  verdict = DeriveVerdict(record);
  EXPECT_EQ(verdict.interventions[0].finding, Finding::kNotLookedAt);
  EXPECT_THAT(verdict.details, Not(Contains(HasSubstr("FIXES IT"))));
  EXPECT_THAT(verdict.details, Contains(HasSubstr("too few repetitions to tell")));

  record.deterministic.report = ReportOf(3, 1);
  verdict = DeriveVerdict(record);
  EXPECT_EQ(verdict.interventions[0].finding, Finding::kRefuted);
  EXPECT_THAT(verdict.details, Contains("✗ DETERMINISTIC MODE DOES NOT FIX IT"));

  record.deterministic.succeeded = false;
  record.deterministic.error = "out of memory";
  verdict = DeriveVerdict(record);
  EXPECT_FALSE(verdict.deterministic_mode_tested);
  EXPECT_THAT(verdict.details, Contains("Deterministic mode: it did not run: out of memory"));
}

// A baseline without a claim may have differed all the same.
TEST(DeterministicMode, OfAnInconclusiveBaselineItSaysWhatWasSeenAndClaimsNothing) {
  for (const VariantRecord& whole : {NondeterministicRecord(), BitExactRecord()}) {
    VariantRecord record = whole;
    record.controls.clear();
    const Verdict verdict = DeriveVerdict(record);
    ASSERT_EQ(verdict.outcome, Outcome::kInconclusive);
    const Intervention& mode = verdict.interventions[0];
    EXPECT_EQ(mode.finding, Finding::kNotLookedAt);
    const bool differed = record.baseline.report.power.deviations > 0;
    EXPECT_EQ(mode.p_value.has_value(), differed);
    EXPECT_THAT(mode.detail, differed ? HasSubstr("the baseline is inconclusive: 0 of 19 comparisons differ, 2 of 5 "
                                                  "without it; p = 3.62e-02")
                                      : HasSubstr("the baseline showed nothing that it could end"));
  }
}

// No deviations of a comparison that could not have seen any end nothing.
TEST(DeterministicMode, EndsNothingWhereItsOwnRepetitionsAreInconclusive) {
  VariantRecord record = NondeterministicRecord();
  ASSERT_EQ(DeriveVerdict(record).interventions[0].finding, Finding::kShown);
  record.deterministic.report.outcome = Outcome::kInconclusive;
  record.deterministic.report.reason = "the flipped bit was not found";
  const Verdict verdict = DeriveVerdict(record);
  EXPECT_EQ(verdict.interventions[0].finding, Finding::kNotLookedAt);
  EXPECT_THAT(verdict.interventions[0].detail,
              HasSubstr("its own repetitions are inconclusive (the flipped bit was not found): 0 of 19"));
  EXPECT_THAT(verdict.details, Not(Contains(HasSubstr("FIXES IT"))));
}

TEST(DeterministicMode, NamesTheSettingsThatItChanges) {
  VariantRecord record = NondeterministicRecord();
  record.baseline.settings = {{"KV_CACHE_PRECISION", "u8"}, {"THREADS", "2"}, {"HINT", "bf16"}, {"GONE", "1"}};
  record.deterministic.settings = {{"HINT", "f32"}, {"THREADS", "2"}, {"KV_CACHE_PRECISION", "f32"}, {"NEW", "x"}};
  EXPECT_THAT(DeriveVerdict(record).interventions[0].detail,
              testing::EndsWith("; it changes 4 settings at once: GONE 1 -> (unset), HINT bf16 -> f32, "
                                "KV_CACHE_PRECISION u8 -> f32, NEW (unset) -> x"));
  record.deterministic.settings = record.baseline.settings;
  EXPECT_THAT(DeriveVerdict(record).interventions[0].detail, Not(HasSubstr("it changes")));
}

TEST(DeterministicMode, IsTheSwitchOfTheEvidence) {
  VariantRecord record = NondeterministicRecord();
  EXPECT_EQ(DeriveVerdict(record).switch_ends_it.finding, Finding::kShown);
  record.deterministic.report = ReportOf(20, 1);
  const Verdict verdict = DeriveVerdict(record);
  EXPECT_EQ(verdict.switch_ends_it.finding, Finding::kRefuted);
  EXPECT_EQ(verdict.switch_ends_it.detail, verdict.interventions[0].detail);
  EXPECT_THAT(verdict.switch_ends_it.detail, HasSubstr("1 of 19 comparisons differs, 2 of 5 without it"));
}

TEST(OrderedTwin, WhatWasNotCountedIsNotZero) {
  const Intervention twin = DeriveVerdict(NondeterministicRecord()).interventions[1];
  EXPECT_EQ(twin.finding, Finding::kShown);
  EXPECT_FALSE(twin.comparisons || twin.deviations);
}

TEST(FisherExact, KnownTables) {
  // Fisher's tea: 3 of 4 against 1 of 4 has p = 17/70.
  EXPECT_NEAR(FisherExactP(3, 4, 1, 4), 17.0 / 70, 1e-12);
  EXPECT_NEAR(FisherExactP(4, 4, 0, 4), 1.0 / 70, 1e-12);
  EXPECT_NEAR(FisherExactP(0, 10, 0, 10), 1, 1e-12);
  EXPECT_NEAR(FisherExactP(0, 10, 10, 10), 1, 1e-12);
  EXPECT_THROW(FisherExactP(5, 4, 0, 4), std::invalid_argument);
}

// ---- forensic implications ----

TEST(Samples, OneSidedZTest) {
  // (2 * 1.6449)^2 = 10.82
  EXPECT_EQ(SamplesForShift(1, 1), 11);
  EXPECT_EQ(SamplesForShift(1, 0.5), 44);
  EXPECT_EQ(SamplesForShift(1, 4), 1);
  EXPECT_EQ(SamplesForShift(0, 1), 1);
  EXPECT_EQ(SamplesForShift(1, 1e-9), std::numeric_limits<int>::max());
  EXPECT_THROW(SamplesForShift(1, 0), std::invalid_argument);
  EXPECT_THROW(SamplesForShift(-1, 1), std::invalid_argument);
}

TEST(Implications, NoisyStatesMeanStdAndSamples) {
  const Verdict verdict = DeriveVerdict(NondeterministicRecord());
  EXPECT_THAT(verdict.forensic_implications, HasSubstr("z-test at 5 % false alarms and 95 % power"));
  EXPECT_THAT(verdict.forensic_implications, HasSubstr("d = std: 11, d = std/2: 44"));
  EXPECT_THAT(verdict.forensic_implications, HasSubstr(FormatScientific(*verdict.baseline_noise.l2_mean)));
}

TEST(Implications, OnlyLogitsDiffer) {
  VariantRecord record = NondeterministicRecord();
  record.baseline.logprobs = BitExactRecord().baseline.logprobs;
  Verdict verdict = DeriveVerdict(record);
  EXPECT_EQ(verdict.is_deterministic, false);  // both are needed
  EXPECT_TRUE(verdict.baseline_noise.logprobs_exact);
  EXPECT_THAT(verdict.forensic_implications, HasSubstr("only logits differ"));
  EXPECT_THAT(verdict.forensic_implications,
              HasSubstr("logits[2], has 37 of 512 elements different, by at most 1.95e-03"));
  record.baseline.logits_l2 = {0, 0, 0, 0.5, 0.25};
  verdict = DeriveVerdict(record);
  EXPECT_THAT(verdict.forensic_implications, HasSubstr("Noise in logits, L2: mean 1.50e-01"));
}

TEST(Implications, TokensPart) {
  VariantRecord record = NondeterministicRecord();
  record.baseline.tokens[4][2] = 99;
  Verdict verdict = DeriveVerdict(record);
  EXPECT_THAT(verdict.forensic_implications, HasSubstr("part at position 2"));
  record.baseline.tokens[4][0] = 99;
  verdict = DeriveVerdict(record);
  EXPECT_THAT(verdict.forensic_implications, HasSubstr("no common prefix"));
}

TEST(Implications, OneDistanceHasNoSpread) {
  VariantRecord record = NondeterministicRecord();
  record.baseline.tokens.erase(record.baseline.tokens.begin() + 1, record.baseline.tokens.end() - 1);
  record.baseline.logprobs.erase(record.baseline.logprobs.begin() + 1, record.baseline.logprobs.end() - 1);
  record.baseline.report = ReportOf(2, 1);
  EXPECT_THAT(DeriveVerdict(record).forensic_implications, HasSubstr("cannot be stated"));
}

TEST(DeriveVerdict, Warnings) {
  EXPECT_THAT(DeriveVerdict(BitExactRecord()).warnings,
              Contains("ran the embedded model tiny_qwen3-awq, not Qwen/Qwen3-8B-AWQ"));
  EXPECT_THAT(DeriveVerdict(NondeterministicRecord()).warnings, Contains("gptq_gemm runs its ordered twin"));
  VariantRecord record = BitExactRecord();
  record.model_source = "--model-dir";
  EXPECT_TRUE(DeriveVerdict(record).warnings.empty());
  record.remarks = {"--provider vllm has no effect on this variant: its kernels are those of aten"};
  EXPECT_EQ(DeriveVerdict(record).warnings, record.remarks);
}

// docs/verdicts.md and the code name the same rules.
TEST(Docs, EveryRuleIsWrittenDown) {
  const std::string text = ReadAll(std::string(REPORTERS_SOURCE_DIR) + "/docs/verdicts.md");
  for (int rule = 1; rule <= 12; ++rule) {
    EXPECT_THAT(text, HasSubstr("| V" + std::to_string(rule) + " |"));
  }
  EXPECT_THAT(text, Not(HasSubstr("| V13 |")));
}

}  // namespace
}  // namespace reporters
