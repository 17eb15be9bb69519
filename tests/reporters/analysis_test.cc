#include "reporters/analysis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "gtest_determinism/statistics.h"

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
  EXPECT_EQ(ChangeOf(failed, failed), Change::kSame);
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
  EXPECT_THAT(CompareFiles(exact, other, {}).detail, HasSubstr("not the same bits"));
  other.prompt_ids = {9};
  EXPECT_THAT(CompareFiles(exact, other, {}).detail, testing::Not(HasSubstr("the same bits")));
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
  EXPECT_EQ(analysis.files[2].variant, "openvino");
  EXPECT_EQ(analysis.files[2].change, Change::kNew);
  EXPECT_EQ(analysis.variants.size(), 3u);
  EXPECT_EQ(Analyze({new_gptq, old_gptq}, {}).files[0].change, Change::kBroken);
  EXPECT_TRUE(Analyze({old_gptq, gone}, {}).files.empty());
}

}  // namespace
}  // namespace reporters
