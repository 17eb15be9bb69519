// measure_checkpoints [--device cuda] [--provider vllm] [CHECKPOINT...]: every kernel family on every
// checkpoint of tests/data/checkpoints, beside the references in float32.
//
// Prints a table: the largest difference of the logits of p7 (20 steps, teacher-forced) in
// float32, and in the 16 bits of each family with its root mean square; then a sentence for
// each pair that does not go. Exits with 1 where a difference is larger than the tests allow.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/providers/op_library.h"
#include "suites/checkpoint/safetensors.h"
#include "suites/model/qwen3.h"
#include "suites/startup/arguments.h"
#include "tests/suites/model/checkpoints.h"

namespace suites {
namespace {

constexpr double kFloatBound = 1e-3;  // as reference_test.cc

struct Difference {
  double largest = 0, rms = 0;
};

Difference OfSteps(Qwen3Engine& engine, const std::string& checkpoint) {
  const ReferencePrompt p7 = ReadReference(checkpoint, "p7");
  const Generation forced = engine.Generate(p7.prompt_ids, {.max_tokens = 20, .forced_ids = p7.generated_ids});
  const std::vector<float> logits = AllRows(forced.step_logits);
  const std::vector<float> expected = ReadReferenceLogits(checkpoint, "p7.step_logits");
  return {LargestDifference(logits, expected), RootMeanSquareDifference(logits, expected)};
}

class Table {
 public:
  Table(std::string device, std::string provider, std::vector<std::string> names)
      : device_(std::move(device)), provider_(std::move(provider)), names_(std::move(names)) {}

  // False where a difference is too large.
  bool Run() {
    std::printf("| checkpoint | fp32 |");
    for (const char* family : kFamilies) std::printf(" %s |", family);
    std::printf("\n|---|---|---|---|---|---|\n");
    for (const auto& [name, format] : ReferenceCheckpoints()) {
      if (names_.empty() || std::find(names_.begin(), names_.end(), name) != names_.end()) Row(name);
    }
    std::printf("\n");
    for (const auto& [pair, why] : refused_) std::printf("%s: %s\n", pair.c_str(), why.c_str());
    for (const std::string& failure : failures_) std::printf("FAILED: %s\n", failure.c_str());
    return failures_.empty();
  }

 private:
  static constexpr const char* kFamilies[] = {"marlin", "awq", "gptq", "tinygemm"};

  std::unique_ptr<Qwen3Engine> Load(const std::string& name, const std::string& compute, const std::string& family) {
    Qwen3Options options;
    options.compute = compute;
    options.max_model_len = 512;
    options.kernel.family = family;
    options.kernel.device = device_;
    if (compute != "fp32" && family != "tinygemm") options.kernel.provider = provider_;
    return Qwen3Engine::Load(*OpenCheckpoint(TestCheckpoint(name)), options);
  }

  void Row(const std::string& name) {
    const auto start = std::chrono::steady_clock::now();
    const Difference exact = OfSteps(*Load(name, "fp32", ""), name);
    std::printf("| %s | %.2g |", name.c_str(), exact.largest);
    std::fflush(stdout);
    if (!(exact.largest <= kFloatBound)) failures_.push_back(name + " in fp32");
    const ModelConfig config = ReadModelConfig(TestCheckpoint(name));
    const std::vector<float> expected = ReadReferenceLogits(name, "p7.step_logits");
    for (const char* const family : kFamilies) {
      const std::string pair = name + " by " + family;
      try {
        const bool bf16 = std::string(family) == "tinygemm";
        const Difference difference = OfSteps(*Load(name, bf16 ? "bf16" : "fp16", family), name);
        std::printf(" %.2g, rms %.2g |", difference.largest, difference.rms);
        if (!(difference.rms <= 2 * ExpectedNoise(family, config, expected))) failures_.push_back(pair);
      } catch (const std::invalid_argument& error) {
        std::printf(" - |");
        refused_[pair] = error.what();
      }
      std::fflush(stdout);
    }
    std::printf("\n");
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::fprintf(stderr, "%s: %.2f s\n", name.c_str(), seconds);
  }

  std::string device_, provider_;
  std::vector<std::string> names_;
  std::map<std::string, std::string> refused_;
  std::vector<std::string> failures_;
};

int Run(int argc, char** argv) {
  CLI::App app("Every kernel family on every checkpoint of the tests, beside references in float32.",
               "measure_checkpoints");
  std::string device = "cpu", provider = "builtin";
  app.add_option("--device", device, "cpu, cuda or cuda:N")->check(DeviceName())->capture_default_str();
  app.add_option("--provider", provider, "Whose kernels: builtin or vllm ($QUANT_OP_LIBRARIES)")
      ->check(CLI::IsMember({"builtin", "vllm"}))
      ->capture_default_str();
  std::vector<std::string> names;
  std::vector<std::string> known;
  for (const ReferenceCheckpoint& checkpoint : ReferenceCheckpoints()) known.emplace_back(checkpoint.name);
  app.add_option("checkpoint", names, "Those alone (default: all)")->check(CLI::IsMember(known));
  if (const auto exit_code = ParseArguments(app, {argv + 1, argv + argc})) return *exit_code;
  if (provider == "vllm") kernels::OpenOpLibraries({});
  return Table(device, provider, names).Run() ? 0 : 1;
}

}  // namespace
}  // namespace suites

int main(int argc, char** argv) {
  return suites::RunMain("measure_checkpoints", [&] { return suites::Run(argc, argv); });
}
