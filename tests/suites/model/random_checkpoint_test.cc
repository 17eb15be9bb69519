#include "suites/model/random_checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>

#include "suites/model/qwen3.h"

namespace suites {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

ModelConfig Small() {
  ModelConfig config = ConfigOfShape("qwen3-8b");
  config.vocab_size = 512;
  config.hidden_size = 256;
  config.intermediate_size = 512;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 64;
  return config;
}

class RandomCheckpointTest : public testing::TestWithParam<std::pair<const char*, const char*>> {};
INSTANTIATE_TEST_SUITE_P(Formats, RandomCheckpointTest,
                         testing::Values(std::pair{"awq", "awq"}, std::pair{"gptq", "gptq"},
                                         std::pair{"gptq", "marlin"}, std::pair{"torchao", "tinygemm"},
                                         std::pair{"", ""}),
                         [](const auto& info) {
                           const std::string format = info.param.first;
                           return format.empty() ? "full" : format + "_by_" + info.param.second;
                         });

TEST_P(RandomCheckpointTest, MakesAModelWhoseActivationsStayNearOne) {
  const auto [format, family] = GetParam();
  const RandomCheckpoint checkpoint(Small(), format);
  Qwen3Options options;
  options.compute = std::string(format) == "torchao" ? "bf16" : "fp16";
  options.kernel.family = family;
  const auto engine = Qwen3Engine::Load(checkpoint, options);
  EXPECT_EQ(engine->kernel() != nullptr, std::string(format) != "");
  const Generation generation = engine->Generate({1, 2, 3, 500}, {.max_tokens = 3});
  double squares = 0;
  for (std::int64_t s = 0; s < 3; ++s) {
    for (const float logit : generation.step_logits.Row(s)) squares += static_cast<double>(logit) * logit;
  }
  const double size = std::sqrt(squares / (3 * 512));
  EXPECT_GT(size, 0.3);  // false for a NaN too
  EXPECT_LT(size, 3);
  // The same numbers each time, and not the same for another prompt.
  const RandomCheckpoint again(Small(), format);
  const auto other = Qwen3Engine::Load(again, options);
  EXPECT_TRUE(other->Generate({1, 2, 3, 500}, {.max_tokens = 3}).step_logits.SameBits(generation.step_logits) ||
              std::string(family) == "gptq");
  EXPECT_FALSE(other->Generate({1, 2, 3, 501}, {.max_tokens = 3}).step_logits.SameBits(generation.step_logits));
}

TEST(RandomCheckpoint, NamesWhatItDoesNotKnow) {
  EXPECT_THAT([] { ConfigOfShape("qwen3-9000b"); }, ThrowsMessage<std::invalid_argument>(HasSubstr("qwen3-9000b")));
  EXPECT_THAT([] { RandomCheckpoint(Small(), "nf4"); }, ThrowsMessage<std::invalid_argument>(HasSubstr("nf4")));
}

}  // namespace
}  // namespace suites
