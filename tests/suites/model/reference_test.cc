// The engine against logits of another one: transformers in float32 over the
// dequantized weights of checkpoints that AutoAWQ, GPTQModel, llm-compressor and
// torchao wrote.
#include "tests/suites/model/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "suites/model/qwen3.h"
#include "tests/suites/model/checkpoints.h"

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
std::vector<const char*> Names() {
  std::vector<const char*> names;
  for (const ReferenceCheckpoint& checkpoint : ReferenceCheckpoints()) names.push_back(checkpoint.name);
  return names;
}
INSTANTIATE_TEST_SUITE_P(Checkpoints, ReferenceTest, testing::ValuesIn(Names()),
                         [](const auto& info) { return std::string(info.param); });

// No checkpoint lies there that nothing tests.
TEST(ReferenceCheckpointsTest, EveryFolderIsInTheList) {
  std::vector<std::string> listed, there;
  for (const char* name : Names()) listed.push_back(name);
  for (const auto& entry : std::filesystem::directory_iterator(TestCheckpoint(""))) {
    const bool openvino = std::filesystem::exists(entry.path() / "openvino_model.xml");
    if (entry.is_directory() && !openvino) there.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(there, testing::UnorderedElementsAreArray(listed));
}

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
// more than the bound, so the bound can tell a wrong reading. For torchao, whose
// zero points are floats, the codes of eight weights.
TEST_P(ReferenceTest, AWrongZeroPointIsSeen) {
  class Shifted : public Checkpoint {
   public:
    explicit Shifted(std::unique_ptr<Checkpoint> inner) : inner_(std::move(inner)) {}
    const ModelConfig& config() const override { return inner_->config(); }
    const std::filesystem::path& folder() const override { return inner_->folder(); }
    at::Tensor Dense(const std::string& name) const override { return inner_->Dense(name); }
    at::Tensor Head(at::ScalarType dtype) const override { return inner_->Head(dtype); }
    bool IsQuantized(const std::string& module) const override { return inner_->IsQuantized(module); }
    kernels::QuantizedLinear Quantized(const std::string& module) const override {
      kernels::QuantizedLinear linear = inner_->Quantized(module);
      if (module == "model.layers.0.self_attn.v_proj" || module == "model.layers.0.self_attn.k_proj") {
        const bool words = linear.format == kernels::Format::kAwq || linear.format == kernels::Format::kGptq;
        at::Tensor& changed = words ? linear.qzeros : linear.qweight;
        changed = changed.clone();
        static_cast<std::uint32_t*>(changed.mutable_data_ptr())[0] ^= words ? 1 : 0x44444444;
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
  std::size_t robust = 0;  // a close call at the first step may leave a prompt none
  for (const char* prompt : {"p7", "p64", "p300"}) {
    SCOPED_TRACE(prompt);
    const ReferencePrompt reference = ReadReference(GetParam(), prompt);
    robust += reference.robust_prefix_fp32;
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
  EXPECT_GT(robust, 20u);
}

std::string PairName(const testing::TestParamInfo<KernelCase>& info) {
  return std::string(info.param.checkpoint) + "_by_" + info.param.family;
}
class KernelReferenceTest : public testing::TestWithParam<KernelCase> {};
INSTANTIATE_TEST_SUITE_P(Kernels, KernelReferenceTest, testing::ValuesIn(KernelCases(true)), PairName);

TEST_P(KernelReferenceTest, SixteenBitsStayNearTheReference) {
  const auto [name, family] = GetParam();
  const auto checkpoint = OpenCheckpoint(TestCheckpoint(name));
  const auto engine = Qwen3Engine::Load(
      *checkpoint, {.compute = std::string(family) == "tinygemm" ? "bf16" : "fp16", .kernel = {.family = family}});
  ASSERT_NE(engine->kernel(), nullptr);
  EXPECT_EQ(engine->kernel()->family, family);
  const ReferencePrompt p7 = ReadReference(name, "p7");
  const Generation forced =
      engine->Generate(p7.prompt_ids, {.max_tokens = 20, .all_prompt_logits = true, .forced_ids = p7.generated_ids});
  const std::vector<float> expected = ReadReferenceLogits(name, "p7.step_logits");
  const std::vector<float> logits = AllRows(forced.step_logits);
  const double noise = RootMeanSquareDifference(logits, expected);
  const double expected_noise = ExpectedNoise(family, checkpoint->config(), expected);
  std::printf("%s by %s: 16 bits against fp32 rms %.3g, expected %.3g, largest difference of logits %.3g\n", name,
              family, noise, expected_noise, LargestDifference(logits, expected));
  EXPECT_LE(noise, 2 * expected_noise);
  EXPECT_GT(noise, 0.1 * expected_noise) << "this is not of 16 bits";
  if (std::string(family) == "tinygemm") return;  // the robust prefix is one for fp16's noise
  for (const char* prompt : {"p7", "p64", "p300"}) {
    const ReferencePrompt reference = ReadReference(name, prompt);
    const Generation greedy = engine->Generate(reference.prompt_ids, {.max_tokens = 20});
    for (std::size_t s = 0; s < reference.robust_prefix; ++s) {
      ASSERT_EQ(greedy.tokens[s], reference.generated_ids[s]) << prompt << " step " << s;
    }
  }
}

class RefusedKernelTest : public testing::TestWithParam<KernelCase> {};
INSTANTIATE_TEST_SUITE_P(Kernels, RefusedKernelTest, testing::ValuesIn(KernelCases(false)), PairName);

// One line: the layer, its format, the kernel and what the kernel reads.
TEST_P(RefusedKernelTest, APairThatDoesNotGoIsRefusedInPlainWords) {
  const auto [name, family] = GetParam();
  try {
    Qwen3Engine::Load(*OpenCheckpoint(TestCheckpoint(name)),
                      {.compute = std::string(family) == "tinygemm" ? "bf16" : "fp16", .kernel = {.family = family}});
    FAIL() << "loaded";
  } catch (const std::invalid_argument& error) {
    const std::string message = error.what();
    EXPECT_THAT(message, testing::StartsWith("model.layers.0.self_attn.q_proj"));
    EXPECT_THAT(message, testing::HasSubstr("kernel " + std::string(family) + "/"));
    EXPECT_THAT(message, testing::HasSubstr(" reads "));
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace suites
