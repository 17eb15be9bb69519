// Prefill and decode of a model on the CPU, by variant:
//   generation/prefill/awq_marlin/prompt:256
//   generation/decode/awq_marlin/prompt:256
// A decode is 50 steps; time is for all of them, and the process's CPU time beside it
// for the whole generation. Models are loaded at first use
// and kept, so that repetitions of different variants can be interleaved. The
// model is the embedded one, or that of the folders awq, gptq, openvino and torchao
// below $QUANT_BENCHMARK_MODELS, as quantize_checkpoint --random --shape writes
// them.
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "suites/benchmarks/deterministic_switch.h"
#include "suites/checkpoint/checkpoint.h"
#include "suites/model/qwen3.h"
#include "suites/openvino/openvino_engine.h"

namespace quant_suites {
namespace {

struct Variant {
  const char* name;
  const char* folder;  // below ModelsFolder()
  const char* compute;
  const char* kernel;
  bool ordered = false;  // under PyTorch's deterministic switch
};
constexpr Variant kVariants[] = {
    {"awq_marlin", "awq", "fp16", "marlin"},         {"awq", "awq", "fp16", "awq"},
    {"gptq_marlin", "gptq", "fp16", "marlin"},       {"gptq", "gptq", "fp16", "gptq"},
    {"gptq_ordered", "gptq", "fp16", "gptq", true},  {"openvino", "openvino", "", ""},
    {"pytorch_int4", "torchao", "bf16", "tinygemm"},
};
constexpr int kDecodeTokens = 50;

std::filesystem::path ModelsFolder() {
  const char* const given = std::getenv("QUANT_BENCHMARK_MODELS");
  return given != nullptr && *given != '\0' ? given : EMBEDDED_MODELS;
}

suites::InferenceEngine& EngineOf(const Variant& variant) {
  static std::map<std::string, std::unique_ptr<suites::InferenceEngine>> engines;
  std::unique_ptr<suites::InferenceEngine>& engine = engines[variant.name];
  if (engine == nullptr) {
    const std::filesystem::path folder = ModelsFolder() / variant.folder;
    if (std::string(variant.kernel).empty()) {
      // As many threads as ours; in all else the runtime's own choice.
      engine = suites::OpenVinoEngine::Load(folder, {.threads = at::get_num_threads()});
    } else {
      suites::Qwen3Options options;
      options.compute = variant.compute;
      options.kernel.family = variant.kernel;
      engine = suites::Qwen3Engine::Load(*suites::OpenCheckpoint(folder), options);
    }
  }
  return *engine;
}

void Generate(benchmark::State& state, const Variant& variant, bool decode) {
  try {
    suites::InferenceEngine& engine = EngineOf(variant);
    const DeterministicSwitch deterministic(variant.ordered);
    std::vector<std::int64_t> prompt;
    for (std::int64_t i = 0; i < state.range(0); ++i) prompt.push_back((i * 7919 + 11) % 4000);
    suites::GenerationOptions options;
    options.max_tokens = decode ? kDecodeTokens : 1;
    for (auto _ : state) {
      const suites::Generation generation = engine.Generate(prompt, options);
      state.SetIterationTime(decode ? generation.decode_seconds : generation.prefill_seconds);
    }
    // The first token of a decode comes of the prefill.
    const std::int64_t tokens = decode ? kDecodeTokens - 1 : state.range(0);
    state.counters["tokens/s"] = benchmark::Counter(
        static_cast<double>(tokens) * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  } catch (const std::exception& error) {
    state.SkipWithError(error.what());
  }
}

const bool registered = [] {
  for (const Variant& variant : kVariants) {
    for (const bool decode : {false, true}) {
      const std::string name = std::string("generation/") + (decode ? "decode/" : "prefill/") + variant.name;
      auto* benchmark = benchmark::RegisterBenchmark(
          name.c_str(), [&variant, decode](benchmark::State& state) { Generate(state, variant, decode); });
      benchmark->ArgName("prompt")->Arg(256)->MeasureProcessCPUTime()->UseManualTime()->Unit(benchmark::kMillisecond);
      if (!decode) benchmark->Arg(1024)->Arg(3000);
    }
  }
  return true;
}();

}  // namespace
}  // namespace quant_suites
