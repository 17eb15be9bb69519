// Every checkpoint that another tool wrote, on a GPU: in float32, and by every kernel
// family of each provider, or refused in plain words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/providers/vllm.h"
#include "kernels/torch_cuda.h"
#include "suites/model/qwen3.h"
#include "tests/suites/model/checkpoints.h"

namespace suites {
namespace {

std::unique_ptr<Qwen3Engine> LoadOnGpu(const std::string& name, const std::string& compute, const std::string& family,
                                       const std::string& provider) {
  Qwen3Options options;
  options.compute = compute;
  options.max_model_len = 512;
  options.kernel = {.family = family, .provider = family == "tinygemm" ? "auto" : provider, .device = "cuda"};
  return Qwen3Engine::Load(*OpenCheckpoint(TestCheckpoint(name)), options);
}
std::vector<float> Steps(Qwen3Engine& engine, const std::string& name) {
  const ReferencePrompt p7 = ReadReference(name, "p7");
  return AllRows(engine.Generate(p7.prompt_ids, {.max_tokens = 20, .forced_ids = p7.generated_ids}).step_logits);
}

class CudaCheckpoints : public testing::Test {
 protected:
  void SetUp() override {
    if (kernels::TorchCuda().devices == 0) GTEST_SKIP() << kernels::TorchCuda().reason;
  }
};

TEST_F(CudaCheckpoints, InFloat32TheLogitsAreTheReferences) {
  for (const auto& [name, format] : ReferenceCheckpoints()) {
    SCOPED_TRACE(name);
    const auto engine = LoadOnGpu(name, "fp32", "", "auto");
    const std::vector<float> expected = ReadReferenceLogits(name, "p7.step_logits");
    const double largest = LargestDifference(Steps(*engine, name), expected);
    std::printf("%s p7: largest difference %.3g\n", name, largest);
    EXPECT_LE(largest, 1e-3);
    // The control: one other token in the prompt.
    ReferencePrompt other = ReadReference(name, "p7");
    other.prompt_ids[3] ^= 1;
    const Generation changed =
        engine->Generate(other.prompt_ids, {.max_tokens = 20, .forced_ids = other.generated_ids});
    EXPECT_GT(LargestDifference(AllRows(changed.step_logits), expected), 1e-3);
  }
}

std::uint64_t MostResidentBytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    std::uint64_t kilobytes = 0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

// libtorch's allocator doubled what it did in a capture with every graph that had gone.
TEST_F(CudaCheckpoints, GraphsThatAreGoneLeaveNoHostMemoryBehind) {
  std::uint64_t before = 0;
  for (int i = 0; i < 26; ++i) {
    Steps(*LoadOnGpu("ct_symmetric", "fp16", "marlin", "builtin"), "ct_symmetric");
    if (i == 1) before = MostResidentBytes();
  }
  EXPECT_LT(MostResidentBytes() - before, std::uint64_t{512} << 20);
}

class CudaProviders : public CudaCheckpoints, public testing::WithParamInterface<const char*> {
 protected:
  // Why this provider has no kernel of a family here; "" where it has.
  std::string WhyNot(const std::string& family) const {
    if (GetParam() == std::string("builtin")) return "";
    return family == "tinygemm" ? "tinygemm is ATen's" : kernels::WhyNoVllm(family);
  }
};
INSTANTIATE_TEST_SUITE_P(Providers, CudaProviders, testing::Values("builtin", "vllm"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(CudaProviders, SixteenBitsStayNearTheReferenceOrTheKernelSaysWhatItNeeds) {
  int ran = 0;
  for (const auto& [name, family] : KernelCases(true)) {
    SCOPED_TRACE(std::string(name) + " by " + family);
    if (!WhyNot(family).empty()) continue;
    ++ran;
    std::unique_ptr<Qwen3Engine> engine;
    try {
      engine = LoadOnGpu(name, std::string(family) == "tinygemm" ? "bf16" : "fp16", family, GetParam());
    } catch (const std::invalid_argument& error) {
      // Only a foreign kernel has needs that one of these layers does not meet.
      EXPECT_STREQ(GetParam(), "vllm") << error.what();
      EXPECT_THAT(error.what(), testing::AllOf(testing::StartsWith("model.layers.0."), testing::HasSubstr("vLLM's "),
                                               testing::Not(testing::HasSubstr("\n"))));
      std::printf("%s by %s: %s\n", name, family, error.what());
      continue;
    }
    EXPECT_EQ(engine->kernel()->family, family);
    EXPECT_EQ(engine->kernel()->device, "cuda");
    const std::vector<float> expected = ReadReferenceLogits(name, "p7.step_logits");
    const double noise = RootMeanSquareDifference(Steps(*engine, name), expected);
    const double allowed = ExpectedNoise(family, ReadModelConfig(TestCheckpoint(name)), expected);
    std::printf("%s by %s: rms against fp32 %.3g, expected %.3g\n", name, family, noise, allowed);
    EXPECT_LE(noise, 2 * allowed);
    EXPECT_GT(noise, 0.1 * allowed) << "this is not of 16 bits";
  }
  if (ran == 0) GTEST_SKIP() << WhyNot("marlin");
}

TEST_P(CudaProviders, APairThatDoesNotGoIsRefusedInPlainWords) {
  int refused = 0;
  for (const auto& [name, family] : KernelCases(false)) {
    SCOPED_TRACE(std::string(name) + " by " + family);
    if (!WhyNot(family).empty()) continue;
    ++refused;
    try {
      LoadOnGpu(name, std::string(family) == "tinygemm" ? "bf16" : "fp16", family, GetParam());
      ADD_FAILURE() << "loaded";
    } catch (const std::invalid_argument& error) {
      EXPECT_THAT(error.what(), testing::AllOf(testing::StartsWith("model.layers.0.self_attn.q_proj"),
                                               testing::HasSubstr("kernel " + std::string(family) + "/"),
                                               testing::HasSubstr(" read"), testing::Not(testing::HasSubstr("\n"))));
    }
  }
  if (refused == 0) GTEST_SKIP() << WhyNot("marlin");
}

}  // namespace
}  // namespace suites
