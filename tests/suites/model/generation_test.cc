#include "suites/model/generation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string_view>

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
    LogitRows out = LogitRows::Allocate(dtype, 1, static_cast<std::int64_t>(words.size()));
    EXPECT_EQ(out.bytes(), words.size() * sizeof(words[0]));
    std::memcpy(out.storage.get(), words.data(), out.bytes());
    return out.Row(0);
  };
  EXPECT_THAT(rows(DType::kFloat16, std::vector<std::uint16_t>{0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x8000}),
              testing::ElementsAre(1.0f, -2.0f, 0x1p-24f, 65504.0f, std::numeric_limits<float>::infinity(), -0.0f));
  EXPECT_THAT(rows(DType::kBFloat16, std::vector<std::uint16_t>{0x3f80, 0xc000}), testing::ElementsAre(1.0f, -2.0f));
  EXPECT_THAT(rows(DType::kFloat32, std::vector<float>{1.5f, -7.0f}), testing::ElementsAre(1.5f, -7.0f));
  EXPECT_TRUE(std::isnan(rows(DType::kFloat16, std::vector<std::uint16_t>{0x7e00})[0]));
}

// A space of its own, so that what reads past it shows.
class OtherSpace final : public gtest_determinism::MemorySpace {
 public:
  std::string_view Name() const override { return "other"; }
  std::shared_ptr<void> Allocate(std::size_t bytes) const override {
    return gtest_determinism::HostMemory().Allocate(bytes);
  }
  void Copy(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }
  void CopyToHost(void* to, const void* from, std::size_t bytes) const override {
    ++copies_to_host;
    std::memcpy(to, from, bytes);
  }
  void Fill(void* to, std::uint8_t value, std::size_t bytes) const override { std::memset(to, value, bytes); }
  bool Equal(const void* a, const void* b, std::size_t bytes) const override {
    ++comparisons;
    return std::memcmp(a, b, bytes) == 0;
  }
  void Synchronize() const override {}
  mutable int copies_to_host = 0, comparisons = 0;
};

TEST(LogitRows, StayInTheirSpace) {
  const OtherSpace space;
  LogitRows rows = LogitRows::Allocate(DType::kFloat32, 2, 3, space);
  const float values[] = {1, 2, 3, 4, 5, 6};
  std::memcpy(rows.storage.get(), values, sizeof values);
  const LogitRows shared = rows;
  const LogitRows own = rows.Clone();
  EXPECT_EQ(shared.storage, rows.storage);
  EXPECT_NE(own.storage, rows.storage);
  EXPECT_EQ(own.space, &space);
  EXPECT_TRUE(own.SameBits(rows));
  EXPECT_EQ(space.copies_to_host, 0);
  EXPECT_EQ(space.comparisons, 1);
  *reinterpret_cast<float*>(own.RowAddress(1)) = -4;
  EXPECT_FALSE(own.SameBits(rows));
  EXPECT_TRUE(shared.SameBits(rows));
  EXPECT_THAT(own.Row(1), testing::ElementsAre(-4, 5, 6));
  EXPECT_EQ(space.copies_to_host, 1);
  const LogitRows on_host = own.OnHost();
  EXPECT_EQ(on_host.space, &gtest_determinism::HostMemory());
  EXPECT_TRUE(on_host.SameBits(own));
  EXPECT_FALSE(on_host.SameBits(rows));
  gtest_determinism::Trace trace;
  Generation generation;
  generation.step_logits = rows;
  AppendBits(trace, "", generation);
  EXPECT_EQ(trace[1].view.space, &space);
  EXPECT_EQ(trace[1].view.data, rows.RowAddress(1));
  EXPECT_EQ(trace[2].view.space, &gtest_determinism::HostMemory());  // tokens
}

TEST(GenerationBits, LogitsComeFirstInOrderOfPosition) {
  Generation generation;
  generation.tokens = {4, 5};
  generation.logprobs = {-1, -2};
  generation.step_logits = LogitRows::Allocate(DType::kFloat16, 2, 3);
  generation.prompt_logits = LogitRows::Allocate(DType::kFloat16, 4, 3);
  gtest_determinism::Trace trace;
  AppendBits(trace, "", generation);
  AppendBits(trace, "run", generation);
  std::vector<std::string> names;
  for (const auto& part : trace) names.push_back(part.name);
  EXPECT_THAT(names,
              testing::ElementsAre("prompt_logits", "logits[0]", "logits[1]", "tokens", "logprobs", "run.prompt_logits",
                                   "run.logits[0]", "run.logits[1]", "run.tokens", "run.logprobs"));
  EXPECT_EQ(trace[2].view.data, generation.step_logits.RowAddress(1));
  EXPECT_EQ(trace[2].view.bytes, 6u);
  EXPECT_EQ(trace[2].view.dtype, DType::kFloat16);
  EXPECT_THAT(trace[0].view.shape, testing::ElementsAre(4, 3));
}

}  // namespace
}  // namespace suites
