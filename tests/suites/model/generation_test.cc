#include "suites/model/generation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace suites {
namespace {

using gtest_determinism::DType;

TEST(ChooseToken, TakesTheLowestIdAmongEquals) {
  EXPECT_EQ(ChooseToken(std::vector<float>{0, 3, 1, 3, 3}).id, 1);
  EXPECT_EQ(ChooseToken(std::vector<float>{-0.0f, 0.0f}).id, 0);
}

TEST(ChooseToken, GivesLogSoftmaxAndTheTopTenFalling) {
  std::vector<float> logits;
  for (int i = 0; i < 100; ++i) logits.push_back(static_cast<float>((i * 37) % 101) / 10);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  const TokenChoice choice = ChooseToken(logits);
  ASSERT_EQ(choice.top10.size(), 10u);
  for (std::size_t i = 0; i < 10; ++i) {
    const auto [id, logprob] = choice.top10[i];
    EXPECT_NEAR(logprob, logits[static_cast<std::size_t>(id)] - std::log(sum), 1e-6);
    if (i > 0) {
      EXPECT_GE(choice.top10[i - 1].second, logprob);
    }
  }
  EXPECT_EQ(choice.id, choice.top10[0].first);
  EXPECT_EQ(choice.logprob, choice.top10[0].second);
  EXPECT_FLOAT_EQ(logits[static_cast<std::size_t>(choice.id)], 10.0f);
}

TEST(ChooseToken, TiesInTheTopTenFallByLogitThenRiseById) {
  std::vector<float> logits(20, 1.0f);
  logits[15] = 2.0f;
  const TokenChoice choice = ChooseToken(logits);
  std::vector<std::int64_t> ids;
  for (const auto& [id, logprob] : choice.top10) ids.push_back(id);
  EXPECT_THAT(ids, testing::ElementsAre(15, 0, 1, 2, 3, 4, 5, 6, 7, 8));
}

TEST(ChooseToken, AForcedTokenHasItsOwnLogprob) {
  const std::vector<float> logits = {0, 3, 1};
  const TokenChoice choice = ChooseToken(logits, 2);
  EXPECT_EQ(choice.id, 2);
  EXPECT_NEAR(choice.logprob, 1 - std::log(1 + std::exp(3.0) + std::exp(1.0)), 1e-6);
  EXPECT_EQ(choice.top10[0].first, 1);
}

TEST(ChooseToken, NotANumberRanksLastAndShowsInTheLogprobs) {
  const float nan = std::nanf("");
  const TokenChoice some = ChooseToken(std::vector<float>{nan, 1, nan, 2});
  EXPECT_EQ(some.id, 3);
  EXPECT_TRUE(std::isnan(some.logprob));
  const TokenChoice all = ChooseToken(std::vector<float>(30, nan));
  EXPECT_EQ(all.id, 0);
  EXPECT_TRUE(std::isnan(all.logprob));
  EXPECT_EQ(all.top10.size(), 10u);
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(ChooseToken(std::vector<float>{-infinity, 5, -infinity}).logprob, 0.0f);
  EXPECT_EQ(ChooseToken(std::vector<float>{1, infinity, 2}).id, 1);
}

TEST(LogitRows, WidensEveryType) {
  auto rows = [](DType dtype, const auto& words) {
    LogitRows out{dtype, 1, static_cast<std::int64_t>(words.size()), {}};
    out.data.resize(words.size() * sizeof(words[0]));
    std::memcpy(out.data.data(), words.data(), out.data.size());
    return out.Row(0);
  };
  EXPECT_THAT(rows(DType::kFloat16, std::vector<std::uint16_t>{0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x8000}),
              testing::ElementsAre(1.0f, -2.0f, 0x1p-24f, 65504.0f, std::numeric_limits<float>::infinity(), -0.0f));
  EXPECT_THAT(rows(DType::kBFloat16, std::vector<std::uint16_t>{0x3f80, 0xc000}), testing::ElementsAre(1.0f, -2.0f));
  EXPECT_THAT(rows(DType::kFloat32, std::vector<float>{1.5f, -7.0f}), testing::ElementsAre(1.5f, -7.0f));
  EXPECT_TRUE(std::isnan(rows(DType::kFloat16, std::vector<std::uint16_t>{0x7e00})[0]));
}

TEST(GenerationBits, LogitsComeFirstInOrderOfPosition) {
  Generation generation;
  generation.tokens = {4, 5};
  generation.logprobs = {-1, -2};
  generation.step_logits = {DType::kFloat16, 2, 3, std::vector<std::byte>(12)};
  generation.prompt_logits = {DType::kFloat16, 4, 3, std::vector<std::byte>(24)};
  gtest_determinism::Trace trace;
  AppendBits(trace, "", generation);
  AppendBits(trace, "run", generation);
  std::vector<std::string> names;
  for (const auto& part : trace) names.push_back(part.name);
  EXPECT_THAT(names,
              testing::ElementsAre("prompt_logits", "logits[0]", "logits[1]", "tokens", "logprobs", "run.prompt_logits",
                                   "run.logits[0]", "run.logits[1]", "run.tokens", "run.logprobs"));
  EXPECT_EQ(trace[2].view.data, generation.step_logits.data.data() + 6);
  EXPECT_EQ(trace[2].view.bytes, 6u);
  EXPECT_EQ(trace[2].view.dtype, DType::kFloat16);
  EXPECT_THAT(trace[0].view.shape, testing::ElementsAre(4, 3));
}

}  // namespace
}  // namespace suites
