#include "reporters/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/reporters/sample_records.h"

namespace reporters {
namespace {

using testing::HasSubstr;

ModeRecord Rows(std::vector<std::vector<std::int64_t>> tokens, std::vector<std::vector<float>> logprobs) {
  ModeRecord mode;
  mode.succeeded = true;
  mode.tokens = std::move(tokens);
  mode.logprobs = std::move(logprobs);
  mode.report = ReportOf(static_cast<int>(mode.tokens.size()), 0);
  return mode;
}

TEST(ComputeNoise, EqualRowsHaveNone) {
  const NoiseStatistics noise = ComputeNoise(Rows({{1, 2}, {1, 2}, {1, 2}}, {{-0.1f, -1}, {-0.1f, -1}, {-0.1f, -1}}));
  EXPECT_TRUE(noise.tokens_identical);
  EXPECT_TRUE(noise.logprobs_exact);
  EXPECT_TRUE(noise.logits_exact);
  EXPECT_EQ(noise.l2_mean, 0.0);
  EXPECT_EQ(noise.l2_std, 0.0);
  EXPECT_EQ(noise.std_per_token_max, 0.0);  // exactly, though -0.1f is no dyadic fraction
  EXPECT_EQ(noise.reason, "");
  EXPECT_FALSE(noise.parting_position);
}

// By hand: rows differ from the first by (3, 4), (0, 0) and (0, 1), so L2 is
// 5, 0, 1: mean 2, population variance (9 + 4 + 1) / 3.
// Columns: {0, 3, 0, 0} has mean 0.75, population variance (0.5625 * 3 + 5.0625) / 4 = 1.6875;
// {0, 4, 0, 1} mean 1.25, variance (1.5625 * 2 + 7.5625 + 0.0625) / 4 = 2.6875.
TEST(ComputeNoise, IsTheDocumentsDefinition) {
  const NoiseStatistics noise =
      ComputeNoise(Rows({{1, 2}, {1, 2}, {1, 2}, {1, 2}}, {{0, 0}, {-3, -4}, {0, 0}, {0, -1}}));
  EXPECT_DOUBLE_EQ(*noise.l2_mean, 2);
  EXPECT_DOUBLE_EQ(*noise.l2_std, std::sqrt(14.0 / 3));
  EXPECT_EQ(noise.l2_max, 5.0);
  EXPECT_EQ(noise.l2_min, 0.0);
  EXPECT_DOUBLE_EQ(*noise.std_per_token_max, std::sqrt(2.6875));
  EXPECT_DOUBLE_EQ(*noise.std_per_token_min, std::sqrt(1.6875));
  EXPECT_DOUBLE_EQ(*noise.std_per_token_mean, (std::sqrt(2.6875) + std::sqrt(1.6875)) / 2);
  EXPECT_FALSE(noise.logprobs_exact);
}

TEST(ComputeNoise, ExactMeansBits) {
  EXPECT_FALSE(ComputeNoise(Rows({{1}, {1}}, {{0.0f}, {-0.0f}})).logprobs_exact);
  EXPECT_FALSE(ComputeNoise(Rows({{1}, {1}}, {{-1.0f}, {std::nextafter(-1.0f, 0.0f)}})).logprobs_exact);
}

TEST(ComputeNoise, OverTheCommonPrefixWhereTokensPart) {
  const NoiseStatistics noise =
      ComputeNoise(Rows({{1, 2, 3}, {1, 2, 9}, {1, 2, 3}}, {{0, 0, 0}, {-3, -4, -100}, {0, 0, 0}}));
  EXPECT_FALSE(noise.tokens_identical);
  EXPECT_EQ(noise.parting_position, 2);
  EXPECT_DOUBLE_EQ(*noise.prefix_l2_max, 5);
  EXPECT_DOUBLE_EQ(*noise.prefix_l2_mean, 2.5);
  EXPECT_GT(*noise.l2_max, 100);
  // Where they part at once there is no prefix.
  const NoiseStatistics at_once = ComputeNoise(Rows({{1}, {2}}, {{0}, {-1}}));
  EXPECT_EQ(at_once.parting_position, 0);
  EXPECT_FALSE(at_once.prefix_l2_mean);
}

TEST(ComputeNoise, WhatCannotBeComputedIsAbsentWithAReason) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  NoiseStatistics noise = ComputeNoise(Rows({{1, 2}, {1, 2}}, {{0, 0}, {0, nan}}));
  EXPECT_FALSE(noise.l2_mean);
  EXPECT_THAT(noise.reason, HasSubstr("repetition 1, position 1 is NaN"));
  noise = ComputeNoise(Rows({{1, 2}, {1, 2}}, {{-infinity, 0}, {0, 0}}));
  EXPECT_THAT(noise.reason, HasSubstr("repetition 0, position 0 is infinite"));
  // The same NaN in both is equal in bits, and still no distance.
  noise = ComputeNoise(Rows({{1}, {1}}, {{nan}, {nan}}));
  EXPECT_TRUE(noise.logprobs_exact);
  EXPECT_FALSE(noise.l2_mean);
  EXPECT_EQ(ComputeNoise(Rows({{1}}, {{0}})).reason, "fewer than two repetitions");
  EXPECT_EQ(ComputeNoise(Rows({}, {})).reason, "fewer than two repetitions");
  EXPECT_EQ(ComputeNoise(Rows({{}, {}}, {{}, {}})).reason, "no tokens");
  EXPECT_THAT(ComputeNoise(Rows({{1, 2}, {1}}, {{0, 0}, {0}})).reason, HasSubstr("differ in number"));
}

TEST(ComputeNoise, NanAfterTheParting) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const NoiseStatistics noise = ComputeNoise(Rows({{1, 2}, {1, 3}}, {{0, 0}, {-2, nan}}));
  EXPECT_FALSE(noise.l2_mean);
  EXPECT_EQ(noise.prefix_l2_mean, 2.0);
}

TEST(ComputeNoise, LogitsExactIsTheReports) {
  ModeRecord mode = Rows({{1}, {1}}, {{0}, {0}});
  mode.report = ReportOf(2, 1);
  EXPECT_FALSE(ComputeNoise(mode).logits_exact);
  mode.logits_l2 = {2, 4};
  EXPECT_EQ(ComputeNoise(mode).logits_l2_mean, 3.0);
  EXPECT_EQ(ComputeNoise(mode).logits_l2_std, 1.0);
}

TEST(Kernels, KnownKindDecidesBeforeTheName) {
  EXPECT_TRUE(IsMarlinKernel({"void marlin::Marlin<...>", "cuda:0", 1, 1, KernelKind::kOther}));
  EXPECT_FALSE(IsMarlinKernel({"marlin_like_name", "cpu", 1, 1, KernelKind::kDequant}));
  EXPECT_TRUE(IsGemmKernel({"x", "cpu", 1, 1, KernelKind::kMarlin}));
  EXPECT_TRUE(IsGemmKernel({"aten::addmm", "cpu", 1, 1, KernelKind::kOther}));
  EXPECT_FALSE(IsGemmKernel({"aten::embedding", "cpu", 1, 1, KernelKind::kOther}));
  EXPECT_TRUE(IsDequantKernel({"Dequantize", "cpu", 1, 1, KernelKind::kOther}));
  EXPECT_FALSE(IsDequantKernel({"aten::copy_", "cpu", 1, 1, KernelKind::kOther}));
}

}  // namespace
}  // namespace reporters
