#include "suites/model/qwen3.h"

#include <ATen/Parallel.h>
#include <ATen/record_function.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "gtest_determinism/digest.h"
#include "gtest_determinism/perturbations.h"
#include "gtest_determinism/runner.h"
#include "suites/tokenizer/tokenizer.h"
#include "tests/suites/model/reference.h"

namespace suites {
namespace {

using gtest_determinism::Outcome;
using gtest_determinism::Report;
using gtest_determinism::RunRepeated;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::unique_ptr<Qwen3Engine> LoadTiny(const std::string& compute, std::int64_t prefill_chunk = 0,
                                      std::int64_t max_model_len = 8192) {
  Qwen3Options options;
  options.compute = compute;
  options.prefill_chunk = prefill_chunk;
  options.max_model_len = max_model_len;
  return Qwen3Engine::Load(*OpenCheckpoint(TinyModelFolder()), options);
}
std::unique_ptr<Qwen3Engine> LoadQuantized(const std::string& checkpoint, const std::string& family) {
  return Qwen3Engine::Load(*OpenCheckpoint(TestCheckpoint(checkpoint)),
                           {.compute = "fp16", .kernel = {.family = family}});
}
std::vector<std::int64_t> SomePrompt(std::int64_t length) {
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < length; ++i) ids.push_back((i * 7919 + 11) % 1000);
  return ids;
}

// By transformers 5.17 in float32: suites/models/tiny_qwen3/README.md.
TEST(FullPrecision, ContinuesAsTheReferenceDoes) {
  const auto engine = LoadTiny("fp32");
  const Tokenizer tokenizer = Tokenizer::Open(TinyModelFolder());
  const std::pair<const char*, const char*> cases[] = {
      {"The determinism of a floating point reduction",
       "\nof the floating-point operation.\n\nParameters\n----------\na : array_like\n    Input array\n"
       "dtype : scalar or array_like\n    Data-type as a length of the accumul"},
      {"Applies a 2D convolution over an input signal",
       " composed of 3D tensors, you\n      can choose to use in two different sizes. Only used when the 2D "
       "convolution accepts\n      4D inputs"},
  };
  for (const auto& [prompt, continuation] : cases) {
    const Generation generation = engine->Generate(tokenizer.Encode(prompt), {.max_tokens = 40});
    EXPECT_EQ(tokenizer.Decode(generation.tokens), continuation);
  }
}

class PrecisionTest : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Precisions, PrecisionTest, testing::Values("fp16", "bf16", "fp32"),
                         [](const auto& info) { return std::string(info.param); });

// Without INT4 no result depends on how rows are grouped, so these are equal in
// bits: whole and chunked prefill; decode with the cache and prefill without.
TEST_P(PrecisionTest, ChunksAndCacheDoNotChangeABit) {
  const std::vector<std::int64_t> prompt = SomePrompt(70);
  const Generation whole = LoadTiny(GetParam())->Generate(prompt, {.max_tokens = 8, .all_prompt_logits = true});
  for (const std::int64_t chunk : {1, 13, 64}) {
    const Generation chunked =
        LoadTiny(GetParam(), chunk)->Generate(prompt, {.max_tokens = 8, .all_prompt_logits = true});
    EXPECT_TRUE(chunked.prompt_logits.SameBits(whole.prompt_logits)) << "chunks of " << chunk;
    EXPECT_TRUE(chunked.step_logits.SameBits(whole.step_logits)) << "chunks of " << chunk;
  }
  std::vector<std::int64_t> longer = prompt;
  longer.insert(longer.end(), whole.tokens.begin(), whole.tokens.end());
  const Generation without_cache = LoadTiny(GetParam())->Generate(longer, {.max_tokens = 0, .all_prompt_logits = true});
  for (std::int64_t s = 0; s < 8; ++s) {
    EXPECT_EQ(without_cache.prompt_logits.Row(69 + s), whole.step_logits.Row(s)) << "step " << s;
  }
  EXPECT_EQ(without_cache.prompt_logits.rows, 78);
  EXPECT_EQ(without_cache.step_logits.rows, 0);
  EXPECT_TRUE(without_cache.tokens.empty());
}

