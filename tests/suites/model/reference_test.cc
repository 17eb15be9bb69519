// The engine against logits of another one: transformers in float32 over the
// dequantized weights of checkpoints that AutoAWQ, GPTQModel and torchao wrote.
#include "tests/suites/model/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <ostream>
#include <string>
#include <vector>

#include "suites/model/qwen3.h"

namespace suites {
namespace {

constexpr double kBound = 1e-3;  // the reference's own cache against no cache differs by 2e-5

Qwen3Options Fp32() {
  Qwen3Options options;
  options.compute = "fp32";
  return options;
}
std::unique_ptr<Qwen3Engine> LoadFp32(const std::string& name) {
  return Qwen3Engine::Load(*OpenCheckpoint(TestCheckpoint(name)), Fp32());
}

class ReferenceTest : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Checkpoints, ReferenceTest, testing::Values("awq", "gptq_desc_act"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(ReferenceTest, TeacherForcedLogitsOfTheShortPrompt) {
  const ReferencePrompt reference = ReadReference(GetParam(), "p7");
  const auto engine = LoadFp32(GetParam());
  const Generation generation = engine->Generate(
      reference.prompt_ids, {.max_tokens = 20, .all_prompt_logits = true, .forced_ids = reference.generated_ids});
  const double prompt =
      LargestDifference(AllRows(generation.prompt_logits), ReadReferenceLogits(GetParam(), "p7.prompt_logits"));
  const double steps =
      LargestDifference(AllRows(generation.step_logits), ReadReferenceLogits(GetParam(), "p7.step_logits"));
  RecordProperty("largest_difference_prompt", std::to_string(prompt));
  RecordProperty("largest_difference_steps", std::to_string(steps));
  std::printf("%s p7: largest difference %.3g (prompt), %.3g (20 steps)\n", GetParam(), prompt, steps);
  EXPECT_LE(prompt, kBound);
  EXPECT_LE(steps, kBound);
  EXPECT_EQ(generation.tokens, reference.generated_ids);
}

// The control: one weight column's zero point off by one moves the logits by far
// more than the bound, so the bound can tell a wrong reading.
TEST_P(ReferenceTest, AWrongZeroPointIsSeen) {
  class Shifted : public Checkpoint {
   public:
    explicit Shifted(std::unique_ptr<Checkpoint> inner) : inner_(std::move(inner)) {}
    const ModelConfig& config() const override { return inner_->config(); }
    const std::filesystem::path& folder() const override { return inner_->folder(); }
    at::Tensor Dense(const std::string& name) const override { return inner_->Dense(name); }
    bool IsQuantized(const std::string& module) const override { return inner_->IsQuantized(module); }
    kernels::QuantizedLinear Quantized(const std::string& module) const override {
      kernels::QuantizedLinear linear = inner_->Quantized(module);
      if (module == "model.layers.2.self_attn.v_proj") {
        linear.qzeros = linear.qzeros.clone();
        linear.qzeros.mutable_data_ptr<std::int32_t>()[0] ^= 1;
      }
      return linear;
    }

   private:
    std::unique_ptr<Checkpoint> inner_;
  };
  const ReferencePrompt reference = ReadReference(GetParam(), "p7");
  const auto engine = Qwen3Engine::Load(Shifted(OpenCheckpoint(TestCheckpoint(GetParam()))), Fp32());
  const Generation generation =
      engine->Generate(reference.prompt_ids, {.max_tokens = 20, .forced_ids = reference.generated_ids});
  EXPECT_GT(LargestDifference(AllRows(generation.step_logits), ReadReferenceLogits(GetParam(), "p7.step_logits")),
            kBound);
}

TEST_P(ReferenceTest, GreedyIdsTopTenAndPromptNllOfEveryPrompt) {
  const auto engine = LoadFp32(GetParam());
  for (const char* prompt : {"p7", "p64", "p300"}) {
    SCOPED_TRACE(prompt);
    const ReferencePrompt reference = ReadReference(GetParam(), prompt);
    ASSERT_GT(reference.robust_prefix_fp32, 0u);
    const Generation greedy = engine->Generate(reference.prompt_ids, {.max_tokens = 20});
    for (std::size_t s = 0; s < reference.robust_prefix_fp32; ++s) {
      ASSERT_EQ(greedy.tokens[s], reference.generated_ids[s]) << "step " << s;
    }
    const Generation forced = engine->Generate(
        reference.prompt_ids, {.max_tokens = 20, .all_prompt_logits = true, .forced_ids = reference.generated_ids});
    double largest = 0;
    for (std::size_t s = 0; s < 20; ++s) {
      for (std::size_t i = 0; i < 10; ++i) {
        // By rank for the value, by id for the token that the reference has there.
        largest = std::max<double>(largest, std::abs(forced.top10[s][i].second - reference.top10_logprobs[s][i]));
        const TokenChoice same =
            ChooseToken(forced.step_logits.Row(static_cast<std::int64_t>(s)), reference.top10_ids[s][i]);
        largest = std::max<double>(largest, std::abs(same.logprob - reference.top10_logprobs[s][i]));
      }
    }
    const double nll = MeanNll(forced.prompt_logits, reference.prompt_ids);
    std::printf("%s %s: top-10 logprobs differ by %.3g at most, mean NLL %.6f by %.3g\n", GetParam(), prompt, largest,
                nll, std::abs(nll - reference.prompt_mean_nll));
    EXPECT_LE(largest, kBound);
    EXPECT_NEAR(nll, reference.prompt_mean_nll, kBound);
  }
}

struct KernelCase {
  const char* checkpoint;
  const char* family;
  friend void PrintTo(const KernelCase& c, std::ostream* os) { *os << c.checkpoint << " by " << c.family; }
};
class KernelReferenceTest : public testing::TestWithParam<KernelCase> {};
INSTANTIATE_TEST_SUITE_P(Kernels, KernelReferenceTest,
                         testing::Values(KernelCase{"awq", "awq"}, KernelCase{"awq", "marlin"},
                                         KernelCase{"gptq_desc_act", "gptq"}, KernelCase{"gptq_desc_act", "marlin"}),
                         [](const auto& info) {
                           return std::string(info.param.checkpoint) + "_by_" + info.param.family;
                         });

// The rounding noise of fp16 in a logit, to first order: every rounding adds an
// independent relative error, uniform with a standard deviation of 2^-11 / sqrt(3),
// to the stream that ends in the logit. A layer rounds 18 times (norms 4, q/k norm 2,
// rotation 3, attention 1, matmuls 4, SiLU and product 2, residuals 2), the end 3 times; gptq also rounds each partial
// sum of 128 rows and each addition of one, 20 times more a layer here. Later layers amplify some of it and damp the
// rest: a factor of 2 is allowed for that. A PyTorch-like forward in numpy (fp16 after every operation) comes to 1.06
// times this estimate.
double ExpectedNoise(const std::string& family, const std::vector<float>& logits) {
  const double roundings = 4 * (family == "gptq" ? 38 : 18) + 3;
  const std::vector<float> zeros(logits.size());
  return std::sqrt(roundings) * 0x1p-11 / std::sqrt(3.0) * RootMeanSquareDifference(logits, zeros);
}

TEST_P(KernelReferenceTest, Fp16StaysNearTheReference) {
  const auto [name, family] = GetParam();
  const auto engine =
      Qwen3Engine::Load(*OpenCheckpoint(TestCheckpoint(name)), {.compute = "fp16", .kernel = {.family = family}});
  ASSERT_NE(engine->kernel(), nullptr);
  EXPECT_EQ(engine->kernel()->family, family);
  const ReferencePrompt p7 = ReadReference(name, "p7");
  const Generation forced =
      engine->Generate(p7.prompt_ids, {.max_tokens = 20, .all_prompt_logits = true, .forced_ids = p7.generated_ids});
  const std::vector<float> expected = ReadReferenceLogits(name, "p7.step_logits");
  const std::vector<float> logits = AllRows(forced.step_logits);
  const double noise = RootMeanSquareDifference(logits, expected);
  const double expected_noise = ExpectedNoise(family, expected);
  std::printf("%s by %s: fp16 against fp32 rms %.3g, expected %.3g, largest difference of logits %.3g\n", name, family,
              noise, expected_noise, LargestDifference(logits, expected));
  EXPECT_LE(noise, 2 * expected_noise);
  EXPECT_GT(noise, 0.1 * expected_noise) << "this is not fp16";
  for (const char* prompt : {"p7", "p64", "p300"}) {
    const ReferencePrompt reference = ReadReference(name, prompt);
    const Generation greedy = engine->Generate(reference.prompt_ids, {.max_tokens = 20});
    for (std::size_t s = 0; s < reference.robust_prefix; ++s) {
      ASSERT_EQ(greedy.tokens[s], reference.generated_ids[s]) << prompt << " step " << s;
    }
  }
}

}  // namespace
}  // namespace suites
