// Qwen3 on a GPU: against the references and the CPU's engine, and what it
// promises of its bits.
#include <ATen/Context.h>
#include <ATen/record_function.h>
#include <c10/cuda/CUDAGuard.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gtest_determinism/runner.h"
#include "kernels/providers/vllm.h"
#include "kernels/torch_cuda.h"
#include "suites/model/cuda/engine.h"
#include "suites/model/logit_distance.h"
#include "suites/model/random_checkpoint.h"
#include "tests/suites/model/reference.h"

namespace suites {
namespace {

using gtest_determinism::Outcome;
using gtest_determinism::Report;
using gtest_determinism::RunRepeated;
using internal::CudaEngine;
using testing::HasSubstr;
using testing::ThrowsMessage;

class CudaQwen3 : public testing::Test {
 protected:
  void SetUp() override {
    if (kernels::TorchCuda().devices == 0) GTEST_SKIP() << kernels::TorchCuda().reason;
  }
};
class CudaPrecision : public CudaQwen3, public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Precisions, CudaPrecision, testing::Values("fp16", "bf16", "fp32"),
                         [](const auto& info) { return std::string(info.param); });

// With this project's kernels, whatever op libraries the machine has; tinygemm is ATen's.
Qwen3Options OnGpu(const std::string& compute, const std::string& family = "",
                   const std::string& provider = "builtin") {
  Qwen3Options options;
  options.compute = compute;
  options.kernel.family = family;
  options.kernel.provider = family.empty() || family == "tinygemm" ? "auto" : provider;
  options.kernel.device = "cuda";
  return options;
}
std::unique_ptr<Qwen3Engine> Load(const std::filesystem::path& folder, const Qwen3Options& options) {
  return Qwen3Engine::Load(*OpenCheckpoint(folder), options);
}
std::unique_ptr<Qwen3Engine> LoadTiny(const Qwen3Options& options) { return Load(TinyModelFolder(), options); }
CudaEngine& Inside(Qwen3Engine& engine) { return dynamic_cast<CudaEngine&>(engine); }

std::vector<std::int64_t> SomePrompt(std::int64_t length) {
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < length; ++i) ids.push_back((i * 7919 + 11) % 1000);
  return ids;
}

constexpr double kBound = 1e-3;  // as on the CPU (reference_test.cc)