TEST_P(PrecisionTest, TheNumberOfThreadsDoesNotChangeABit) {
  const auto engine = LoadTiny(GetParam());
  const int threads = at::get_num_threads();
  const Report report = RunRepeated(
      [&, run = 0]() mutable {
        at::set_num_threads(run++ % 4 + 1);
        return engine->Generate(SomePrompt(40), {.max_tokens = 4, .all_prompt_logits = true});
      },
      {.runs = 12, .perturbations = {{gtest_determinism::AllocatorPoison()}}});
  at::set_num_threads(threads);
  EXPECT_EQ(report.outcome, Outcome::kBitExact) << report.reason;
}

TEST(Quantized, OrderedKernelsRepeatToTheBitOverAHundredGenerations) {
  for (const char* family : {"marlin", "awq"}) {
    const auto engine = LoadQuantized("awq", family);
    const Report report = RunRepeated([&] { return engine->Generate(SomePrompt(32), {.max_tokens = 8}); },
                                      {.runs = 100, .perturbations = {{gtest_determinism::AllocatorPoison()}}});
    EXPECT_EQ(report.outcome, Outcome::kBitExact) << family << ": " << report.reason;
    EXPECT_EQ(report.runs, 100);
  }
}

TEST(Quantized, MatmulsCanBeReplayedAloneOnTheirInputs) {
  const auto engine = LoadQuantized("awq", "marlin");
  struct Kept {
    int step, layer;
    std::string op;
    at::Tensor x;
  };
  std::vector<Kept> inputs;
  engine->SetMatmulInputSink([&](int step, int layer, const std::string& op, const at::Tensor& x) {
    inputs.push_back({step, layer, op, x.clone()});
  });
  std::map<std::string, std::vector<std::byte>> outputs;
  engine->SetOpSink([&](const OpOutput& output) {
    const auto* bytes = static_cast<const std::byte*>(output.bits.data);
    outputs[std::to_string(output.step) + "/" + std::to_string(output.layer) + "/" + output.op].assign(
        bytes, bytes + output.bits.bytes);
  });
  engine->Generate(SomePrompt(20), {.max_tokens = 3});
  ASSERT_EQ(inputs.size(), 3u * 4 * 4);  // passes, layers, projections
  for (const Kept& kept : inputs) {
    const kernels::Int4Matmul* matmul = engine->MatmulOf(kept.layer, kept.op);
    ASSERT_NE(matmul, nullptr) << kept.op;
    const at::Tensor y = matmul->Forward(kept.x);
    const auto& seen = outputs.at(std::to_string(kept.step) + "/" + std::to_string(kept.layer) + "/" + kept.op);
    ASSERT_EQ(y.nbytes(), seen.size());
    EXPECT_EQ(std::memcmp(y.const_data_ptr(), seen.data(), seen.size()), 0) << kept.op << " of layer " << kept.layer;
  }
  inputs.clear();
  engine->SetMatmulInputSink({});
  engine->Generate(SomePrompt(20), {.max_tokens = 1});
  EXPECT_TRUE(inputs.empty());
  EXPECT_EQ(engine->MatmulOf(0, "rope"), nullptr);
  EXPECT_EQ(engine->MatmulOf(99, "qkv_proj"), nullptr);
}

struct NamedOutput {
  std::string name;
  std::vector<std::byte> bytes;
  std::vector<std::int64_t> shape;
};
std::vector<NamedOutput> OutputsOf(Qwen3Engine& engine, const std::vector<std::int64_t>& prompt, int tokens) {
  std::vector<NamedOutput> outputs;
  engine.SetOpSink([&](const OpOutput& output) {
    const auto* bytes = static_cast<const std::byte*>(output.bits.data);
    outputs.push_back({std::to_string(output.step) + "/" + std::to_string(output.layer) + "/" + output.op,
                       std::vector<std::byte>(bytes, bytes + output.bits.bytes), output.bits.shape});
  });
  engine.Generate(prompt, {.max_tokens = tokens});
  engine.SetOpSink({});
  return outputs;
}

