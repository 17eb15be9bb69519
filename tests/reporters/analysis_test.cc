#include "reporters/analysis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <utility>

#include "gtest_determinism/statistics.h"
#include "reporters/verdict.h"

namespace reporters {
namespace {

using gtest_determinism::Outcome;
using testing::HasSubstr;

// Distances from repetition 0 are `l2` in turn.
ResultFile File(const std::string& path, Outcome outcome, int comparisons, int deviations,
                const std::vector<double>& l2 = {0.001, 0.002}) {
  ResultFile file;
  file.path = path;
  file.variant = "gptq";
  file.timestamp = path;
  file.device = "cpu";
  file.outcome = outcome;
  file.prompt_ids = {1, 2};
  file.baseline.succeeded = true;
  file.baseline.power = gtest_determinism::ComputePower(comparisons, deviations);
  file.baseline.digest = "aa";
  for (int i = 0; i <= comparisons; ++i) {
    const double value = i == 0 || deviations == 0 ? 0 : l2[static_cast<std::size_t>(i) % l2.size()];
    file.baseline.tokens.push_back({5, 6});
    file.baseline.logprobs.push_back({-1 - value, -2});
  }
  file.baseline.noise = ComputeNoise(file.baseline.tokens, file.baseline.logprobs);
  return file;
}

Change ChangeOf(const ResultFile& older, const ResultFile& newer) { return CompareFiles(older, newer, {}).change; }

TEST(CompareFiles, Words) {
  const ResultFile exact = File("1", Outcome::kBitExact, 19, 0);
  const ResultFile noisy = File("2", Outcome::kNondeterministic, 19, 12);
  EXPECT_EQ(ChangeOf(exact, exact), Change::kSame);
  EXPECT_EQ(ChangeOf(noisy, noisy), Change::kSame);
  EXPECT_EQ(ChangeOf(exact, noisy), Change::kBroken);
  EXPECT_EQ(ChangeOf(noisy, exact), Change::kFixed);
  EXPECT_EQ(ChangeOf(noisy, File("3", Outcome::kNondeterministic, 19, 2)), Change::kQuieter);  // rate
  EXPECT_EQ(ChangeOf(File("3", Outcome::kNondeterministic, 19, 2), noisy), Change::kNoisier);
  const ResultFile larger = File("4", Outcome::kNondeterministic, 19, 12, {0.01, 0.02});  // distance
  EXPECT_EQ(ChangeOf(noisy, larger), Change::kNoisier);
  EXPECT_EQ(ChangeOf(larger, noisy), Change::kQuieter);
  // The rate fell while the distance rose.
  EXPECT_EQ(ChangeOf(noisy, File("5", Outcome::kNondeterministic, 19, 2, {0.01, 0.02})), Change::kAmbiguous);
}

TEST(CompareFiles, TooFewRepetitionsDecideNothing) {
  const ResultFile few = File("1", Outcome::kBitExact, 1, 0);
  const ResultFile rare = File("2", Outcome::kNondeterministic, 19, 1);
  EXPECT_EQ(ChangeOf(few, rare), Change::kAmbiguous);
  EXPECT_EQ(ChangeOf(rare, few), Change::kAmbiguous);
  EXPECT_EQ(ChangeOf(File("1", Outcome::kInconclusive, 19, 0), rare), Change::kAmbiguous);
}

TEST(CompareFiles, Failures) {
  const ResultFile exact = File("1", Outcome::kBitExact, 19, 0);
  ResultFile failed = exact;
  failed.kind = ResultKind::kFailure;
  failed.outcome = Outcome::kError;
  failed.error = "no space";
  EXPECT_EQ(ChangeOf(exact, failed), Change::kBroken);
  EXPECT_EQ(ChangeOf(failed, exact), Change::kFixed);
  EXPECT_EQ(ChangeOf(failed, failed), Change::kFailed);
  EXPECT_TRUE(CompareFiles(exact, failed, {}).regressed);
  EXPECT_TRUE(CompareFiles(failed, failed, {}).regressed);
  EXPECT_FALSE(CompareFiles(failed, exact, {}).regressed);
  EXPECT_THAT(CompareFiles(failed, failed, {}).detail, HasSubstr("no space"));
}

TEST(CompareFiles, AProofThatWasLost) {
  const ResultFile exact = File("1", Outcome::kBitExact, 19, 0);
  const ResultFile inconclusive = File("2", Outcome::kInconclusive, 19, 0);
  const ResultFile noisy = File("3", Outcome::kNondeterministic, 19, 12);
  EXPECT_EQ(ChangeOf(exact, inconclusive), Change::kAmbiguous);
  EXPECT_EQ(CompareFiles(exact, inconclusive, {}).detail, "bit-exact before, inconclusive now");
  EXPECT_TRUE(CompareFiles(exact, inconclusive, {}).regressed);
  for (const auto& [older, newer] :
       {std::pair(inconclusive, exact), std::pair(inconclusive, inconclusive), std::pair(noisy, inconclusive)}) {
    EXPECT_EQ(ChangeOf(older, newer), Change::kAmbiguous);
    EXPECT_FALSE(CompareFiles(older, newer, {}).regressed);
  }
}

// The rate alone, at p between a quarter and a half of 5 %: a change if it were
// the only test of the two.
TEST(CompareFiles, TwoTestsShareTheFivePerCent) {
  const ResultFile more = File("1", Outcome::kNondeterministic, 19, 12);
  const ResultFile fewer = File("2", Outcome::kNondeterministic, 19, 5);
  const double p = FisherExactP(12, 19, 5, 19);
  ASSERT_GT(p, 0.05 / 4);
  ASSERT_LT(p, 0.05 / 2);
  EXPECT_EQ(ChangeOf(more, fewer), Change::kSame);
  // The distance alone: two means 2.1 standard errors apart.
  const auto with_mean = [&](double mean) {
    ResultFile file = more;
    file.baseline.noise.l2_mean = mean;
    file.baseline.noise.l2_std = std::sqrt(19.0 / 2);
    return file;
  };
  EXPECT_EQ(ChangeOf(with_mean(10), with_mean(12.1)), Change::kSame);
  EXPECT_EQ(ChangeOf(with_mean(10), with_mean(12.3)), Change::kNoisier);
}

TEST(CompareFiles, AnotherDeviceOnlyWhereAsked) {
  const ResultFile cpu = File("1", Outcome::kBitExact, 19, 0);
  ResultFile gpu = cpu;
  gpu.device = "cuda:0";
  EXPECT_EQ(ChangeOf(cpu, gpu), Change::kAmbiguous);
  EXPECT_THAT(CompareFiles(cpu, gpu, {}).detail, HasSubstr("device cpu / cuda:0; --across-devices"));
  EXPECT_EQ(CompareFiles(cpu, gpu, {.across_devices = true}).change, Change::kSame);
}

TEST(CompareFiles, ExactInBothButOtherBits) {
  const ResultFile exact = File("1", Outcome::kBitExact, 19, 0);
  EXPECT_THAT(CompareFiles(exact, exact, {}).detail, HasSubstr("and the same bits"));
  ResultFile other = exact;
  other.baseline.digest = "bb";
  EXPECT_EQ(ChangeOf(exact, exact), Change::kSame);
  EXPECT_FALSE(CompareFiles(exact, exact, {}).regressed);
  EXPECT_EQ(ChangeOf(exact, other), Change::kDifferent);
  EXPECT_TRUE(CompareFiles(exact, other, {}).regressed);
  EXPECT_THAT(CompareFiles(exact, other, {}).detail, HasSubstr("not the same bits"));
  EXPECT_THAT(CompareFiles(exact, other, {}).detail, HasSubstr("nothing else in the files differs"));
  // Explained: said, and no failure.
  const std::pair<std::function<void(ResultFile&)>, const char*> reasons[] = {
      {[](ResultFile& f) { f.environment["torch"] = "2.12"; }, "torch unset / 2.12"},
      {[](ResultFile& f) { f.environment["$OMP_NUM_THREADS"] = "4"; }, "$OMP_NUM_THREADS unset / 4"},
      {[](ResultFile& f) { f.settings["HINT"] = "f32"; }, "HINT unset / f32"},
      {[](ResultFile& f) { f.max_tokens = 7; }, "max_tokens 0 / 7"},
      {[](ResultFile& f) { f.model_path = "/m"; }, "model path unset / /m"},
      {[](ResultFile& f) { f.provider = "vllm"; }, "provider unset / vllm"},
      {[](ResultFile& f) { f.kernel = "awq"; }, "kernel unset / awq"},
      {[](ResultFile& f) { f.forced_ids = "ids.json"; }, "--force-ids unset / ids.json"}};
  for (const auto& [change, said] : reasons) {
    ResultFile explained = other;
    change(explained);
    const FileComparison comparison = CompareFiles(exact, explained, {});
    EXPECT_EQ(comparison.change, Change::kDifferent);
    EXPECT_FALSE(comparison.regressed) << said;
    EXPECT_THAT(comparison.detail, HasSubstr(said));
  }
  // Another prompt or model: nothing is to be expected of the bits.
  other.prompt_ids = {9};
  EXPECT_EQ(ChangeOf(exact, other), Change::kSame);
  EXPECT_THAT(CompareFiles(exact, other, {}).detail, testing::Not(HasSubstr("the same bits")));
  other = exact;
  other.baseline.digest = "bb";
  other.model = "B";
  EXPECT_EQ(ChangeOf(exact, other), Change::kSame);
}

TEST(CompareVariants, DistanceOverTheCommonTokens) {
  ResultFile a = File("1", Outcome::kBitExact, 2, 0), b = a;
  b.variant = "awq";
  b.baseline.tokens[0] = {5, 9};
  b.baseline.logprobs[0] = {-4, -100};
  VariantComparison comparison = CompareVariants(a, b);
  EXPECT_EQ(comparison.common_tokens, 1);
  EXPECT_EQ(comparison.tokens, 2);
  EXPECT_EQ(comparison.l2, 3.0);
  b.prompt_ids = {7};
  comparison = CompareVariants(a, b);
  EXPECT_FALSE(comparison.l2);
  EXPECT_EQ(comparison.note, "different prompts");
}

TEST(Analyze, DifferentModelsOnlyWhereAsked) {
  ResultFile a = File("1", Outcome::kBitExact, 2, 0), b = a, c = a;
  a.model = b.model = "A";
  b.variant = "awq";
  c.variant = "openvino";
  c.model = "B";
  Analysis analysis = Analyze({a, b, c}, {});
  ASSERT_EQ(analysis.variants.size(), 1u);
  EXPECT_EQ(analysis.variants[0].second, "awq");
  EXPECT_EQ(analysis.other_models, 2);
  analysis = Analyze({a, b, c}, {.across_models = true});
  EXPECT_EQ(analysis.variants.size(), 3u);
  EXPECT_EQ(analysis.other_models, 0);
}

TEST(Analyze, OrderOfTimeAndFolders) {
  ResultFile old_gptq = File("old/gptq.json", Outcome::kBitExact, 19, 0);
  ResultFile new_gptq = File("new/gptq.json", Outcome::kNondeterministic, 19, 12);
  old_gptq.timestamp = "2025-01-01";
  new_gptq.timestamp = "2025-01-02";
  ResultFile gone = old_gptq, added = new_gptq;
  gone.variant = "awq";
  added.variant = "openvino";
  // The newer file first in its list: time decides, not the order given.
  const Analysis analysis = Analyze({old_gptq, gone, new_gptq, added}, {});
  ASSERT_EQ(analysis.files.size(), 3u);
  EXPECT_EQ(analysis.files[0].change, Change::kBroken);
  EXPECT_EQ(analysis.files[0].newer, "new/gptq.json");
  EXPECT_EQ(analysis.files[1].variant, "awq");
  EXPECT_EQ(analysis.files[1].change, Change::kMissing);
  EXPECT_TRUE(analysis.files[0].regressed && analysis.files[1].regressed);
  EXPECT_EQ(analysis.files[2].variant, "openvino");
  EXPECT_EQ(analysis.files[2].change, Change::kNew);
  EXPECT_FALSE(analysis.files[2].regressed);
  EXPECT_EQ(analysis.variants.size(), 3u);
  EXPECT_EQ(Analyze({new_gptq, old_gptq}, {}).files[0].change, Change::kBroken);
  EXPECT_TRUE(Analyze({old_gptq, gone}, {}).files.empty());
}

}  // namespace
}  // namespace reporters