class CudaReference : public CudaQwen3, public testing::WithParamInterface<const char*> {};
INSTANTIATE_TEST_SUITE_P(Checkpoints, CudaReference, testing::Values("awq", "gptq_desc_act", "torchao"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(CudaReference, Float32LogitsAreTheReferences) {
  const auto engine = Load(TestCheckpoint(GetParam()), OnGpu("fp32"));
  EXPECT_EQ(engine->kernel(), nullptr);
  const ReferencePrompt reference = ReadReference(GetParam(), "p7");
  const Generation generation = engine->Generate(
      reference.prompt_ids, {.max_tokens = 20, .all_prompt_logits = true, .forced_ids = reference.generated_ids});
  const double prompt =
      LargestDifference(AllRows(generation.prompt_logits), ReadReferenceLogits(GetParam(), "p7.prompt_logits"));
  const double steps =
      LargestDifference(AllRows(generation.step_logits), ReadReferenceLogits(GetParam(), "p7.step_logits"));
  std::printf("%s p7: largest difference %.3g (prompt), %.3g (20 steps)\n", GetParam(), prompt, steps);
  EXPECT_LE(prompt, kBound);
  EXPECT_LE(steps, kBound);
  EXPECT_EQ(generation.tokens, reference.generated_ids);
  // The control: one other token in the prompt.
  std::vector<std::int64_t> other = reference.prompt_ids;
  other[3] ^= 1;
  const Generation changed = engine->Generate(other, {.max_tokens = 20, .forced_ids = reference.generated_ids});
  EXPECT_GT(LargestDifference(AllRows(changed.step_logits), ReadReferenceLogits(GetParam(), "p7.step_logits")), kBound);
  for (const char* prompt_name : {"p7", "p64", "p300"}) {
    const ReferencePrompt longer = ReadReference(GetParam(), prompt_name);
    const Generation forced = engine->Generate(
        longer.prompt_ids, {.max_tokens = 20, .all_prompt_logits = true, .forced_ids = longer.generated_ids});
    double largest = 0;
    for (std::size_t s = 0; s < 20; ++s) {
      for (std::size_t i = 0; i < 10; ++i) {
        largest = std::max<double>(largest, std::abs(forced.top10[s][i].second - longer.top10_logprobs[s][i]));
      }
    }
    EXPECT_LE(largest, kBound) << prompt_name;
    EXPECT_NEAR(MeanNll(forced.prompt_logits, longer.prompt_ids), longer.prompt_mean_nll, kBound) << prompt_name;
  }
}

struct KernelCase {
  const char* checkpoint;
  const char* family;
  const char* provider = "builtin";
  friend void PrintTo(const KernelCase& c, std::ostream* os) {
    *os << c.checkpoint << " by " << c.family << "/" << c.provider;
  }
};
class CudaKernelReference : public CudaQwen3, public testing::WithParamInterface<KernelCase> {};
INSTANTIATE_TEST_SUITE_P(
    Kernels, CudaKernelReference,
    testing::Values(KernelCase{"awq", "awq"}, KernelCase{"awq", "marlin"}, KernelCase{"gptq_desc_act", "gptq"},
                    KernelCase{"gptq_desc_act", "marlin"}, KernelCase{"torchao", "tinygemm"},
                    KernelCase{"awq", "awq", "vllm"}, KernelCase{"awq", "marlin", "vllm"},
                    KernelCase{"gptq_desc_act", "gptq", "vllm"}, KernelCase{"gptq_desc_act", "marlin", "vllm"}),
    [](const auto& info) {
      return std::string(info.param.checkpoint) + "_by_" + info.param.family + "_" + info.param.provider;
    });

// The rounding noise that reference_test.cc derives: by its square root of the
// number of roundings times the type's unit over sqrt(3), twice that is allowed.
TEST_P(CudaKernelReference, HalfPrecisionStaysNearTheReference) {
  const auto [name, family, provider] = GetParam();
  if (const std::string why = provider == std::string("vllm") ? kernels::WhyNoVllm(family) : ""; !why.empty()) {
    GTEST_SKIP() << why;
  }
  const bool bf16 = std::string(family) == "tinygemm";
  const auto engine = Load(TestCheckpoint(name), OnGpu(bf16 ? "bf16" : "fp16", family, provider));
  ASSERT_NE(engine->kernel(), nullptr);
  EXPECT_EQ(engine->kernel()->family, family);
  EXPECT_EQ(engine->kernel()->device, "cuda");
  const ReferencePrompt p7 = ReadReference(name, "p7");
  const Generation forced = engine->Generate(p7.prompt_ids, {.max_tokens = 20, .forced_ids = p7.generated_ids});
  const std::vector<float> expected = ReadReferenceLogits(name, "p7.step_logits");
  const double noise = RootMeanSquareDifference(AllRows(forced.step_logits), expected);
  const double roundings = 4 * (std::string(family) == "gptq" ? 38 : 18) + 3;
  const double size = RootMeanSquareDifference(expected, std::vector<float>(expected.size()));
  const double expected_noise = std::sqrt(roundings) * (bf16 ? 0x1p-8 : 0x1p-11) / std::sqrt(3.0) * size;
  std::printf("%s by %s: rms against fp32 %.3g, expected %.3g\n", name, family, noise, expected_noise);
  EXPECT_LE(noise, 2 * expected_noise);
  EXPECT_GT(noise, 0.1 * expected_noise) << "this is not " << (bf16 ? "bf16" : "fp16");
}

// Full precision: every rounding of the CPU's engine at the same place, sums in other orders.
TEST_P(CudaPrecision, StaysNearTheCpu) {
  const std::string compute = GetParam();
  Qwen3Options on_cpu;
  on_cpu.compute = compute;
  const auto cpu = LoadTiny(on_cpu);
  const auto gpu = LoadTiny(OnGpu(compute));
  const std::vector<std::int64_t> prompt = SomePrompt(40);
  const Generation expected = cpu->Generate(prompt, {.max_tokens = 6, .all_prompt_logits = true});
  const Generation got =
      gpu->Generate(prompt, {.max_tokens = 6, .all_prompt_logits = true, .forced_ids = expected.tokens});
  const std::vector<float> logits = AllRows(expected.step_logits);
  const double size = RootMeanSquareDifference(logits, std::vector<float>(logits.size()));
  const double steps = RootMeanSquareDifference(AllRows(got.step_logits), logits);
  const double all = RootMeanSquareDifference(AllRows(got.prompt_logits), AllRows(expected.prompt_logits));
  // 6 layers round 18 times each, on either side; see reference_test.cc.
  const double unit = compute == "fp16" ? 0x1p-11 : compute == "bf16" ? 0x1p-8 : 0x1p-20;
  const double noise = std::sqrt(2 * (6 * 18 + 3)) * unit / std::sqrt(3.0) * size;
  std::printf("%s: rms against the CPU %.3g (steps), %.3g (prompt), expected %.3g\n", GetParam(), steps, all, noise);
  EXPECT_LE(steps, 2 * noise);
  EXPECT_LE(all, 2 * noise);
  // The control: the prompt the other way round.
  const std::vector<std::int64_t> reversed(prompt.rbegin(), prompt.rend());
  const Generation other = gpu->Generate(reversed, {.max_tokens = 6, .forced_ids = expected.tokens});
  EXPECT_GT(RootMeanSquareDifference(AllRows(other.step_logits), logits), 2 * noise);
}

TEST_P(CudaPrecision, GraphEagerStreamsAndWhatTheCacheHeldDoNotChangeABit) {
  const auto engine = LoadTiny(OnGpu(GetParam()));
  Qwen3Options eager_options = OnGpu(GetParam());
  eager_options.eager = true;
  const auto eager = LoadTiny(eager_options);
  for (const std::int64_t length : {1, 15, 16, 17, 127, 128, 129, 255, 256, 257, 1030}) {
    SCOPED_TRACE(length);
    const std::vector<std::int64_t> prompt = SomePrompt(length);
    const GenerationOptions options{.max_tokens = 9};
    const Generation first = engine->Generate(prompt, options);
    ASSERT_EQ(first.step_logits.space->Name(), "cuda:0");
    EXPECT_TRUE(engine->Generate(prompt, options).step_logits.SameBits(first.step_logits)) << "again";
    for (const int byte : {0x00, 0xff, 0x7f}) {  // 0xff..: NaN, 0x7f7f: large
      Inside(*engine).FillCache(static_cast<std::uint8_t>(byte));
      EXPECT_TRUE(engine->Generate(prompt, options).step_logits.SameBits(first.step_logits)) << "cache of " << byte;
    }
    const Generation without_graph = eager->Generate(prompt, options);
    EXPECT_TRUE(without_graph.step_logits.SameBits(first.step_logits)) << "eager";
    EXPECT_EQ(without_graph.tokens, first.tokens);
    EXPECT_EQ(without_graph.logprobs, first.logprobs);
    {
      const c10::cuda::CUDAStreamGuard other(c10::cuda::getStreamFromPool());
      EXPECT_TRUE(engine->Generate(prompt, options).step_logits.SameBits(first.step_logits)) << "another stream";
      EXPECT_TRUE(eager->Generate(prompt, options).step_logits.SameBits(first.step_logits)) << "eager, another stream";
    }
    // A longer generation begins as the shorter one, whatever graph serves it.
    const Generation longer = engine->Generate(prompt, {.max_tokens = 280});
    for (int s = 0; s < 9; ++s) EXPECT_EQ(longer.step_logits.Row(s), first.step_logits.Row(s)) << s;
    // The control: another prompt.
    std::vector<std::int64_t> other = prompt;
    other.back() += 1;
    EXPECT_FALSE(engine->Generate(other, options).step_logits.SameBits(first.step_logits));
  }
  EXPECT_GT(Inside(*engine).captured_graphs(), 0u);
  EXPECT_EQ(Inside(*eager).captured_graphs(), 0u);
}

TEST_P(CudaPrecision, TokensAreTheArgmaxOfTheLogitsAndScoresTheirLogSoftmax) {
  const auto engine = LoadTiny(OnGpu(GetParam()));
  const Generation generation = engine->Generate(SomePrompt(33), {.max_tokens = 40, .forced_ids = {5, 6}});
  ASSERT_EQ(generation.tokens.size(), 40u);
  for (std::size_t s = 0; s < 40; ++s) {
    const std::int64_t forced = s < 2 ? static_cast<std::int64_t>(5 + s) : -1;
    const TokenChoice expected = ChooseToken(generation.step_logits.Row(static_cast<std::int64_t>(s)), forced);
    EXPECT_EQ(generation.tokens[s], expected.id) << s;
    EXPECT_NEAR(generation.logprobs[s], expected.logprob, 1e-5) << s;
    ASSERT_EQ(generation.top10[s].size(), 10u);
    for (std::size_t i = 0; i < 10; ++i) {
      EXPECT_EQ(generation.top10[s][i].first, expected.top10[i].first) << s << " rank " << i;
      EXPECT_NEAR(generation.top10[s][i].second, expected.top10[i].second, 1e-5) << s << " rank " << i;
    }
  }
  // Forced with its own argmax it is the free run.
  const Generation free = engine->Generate(SomePrompt(33), {.max_tokens = 12});
  const Generation forced = engine->Generate(SomePrompt(33), {.max_tokens = 12, .forced_ids = free.tokens});
  EXPECT_TRUE(free.step_logits.SameBits(forced.step_logits));
  EXPECT_FALSE(
      engine->Generate(SomePrompt(33), {.max_tokens = 12, .forced_ids = {5}}).step_logits.SameBits(free.step_logits));
  const Generation prompt_only = engine->Generate(SomePrompt(33), {.max_tokens = 0, .all_prompt_logits = true});
  EXPECT_TRUE(prompt_only.tokens.empty());
  EXPECT_EQ(prompt_only.prompt_logits.rows, 33);
  EXPECT_EQ(prompt_only.prompt_logits.space, &gtest_determinism::HostMemory());
  // Asking for the prompt's logits changes nothing else.
  const Generation with_prompt = engine->Generate(SomePrompt(33), {.max_tokens = 12, .all_prompt_logits = true});
  EXPECT_TRUE(with_prompt.step_logits.SameBits(free.step_logits));
}

TEST_P(CudaPrecision, RepeatsToTheBitOverAHundredGenerations) {
  const auto engine = LoadTiny(OnGpu(GetParam()));
  const Report report =
      RunRepeated([&] { return engine->Generate(SomePrompt(100), {.max_tokens = 20}); }, {.runs = 100});
  EXPECT_EQ(report.outcome, Outcome::kBitExact) << report.reason;
  EXPECT_EQ(report.runs, 100);
  // The control: a bit in one operation of one generation.
  int run = 0;
  const Report planted = RunRepeated(
      [&] {
        Inside(*engine).PlantFault({});
        if (run++ == 3) Inside(*engine).PlantFault(internal::PlantedFault{2, 1, "attention", 7, 0x40});
        return engine->Generate(SomePrompt(100), {.max_tokens = 20});
      },
      {.runs = 6});
  Inside(*engine).PlantFault({});
  ASSERT_EQ(planted.outcome, Outcome::kNondeterministic);
  EXPECT_EQ(planted.first_divergence->part, "logits[2]");
  EXPECT_EQ(planted.power.deviations, 1);
}

std::string NameOf(const OpSite& site) {
  return std::to_string(site.step) + "/" + std::to_string(site.layer) + "/" + site.op;
}

TEST_F(CudaQwen3, TraceNamesTheFirstOperationOfAPlantedFault) {
  const auto engine = LoadTiny(OnGpu("fp16"));
  CudaEngine& inside = Inside(*engine);
  const GenerationOptions options{.max_tokens = 5};
  const std::vector<TracedOp> first = engine->Trace(SomePrompt(40), options);  // its first decode step is eager
  const std::vector<TracedOp> clean = engine->Trace(SomePrompt(40), options);  // all by the graph
  ASSERT_EQ(first.size(), 5u * (2 + 6 * 11 + 2));
  ASSERT_EQ(clean.size(), first.size());
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(NameOf(clean[i]), NameOf(first[i]));
    EXPECT_EQ(clean[i].digest, first[i].digest) << NameOf(first[i]);
  }
  // The same digests as of what a sink is shown, one by one and eager.
  std::size_t seen = 0;
  engine->SetOpSink([&](const OpOutput& output) {
    ASSERT_LT(seen, clean.size());
    EXPECT_EQ(NameOf(output), NameOf(clean[seen]));
    EXPECT_EQ(output.bits.space->Name(), "cuda:0");
    EXPECT_EQ(output.bits.space->DigestOf(output.bits.data, output.bits.bytes), clean[seen].digest) << NameOf(output);
    ++seen;
  });
  engine->Generate(SomePrompt(40), options);
  engine->SetOpSink({});
  EXPECT_EQ(seen, clean.size());

  const internal::PlantedFault faults[] = {
      {0, -1, "embedding", 3, 0x20},  {0, 4, "qkv_proj", 999, 0x40}, {0, 5, "residual", 10, 0x40},
      {3, -1, "lm_head", 100, 0x40},  {3, 2, "down_proj", 17, 0x40}, {1, 0, "input_norm", 0, 0x10},
      {4, 3, "silu_mul", 2047, 0x40}, {2, 5, "attention", 1, 0x20},
  };
  for (const internal::PlantedFault& fault : faults) {
    inside.PlantFault(fault);
    for (int run = 0; run < 2; ++run) {
      const std::vector<TracedOp> faulty = engine->Trace(SomePrompt(40), options);
      ASSERT_EQ(faulty.size(), clean.size());
      const auto different = std::mismatch(clean.begin(), clean.end(), faulty.begin(),
                                           [](const TracedOp& a, const TracedOp& b) { return a.digest == b.digest; });
      ASSERT_NE(different.first, clean.end()) << fault.op;
      EXPECT_EQ(NameOf(*different.first), NameOf(OpSite{fault.step, fault.layer, fault.op}));
    }
  }
  inside.PlantFault({});
  const std::vector<TracedOp> after = engine->Trace(SomePrompt(40), options);  // the control
  for (std::size_t i = 0; i < clean.size(); ++i) EXPECT_EQ(after[i].digest, clean[i].digest);
}

TEST_F(CudaQwen3, ReplaysEachOperationAloneAndLeavesTheGenerationAsItWas) {
  for (const char* compute : {"fp16", "fp32"}) {
    const auto engine = LoadTiny(OnGpu(compute));
    const GenerationOptions options{.max_tokens = 4};
    const Generation plain = engine->Generate(SomePrompt(30), options);
    const std::vector<TracedOp> trace = engine->Trace(SomePrompt(30), options);
    std::size_t seen = 0;
    engine->SetReplaySink([&](const OpSite& site, const std::function<std::vector<at::Tensor>()>& run,
                              const kernels::Int4Matmul* matmul, const at::Tensor& x) {
      EXPECT_EQ(matmul, nullptr);
      EXPECT_FALSE(x.defined());
      ASSERT_LT(seen, trace.size());
      EXPECT_EQ(NameOf(site), NameOf(trace[seen]));
      for (int i = 0; i < 3; ++i) {
        const std::vector<at::Tensor> result = run();
        ASSERT_EQ(result.size(), 1u);
        c10::cuda::getCurrentCUDAStream().synchronize();
        const auto& space = gtest_determinism::CudaMemory();
        EXPECT_EQ(space.DigestOf(result[0].const_data_ptr(), result[0].nbytes()), trace[seen].digest) << NameOf(site);
      }
      ++seen;
    });
    EXPECT_TRUE(engine->Generate(SomePrompt(30), options).step_logits.SameBits(plain.step_logits));
    engine->SetReplaySink({});
    EXPECT_EQ(seen, trace.size());
    EXPECT_TRUE(engine->Generate(SomePrompt(30), options).step_logits.SameBits(plain.step_logits));
  }
}

// Prefill in pieces and every backend of PyTorch: other roundings, the same numbers.
TEST_F(CudaQwen3, PiecesAndBackendsStayNearTheDefault) {
  const std::vector<std::int64_t> prompt = SomePrompt(150);
  for (const char* compute : {"fp16", "fp32"}) {
    const Generation whole = LoadTiny(OnGpu(compute))->Generate(prompt, {.max_tokens = 10});
    const std::vector<float> expected = AllRows(whole.step_logits);
    const double size = RootMeanSquareDifference(expected, std::vector<float>(expected.size()));
    const bool half = std::string(compute) == "fp16";
    const double noise = std::sqrt(2 * (6 * 18 + 3)) * (half ? 0x1p-11 : 0x1p-20) / std::sqrt(3.0) * size;
    for (const std::int64_t chunk : {1, 64, 149}) {
      Qwen3Options options = OnGpu(compute);
      options.prefill_chunk = chunk;
      const Generation pieces = LoadTiny(options)->Generate(prompt, {.max_tokens = 10, .forced_ids = whole.tokens});
      EXPECT_LE(RootMeanSquareDifference(AllRows(pieces.step_logits), expected), 2 * noise) << chunk;
    }
    std::vector<const char*> backends = {"efficient", "math"};
    if (half) backends.insert(backends.end(), {"flash", "cudnn"});
    for (const char* backend : backends) {
      Qwen3Options options = OnGpu(compute);
      options.attention = backend;
      try {
        const auto engine = LoadTiny(options);
        const Generation other = engine->Generate(prompt, {.max_tokens = 10, .forced_ids = whole.tokens});
        const double difference = RootMeanSquareDifference(AllRows(other.step_logits), expected);
        std::printf("%s %s: rms against the default %.3g, allowed %.3g\n", compute, backend, difference, 2 * noise);
        EXPECT_LE(difference, 2 * noise) << backend;
        EXPECT_EQ(Inside(*engine).captured_graphs(), 0u);
      } catch (const c10::Error& error) {
        // A backend of libtorch that this machine lacks a library for is no fault of the engine's.
        EXPECT_THAT(backend, testing::StrEq("cudnn")) << error.what_without_backtrace();
        std::printf("%s %s: %s\n", compute, backend, error.what_without_backtrace());
      }
    }
  }
}

// Heads of 128, which the engine's own attention of a prompt takes on sm_90.
ModelConfig WideHeads() {
  ModelConfig config;
  config.vocab_size = 1024;
  config.hidden_size = 1024;
  config.intermediate_size = 3072;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 8;
  config.num_key_value_heads = 2;
  config.head_dim = 128;
  config.max_position_embeddings = 2048;
  config.torch_dtype = "float16";
  return config;
}

TEST_F(CudaQwen3, APromptAttendsAsPyTorchsFlashDoes) {
  const RandomCheckpoint checkpoint(WideHeads(), "");
  for (const char* compute : {"fp16", "bf16"}) {
    const std::vector<std::int64_t> prompt = SomePrompt(333);
    const Generation own = Qwen3Engine::Load(checkpoint, OnGpu(compute))->Generate(prompt, {.max_tokens = 8});
    Qwen3Options options = OnGpu(compute);
    options.attention = "flash";
    const auto with_flash = Qwen3Engine::Load(checkpoint, options);
    const GenerationOptions forced{.max_tokens = 8, .forced_ids = own.tokens};
    const Generation flash = with_flash->Generate(prompt, forced);
    const std::vector<float> expected = AllRows(flash.step_logits);
    const double size = RootMeanSquareDifference(expected, std::vector<float>(expected.size()));
    const double unit = std::string(compute) == "fp16" ? 0x1p-11 : 0x1p-8;
    const double noise = std::sqrt(2 * (3 * 18 + 3)) * unit / std::sqrt(3.0) * size;
    const double difference = RootMeanSquareDifference(AllRows(own.step_logits), expected);
    std::printf("%s: rms of the own attention against flash %.3g, allowed %.3g\n", compute, difference, 2 * noise);
    EXPECT_LE(difference, 2 * noise);
    // The control: the prompt the other way round.
    const std::vector<std::int64_t> other(prompt.rbegin(), prompt.rend());
    EXPECT_GT(RootMeanSquareDifference(AllRows(with_flash->Generate(other, forced).step_logits), expected), 2 * noise);
    // In pieces it is the same to the bit but for the matmuls of other sizes: near.
    Qwen3Options pieces = OnGpu(compute);
    pieces.prefill_chunk = 100;
    const Generation in_pieces = Qwen3Engine::Load(checkpoint, pieces)->Generate(prompt, forced);
    EXPECT_LE(RootMeanSquareDifference(AllRows(in_pieces.step_logits), AllRows(own.step_logits)), 2 * noise);
  }
}

// Rows that do not depend on how many there are, in the matmuls and in attention:
// a prompt in pieces is the prompt, to the bit.
TEST_F(CudaQwen3, BatchInvariantMatmulsMakeThePiecesTheWhole) {
  if (!internal::AttendsPromptsItself(internal::Precision::kFp16, 128)) {
    GTEST_SKIP() << "attention of a prompt is PyTorch's here: no sm_90, or no code for sm_90a in this build";
  }
  const RandomCheckpoint checkpoint(WideHeads(), "awq");
  const std::vector<std::int64_t> prompt = SomePrompt(333);
  for (const char* family : {"marlin", "awq"}) {
    Qwen3Options options = OnGpu("fp16", family);
    options.kernel.batch_invariant = true;
    const Generation whole = Qwen3Engine::Load(checkpoint, options)->Generate(prompt, {.max_tokens = 6});
    for (const std::int64_t chunk : {1, 16, 100, 332}) {
      options.prefill_chunk = chunk;
      const auto engine = Qwen3Engine::Load(checkpoint, options);
      EXPECT_TRUE(engine->Generate(prompt, {.max_tokens = 6}).step_logits.SameBits(whole.step_logits))
          << family << " in pieces of " << chunk;
      // The control: another prompt.
      std::vector<std::int64_t> other = prompt;
      other[5] += 1;
      EXPECT_FALSE(engine->Generate(other, {.max_tokens = 6}).step_logits.SameBits(whole.step_logits)) << family;
    }
  }
}

std::set<std::string>* recorded_names = nullptr;

TEST_F(CudaQwen3, RecordFunctionSeesEveryOperation) {
  const auto engine = LoadTiny(OnGpu("fp16"));
  std::set<std::string> names;
  recorded_names = &names;
  const auto handle = at::addGlobalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& fn) -> std::unique_ptr<at::ObserverContext> {
        recorded_names->insert(fn.name());
        return nullptr;
      }).scopes({at::RecordScope::FUNCTION}));
  engine->Generate(SomePrompt(4), {.max_tokens = 2});
  at::removeCallback(handle);
  for (const char* name :
       {"qwen3::embedding", "qwen3::rms_norm", "qwen3::qk_norm_rope", "qwen3::attention", "qwen3::silu_mul",
        "qwen3::add", "qwen3::add_rms_norm", "qwen3::embedding_rms_norm", "qwen3::qk_norm_rope_attention",
        "qwen3::linear", "qwen3::sampling", "qwen3::token_scores"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
}

TEST_F(CudaQwen3, LogitDistanceIsComputedWhereTheLogitsLie) {
  const auto engine = LoadTiny(OnGpu("fp16"));
  const Generation a = engine->Generate(SomePrompt(20), {.max_tokens = 3, .forced_ids = {1, 2, 3}});
  const Generation b = engine->Generate(SomePrompt(21), {.max_tokens = 3, .forced_ids = {1, 2, 3}});
  const double on_device = LogitDistance(a.step_logits, b.step_logits);
  const double on_host = LogitDistance(a.step_logits.OnHost(), b.step_logits.OnHost());
  EXPECT_GT(on_device, 1);
  EXPECT_NEAR(on_device, on_host, 1e-9 * on_host);
  EXPECT_EQ(LogitDistance(a.step_logits, a.step_logits.Clone()), 0);
}

TEST_F(CudaQwen3, ErrorsNameTheThing) {
  const auto engine = LoadTiny(OnGpu("fp16"));
  EXPECT_THAT([&] { engine->Generate({}, {}); }, ThrowsMessage<std::invalid_argument>(HasSubstr("prompt is empty")));
  EXPECT_THAT([&] { engine->Generate({4096}, {}); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("prompt_ids[0] = 4096")));
  EXPECT_THAT([&] { engine->Generate(SomePrompt(8190), {.max_tokens = 3}); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("8190 tokens and 3 new ones")));
  EXPECT_NO_THROW(engine->Generate(SomePrompt(8190), {.max_tokens = 2}));  // the control
  Qwen3Options options = OnGpu("fp16");
  options.attention = "magic";
  EXPECT_THAT([&] { LoadTiny(options); }, ThrowsMessage<std::invalid_argument>(HasSubstr("magic")));
  options = OnGpu("fp16");
  options.kernel.device = "cuda:99";
  EXPECT_THAT([&] { LoadTiny(options); }, ThrowsMessage<std::invalid_argument>(HasSubstr("cuda:99")));
}

TEST_F(CudaQwen3, TakesNoMoreMemoryThanEstimated) {
  const auto checkpoint = OpenCheckpoint(TinyModelFolder());
  for (const std::int64_t max_model_len : {512, 8192}) {
    Qwen3Options options = OnGpu("fp16");
    options.max_model_len = max_model_len;
    LoadTiny(options)->Generate(SomePrompt(500), {.max_tokens = 8});  // kernels and libraries are loaded
    std::size_t before = 0, after = 0, total = 0;
    ASSERT_EQ(cudaMemGetInfo(&before, &total), cudaSuccess);
    const auto engine = Qwen3Engine::Load(*checkpoint, options);
    const Generation generation = engine->Generate(SomePrompt(max_model_len - 8), {.max_tokens = 8});
    ASSERT_EQ(cudaMemGetInfo(&after, &total), cudaSuccess);
    const std::uint64_t estimate = EstimateDeviceBytes(checkpoint->config(), options);
    std::printf("max_model_len %lld: %zu MiB taken beyond what was cached, %llu MiB estimated\n",
                static_cast<long long>(max_model_len), (before - std::min(before, after)) >> 20,
                static_cast<unsigned long long>(estimate >> 20));
    EXPECT_LE(before - std::min(before, after), estimate);
  }
}

}  // namespace
}  // namespace suites