TEST(OpSink, OffersEveryOperationInTheOrderOfComputation) {
  const auto engine = LoadQuantized("awq", "awq");
  const auto outputs = OutputsOf(*engine, SomePrompt(5), 2);
  std::vector<std::string> expected;
  for (const char* step : {"0", "1"}) {
    expected.push_back(std::string(step) + "/-1/embedding");
    for (int layer = 0; layer < 4; ++layer) {
      for (const char* op : {"input_norm", "qkv_proj", "rope", "attention", "o_proj", "residual", "post_norm",
                             "gate_up_proj", "silu_mul", "down_proj", "residual"}) {
        expected.push_back(std::string(step) + "/" + std::to_string(layer) + "/" + op);
      }
    }
    expected.push_back(std::string(step) + "/-1/final_norm");
    expected.push_back(std::string(step) + "/-1/lm_head");
    expected.push_back(std::string(step) + "/-1/sampling");
  }
  std::vector<std::string> names;
  for (const auto& output : outputs) names.push_back(output.name);
  EXPECT_EQ(names, expected);
  EXPECT_THAT(outputs[2].shape, testing::ElementsAre(5, (8 + 2 * 4) * 32));  // q, k and v of 5 rows
  EXPECT_THAT(outputs[outputs.size() - 2].shape, testing::ElementsAre(1, 1024));
  EXPECT_THAT(outputs.back().shape, testing::ElementsAre(1));
}

TEST(OpSink, FindsTheFirstOperationOfAPlantedNoise) {
  const auto engine = LoadQuantized("awq", "marlin");
  const auto clean = OutputsOf(*engine, SomePrompt(9), 6);
  // One low bit of one input of one matmul; the input's own output was offered before.
  engine->SetMatmulInputSink([](int step, int layer, const std::string& op, const at::Tensor& x) {
    if (step == 3 && layer == 2 && op == "down_proj") static_cast<std::uint16_t*>(x.mutable_data_ptr())[17] ^= 0x40;
  });
  const auto noisy = OutputsOf(*engine, SomePrompt(9), 6);
  engine->SetMatmulInputSink({});
  auto first_difference = [&](const std::vector<NamedOutput>& other) -> std::string {
    for (std::size_t i = 0; i < clean.size(); ++i) {
      if (clean[i].name != other[i].name || clean[i].bytes != other[i].bytes) return clean[i].name;
    }
    return "none";
  };
  ASSERT_EQ(clean.size(), noisy.size());
  EXPECT_EQ(first_difference(noisy), "3/2/down_proj");
  EXPECT_EQ(first_difference(OutputsOf(*engine, SomePrompt(9), 6)), "none");  // the control
}

TEST(Trace, NamesEveryOperationByADigestOfItsOutput) {
  const auto engine = LoadQuantized("awq", "marlin");
  const auto outputs = OutputsOf(*engine, SomePrompt(9), 3);
  const std::vector<TracedOp> trace = engine->Trace(SomePrompt(9), {.max_tokens = 3});
  ASSERT_EQ(trace.size(), outputs.size());
  for (std::size_t i = 0; i < trace.size(); ++i) {
    EXPECT_EQ(std::to_string(trace[i].step) + "/" + std::to_string(trace[i].layer) + "/" + trace[i].op,
              outputs[i].name);
    EXPECT_EQ(trace[i].digest, gtest_determinism::TreeDigest(outputs[i].bytes.data(), outputs[i].bytes.size()));
  }
  // The control: another prompt has other digests from the first operation on.
  EXPECT_NE(engine->Trace(SomePrompt(8), {.max_tokens = 1}).front().digest, trace.front().digest);
}

