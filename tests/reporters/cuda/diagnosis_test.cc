// Each rule D1 to D9 of docs/verdicts.md on evidence that is made up, and beside
// it the evidence from which only that rule's cause was taken out.
#include "reporters/cuda/diagnosis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace reporters {
namespace {

using testing::HasSubstr;

Trial Of(int deviations, std::uint8_t pattern = 1, int runs = 40) {
  Trial trial;
  trial.made = true;
  trial.runs = runs;
  trial.comparisons = runs - 1;
  trial.deviations = deviations;
  trial.patterns = 1 + deviations;
  trial.first[0] = pattern;
  return trial;
}
FunctionCode Code(Finding finding, const std::string& detail = "1 RED.E.ADD.F32.RN") {
  FunctionCode code;
  code.name = "_Z3sumPf";
  code.float_atomics = {finding, detail};
  return code;
}

// Noise that comes from within one kernel, whatever the conditions.
DiagnosisEvidence Noisy() {
  DiagnosisEvidence evidence;
  evidence.plain = evidence.poisoned = evidence.poisoned_otherwise = Of(30);
  evidence.serial = evidence.serial_poisoned = Of(25);
  evidence.profile = ProfileStatus::kOk;
  evidence.launches_of_run = {0, 0, 0, 0};
  evidence.pattern_of_run = {0, 1, 0, 2};
  evidence.streams = 1;
  evidence.code = {Code(Finding::kRefuted, "no atomic instruction")};
  return evidence;
}

#define EXPECT_DIAGNOSIS(evidence, wanted_rule, wanted_cause)           \
  do {                                                                  \
    const Diagnosis diagnosis = DiagnoseEvidence(evidence);             \
    EXPECT_EQ(diagnosis.rule, wanted_rule) << diagnosis.text;           \
    EXPECT_EQ(NameOf(diagnosis.cause), wanted_cause) << diagnosis.text; \
  } while (false)

TEST(Diagnosis, D1UnsetMemoryNeedsTwoPatternsThatFollowTheByte) {
  DiagnosisEvidence evidence = Noisy();
  evidence.poisoned = Of(0, 5);
  evidence.poisoned_otherwise = Of(0, 6);
  EXPECT_DIAGNOSIS(evidence, "D1", "unset_memory");
  evidence.plain = Of(0);  // also where it does not show without
  EXPECT_DIAGNOSIS(evidence, "D1", "unset_memory");
  evidence.poisoned_otherwise = Of(0, 5);
  EXPECT_DIAGNOSIS(evidence, "D2", "nothing_differs");
  evidence = Noisy();
  evidence.poisoned = Of(0, 5);
  evidence.poisoned_otherwise = Of(1, 6);  // more than the byte
  EXPECT_DIAGNOSIS(evidence, "D7", "race_in_kernel");
  evidence.poisoned_otherwise = Trial();
  EXPECT_DIAGNOSIS(evidence, "D7", "race_in_kernel");
}

TEST(Diagnosis, D2NothingDiffers) {
  DiagnosisEvidence evidence;
  evidence.plain = Of(0);
  EXPECT_DIAGNOSIS(evidence, "D2", "nothing_differs");
  evidence.poisoned = Of(1);
  EXPECT_DIAGNOSIS(evidence, "D9", "unknown");
}

TEST(Diagnosis, D3ChangingLaunchesNeedBitsThatFollowThem) {
  DiagnosisEvidence evidence = Noisy();
  evidence.launches_of_run = {0, 1, 0, 2};
  evidence.launches_differ = "As launch 4 run 0 has a, run 1 has b";
  EXPECT_DIAGNOSIS(evidence, "D3", "changing_launches");
  EXPECT_THAT(DiagnoseEvidence(evidence).text, HasSubstr("run 1 has b"));
  evidence.launches_of_run = {0, 1, 1, 2};  // one list of launches, two patterns
  EXPECT_DIAGNOSIS(evidence, "D7", "race_in_kernel");
  evidence.launches_of_run = {0, 1, 2, 3};
  evidence.pattern_of_run = {0, 0, 0, 0};  // launches change, bits do not
  EXPECT_DIAGNOSIS(evidence, "D9", "unknown");
}

TEST(Diagnosis, D4UnorderedStreamsNeedThatWaitingEndsItAndAnOverlap) {
  DiagnosisEvidence evidence = Noisy();
  evidence.serial = evidence.serial_poisoned = Of(0);
  evidence.streams = 2;
  evidence.overlaps = {{"produce", "consume", false, 4}, {"produce", "produce", true, 1}};
  EXPECT_DIAGNOSIS(evidence, "D4", "unordered_streams");
  EXPECT_THAT(DiagnoseEvidence(evidence).text, HasSubstr("consume began before produce had ended (4 runs)"));
  DiagnosisEvidence without = evidence;
  without.overlaps.clear();
  EXPECT_DIAGNOSIS(without, "D9", "unknown");
  without = evidence;
  without.serial = Of(1);
  without.serial_poisoned = Of(1);
  EXPECT_DIAGNOSIS(without, "D7", "race_in_kernel");
  without = evidence;
  without.plain = Of(1);  // so few that none is no surprise
  EXPECT_DIAGNOSIS(without, "D9", "unknown");
  without = evidence;
  without.serial = Trial();
  EXPECT_DIAGNOSIS(without, "D9", "unknown");
}

TEST(Diagnosis, D5EarlyReuseIsWhereAllThatOverlapsComesAgain) {
  DiagnosisEvidence evidence = Noisy();
  evidence.serial = evidence.serial_poisoned = Of(0);
  evidence.streams = 2;
  evidence.overlaps = {{"drain", "fill", true, 4}, {"drain", "memcpy HtoD", true, 2}};
  EXPECT_DIAGNOSIS(evidence, "D5", "early_reuse");
  EXPECT_THAT(DiagnoseEvidence(evidence).text, HasSubstr("fill began before drain had ended"));
  evidence.overlaps.push_back({"fill", "drain", false, 1});
  EXPECT_DIAGNOSIS(evidence, "D4", "unordered_streams");
}

TEST(Diagnosis, D6FloatAtomicsNeedThemInTheMachineCodeAndNothingElse) {
  DiagnosisEvidence evidence = Noisy();
  evidence.code.push_back(Code(Finding::kShown));
  EXPECT_DIAGNOSIS(evidence, "D6", "float_atomics");
  EXPECT_THAT(DiagnoseEvidence(evidence).text, HasSubstr("sum(float*): 1 RED.E.ADD.F32.RN"));
  EXPECT_THAT(DiagnoseEvidence(evidence).text, HasSubstr("Not excluded: a race beside the atomics"));
  evidence.ordered = Of(0);
  EXPECT_DIAGNOSIS(evidence, "D6", "float_atomics");
  EXPECT_THAT(DiagnoseEvidence(evidence).text, HasSubstr("With its additions in a fixed order 0 of 39"));
  evidence.ordered = Of(3);  // it is not the order of the additions
  EXPECT_DIAGNOSIS(evidence, "D9", "unknown");
  evidence.ordered = Trial();
  DiagnosisEvidence without = evidence;
  without.code = {Code(Finding::kRefuted)};
  EXPECT_DIAGNOSIS(without, "D7", "race_in_kernel");
  without = evidence;
  without.serial = Of(0);
  EXPECT_DIAGNOSIS(without, "D9", "unknown");
  without = evidence;
  without.pattern_of_run = {0, 0, 0, 0};  // under the profiler it did not differ
  EXPECT_DIAGNOSIS(without, "D9", "unknown");
  without = evidence;
  without.plain = Of(0);
  EXPECT_DIAGNOSIS(without, "D9", "unknown");
}

TEST(Diagnosis, OneStreamIsAnOrderOfLaunches) {
  DiagnosisEvidence evidence = Noisy();
  evidence.serial = evidence.serial_poisoned = Trial();
  EXPECT_DIAGNOSIS(evidence, "D7", "race_in_kernel");
  evidence.streams = 2;
  EXPECT_DIAGNOSIS(evidence, "D9", "unknown");
}

TEST(Diagnosis, D7RaceNeedsThatAllMachineCodeWasRead) {
  DiagnosisEvidence evidence = Noisy();
  EXPECT_DIAGNOSIS(evidence, "D7", "race_in_kernel");
  EXPECT_THAT(DiagnoseEvidence(evidence).text, HasSubstr("By elimination"));
  evidence.code.push_back(Code(Finding::kNotLookedAt, "loaded before it was watched for"));
  EXPECT_DIAGNOSIS(evidence, "D9", "unknown");
  EXPECT_THAT(DiagnoseEvidence(evidence).text, HasSubstr("loaded before it was watched for"));
  evidence.code.clear();
  EXPECT_DIAGNOSIS(evidence, "D9", "unknown");
  evidence = Noisy();
  evidence.serial_poisoned = Of(0);  // what free memory holds has a part in it
  EXPECT_DIAGNOSIS(evidence, "D9", "unknown");
}

TEST(Diagnosis, D9NothingWasRunTwice) { EXPECT_DIAGNOSIS(DiagnosisEvidence(), "D9", "unknown"); }

BatchTrial Batch(int batch, std::uint8_t pattern, const std::string& kernels, const std::string& grids) {
  return {batch, Of(0, pattern), kernels, grids};
}

TEST(BatchDiagnosis, D8NeedsBitsThatFollowWhatIsLaunched) {
  const auto cause = [](const std::vector<BatchTrial>& trials) {
    return std::string(NameOf(DiagnoseBatchTrials(trials).cause));
  };
  EXPECT_EQ(cause({Batch(1, 1, "t64", "1"), Batch(8, 2, "t256", "8"), Batch(9, 2, "t256", "9")}), "batch_tiling");
  // The same bits everywhere, whatever is launched.
  EXPECT_EQ(cause({Batch(1, 1, "t64", "1"), Batch(8, 1, "t256", "8")}), "nothing_differs");
  // One kernel and one grid with two patterns.
  EXPECT_EQ(cause({Batch(1, 1, "t64", "1"), Batch(8, 2, "t64", "1")}), "unknown");
  // The kernel stays, its grid does not: split over the batch.
  EXPECT_EQ(cause({Batch(1, 1, "t64", "1"), Batch(8, 2, "t64", "8"), Batch(9, 2, "t64", "8")}), "batch_tiling");
  // What was launched was not seen.
  EXPECT_EQ(cause({Batch(1, 1, "", ""), Batch(8, 2, "", "")}), "unknown");
  // A batch size that is noisy by itself.
  BatchTrial noisy = Batch(8, 2, "t256", "8");
  noisy.trial = Of(3, 2);
  EXPECT_EQ(cause({Batch(1, 1, "t64", "1"), noisy}), "unknown");
}

TEST(Docs, EveryRuleOfTheDiagnosisIsWrittenDown) {
  std::ifstream in(REPORTERS_SOURCE_DIR "/docs/verdicts.md");
  std::stringstream text;
  text << in.rdbuf();
  for (int rule = 1; rule <= 9; ++rule) {
    EXPECT_NE(text.str().find("| D" + std::to_string(rule) + " |"), std::string::npos) << rule;
  }
}

}  // namespace
}  // namespace reporters