TEST(ReplaySink, RunsEachOperationAloneAndLeavesTheGenerationAsItWas) {
  for (const bool quantized : {true, false}) {
    const auto engine = quantized ? LoadQuantized("awq", "marlin") : LoadTiny("fp16");
    const auto outputs = OutputsOf(*engine, SomePrompt(9), 3);
    std::vector<NamedOutput> replayed;
    int matmuls = 0;
    engine->SetReplaySink([&](const OpSite& site, const std::function<std::vector<at::Tensor>()>& run,
                              const kernels::Int4Matmul* matmul, const at::Tensor& x) {
      EXPECT_EQ(matmul != nullptr, x.defined());
      matmuls += matmul != nullptr ? 1 : 0;
      run();
      const std::vector<at::Tensor> once_more = run();
      ASSERT_EQ(once_more.size(), 1u);
      const at::Tensor result = once_more.front().contiguous();
      const auto* bytes = static_cast<const std::byte*>(result.const_data_ptr());
      replayed.push_back({std::to_string(site.step) + "/" + std::to_string(site.layer) + "/" + site.op,
                          std::vector<std::byte>(bytes, bytes + result.nbytes()), result.sizes().vec()});
    });
    const Generation disturbed = engine->Generate(SomePrompt(9), {.max_tokens = 3});
    engine->SetReplaySink({});
    EXPECT_EQ(matmuls, quantized ? 3 * 4 * 4 : 0);
    ASSERT_EQ(replayed.size(), outputs.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      EXPECT_EQ(replayed[i].name, outputs[i].name);
      EXPECT_EQ(replayed[i].bytes, outputs[i].bytes) << outputs[i].name;
    }
    const Generation plain = engine->Generate(SomePrompt(9), {.max_tokens = 3});
    EXPECT_TRUE(disturbed.step_logits.SameBits(plain.step_logits));
  }
}

std::set<std::string>* recorded_names = nullptr;

TEST(RecordFunction, SeesTheInt4OperatorAndEveryOtherOperation) {
  const auto engine = LoadQuantized("awq", "marlin");
  std::set<std::string> names;
  recorded_names = &names;
  const auto handle = at::addGlobalCallback(
      at::RecordFunctionCallback([](const at::RecordFunction& fn) -> std::unique_ptr<at::ObserverContext> {
        recorded_names->insert(fn.name());
        return nullptr;
      }).scopes({at::RecordScope::FUNCTION}));
  engine->Generate(SomePrompt(4), {.max_tokens = 2});
  at::removeCallback(handle);
  for (const char* name : {"qwen3::embedding", "qwen3::rms_norm", "qwen3::qk_norm_rope", "qwen3::attention",
                           "qwen3::silu_mul", "qwen3::add", "qwen3::linear", "qwen3::sampling"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
  EXPECT_TRUE(names.contains(engine->kernel()->op)) << engine->kernel()->op;
  names.clear();
  LoadTiny("fp32")->Generate(SomePrompt(4), {.max_tokens = 1});
  EXPECT_TRUE(names.empty()) << "the callback was removed";
}

TEST(TeacherForcing, FollowsTheIdsAndThenTheArgmax) {
  const auto engine = LoadTiny("fp32");
  const Generation free = engine->Generate(SomePrompt(10), {.max_tokens = 6});
  const Generation forced = engine->Generate(SomePrompt(10), {.max_tokens = 6, .forced_ids = {5, 6}});
  EXPECT_EQ(forced.tokens[0], 5);
  EXPECT_EQ(forced.tokens[1], 6);
  EXPECT_NE(free.tokens[0], 5);
  EXPECT_EQ(forced.step_logits.Row(0), free.step_logits.Row(0));
  EXPECT_NE(forced.step_logits.Row(1), free.step_logits.Row(1));
  std::vector<std::int64_t> longer = SomePrompt(10);
  longer.insert(longer.end(), {5, 6});
  const Generation continued = engine->Generate(longer, {.max_tokens = 4});
  EXPECT_TRUE(std::equal(continued.tokens.begin(), continued.tokens.end(), forced.tokens.begin() + 2));
  // Forced with its own argmax it is the free run, however many ids are given.
  std::vector<std::int64_t> own = free.tokens;
  own.push_back(1);
  const Generation same = engine->Generate(SomePrompt(10), {.max_tokens = 6, .forced_ids = own});
  EXPECT_TRUE(same.step_logits.SameBits(free.step_logits));
  EXPECT_FALSE(forced.step_logits.SameBits(free.step_logits));
}

TEST(Errors, NameTheThingAndWhatToDo) {
  const auto engine = LoadTiny("fp32");
  EXPECT_THAT([&] { engine->Generate({}, {}); }, ThrowsMessage<std::invalid_argument>(HasSubstr("prompt is empty")));
  EXPECT_THAT(
      [&] {
        engine->Generate({1, 4096}, {});
      },
      ThrowsMessage<std::invalid_argument>(
          HasSubstr("prompt_ids[1] = 4096 is outside the model's vocabulary of 4096")));
  EXPECT_THAT([&] { engine->Generate({-1}, {}); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("prompt_ids[0] = -1")));
  EXPECT_THAT([&] { engine->Generate({1}, {.forced_ids = {9999}}); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("forced_ids[0] = 9999")));
  EXPECT_THAT([&] { engine->Generate({1}, {.max_tokens = -1}); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("max_tokens")));
  EXPECT_THAT([&] { engine->Generate(SomePrompt(8190), {.max_tokens = 3}); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("8190 tokens and 3 new ones exceed the model's 8192")));
  EXPECT_NO_THROW(engine->Generate(SomePrompt(8), {.max_tokens = 3}));  // the control

  const auto tiny = OpenCheckpoint(TinyModelFolder());
  const auto awq = OpenCheckpoint(TestCheckpoint("awq"));
  auto load = [](const Checkpoint& checkpoint, const std::string& compute, const std::string& family,
                 const std::string& device = "cpu") {
    Qwen3Options options;
    options.compute = compute;
    options.kernel.family = family;
    options.kernel.device = device;
    return Qwen3Engine::Load(checkpoint, options);
  };
  EXPECT_THAT([&] { load(*tiny, "fp8", ""); }, ThrowsMessage<std::invalid_argument>(HasSubstr("fp8")));
  EXPECT_THAT([&] { load(*tiny, "fp32", "", "tpu"); }, ThrowsMessage<std::invalid_argument>(HasSubstr("tpu")));
  EXPECT_THAT([&] { load(*tiny, "fp32", "", "cuda:x"); }, ThrowsMessage<std::invalid_argument>(HasSubstr("cuda:x")));
  EXPECT_THAT([&] { load(*awq, "fp16", ""); }, ThrowsMessage<std::invalid_argument>(HasSubstr("name a kernel")));
  EXPECT_THAT([&] { load(*awq, "bf16", "marlin"); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("kernel marlin computes in fp16, not in bf16")));
  EXPECT_THAT([&] { load(*awq, "fp16", "tinygemm"); },
              ThrowsMessage<std::invalid_argument>(HasSubstr("tinygemm computes in bf16")));
  EXPECT_THROW(load(*awq, "fp16", "nosuchkernel"), std::invalid_argument);
}

TEST(Limits, MaxModelLenIsTheSmallerOfTheTwo) {
  const auto engine = LoadTiny("fp32", 0, 100);
  EXPECT_EQ(engine->max_positions(), 100);
  EXPECT_EQ(engine->vocab_size(), 4096);
  EXPECT_EQ(engine->Generate(SomePrompt(90), {.max_tokens = 10}).tokens.size(), 10u);
  EXPECT_THROW(engine->Generate(SomePrompt(91), {.max_tokens = 10}), std::invalid_argument);
}

}  // namespace
}  // namespace suites
