// Every program says in one line what it cannot read or use, and ends with 2.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/suites/int4/program.h"

namespace suites {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

std::vector<std::filesystem::path> Programs() {
  std::vector<std::filesystem::path> programs;
  std::istringstream list(PROGRAMS);
  for (std::string file; std::getline(list, file, ':');) programs.emplace_back(file);
  return programs;
}

std::optional<std::filesystem::path> Find(const std::string& name) {
  for (const std::filesystem::path& program : Programs()) {
    if (program.filename() == name) return program;
  }
  return std::nullopt;
}

TEST(CommandLines, AnUnknownFlagIsOneLineThatNamesIt) {
  ASSERT_GE(Programs().size(), 6u);
  for (const std::filesystem::path& program : Programs()) {
    const ProgramResult result = RunProgram(program, {"--bogus"});
    EXPECT_EQ(result.exit_code, 2) << program;
    EXPECT_EQ(result.out, "") << program;
    EXPECT_THAT(result.err, MatchesRegex(program.filename().string() + ": [^\n]*--bogus[^\n]*; see --help\n"));
  }
}

TEST(CommandLines, HelpNamesTheProgram) {
  for (const std::filesystem::path& program : Programs()) {
    const ProgramResult result = RunProgram(program, {"--help"});
    EXPECT_EQ(result.exit_code, 0) << program;
    EXPECT_THAT(result.out, HasSubstr("Usage: " + program.filename().string() + " "));
    EXPECT_EQ(result.err, "") << program;
  }
}

struct BadValue {
  const char* program;
  std::vector<std::string> arguments;  // the last two: what is wrong, and its value
  std::vector<std::string> allowed;    // words of the message
};

std::vector<BadValue> BadValues() {
  const std::vector<std::string> families = {"marlin", "awq", "gptq", "tinygemm"};
  const std::vector<std::string> devices = {"cpu", "cuda:N"};
  const std::string model = MODEL, text = TEXT;
  return {
      {"quant_suites", {"--device", "tpu"}, devices},
      {"quant_suites", {"--compute", "fp31"}, {"fp16", "fp32"}},
      {"quantize_checkpoint", {"--random", "--output", "/nowhere/out", "--format", "int3"}, {"awq", "openvino"}},
      {"quantize_checkpoint",
       {"--random", "--output", "/nowhere/out", "--format", "awq", "--shape", "big"},
       {"qwen3-8b"}},
      {"quantize_checkpoint",
       {"--random", "--output", "/nowhere/out", "--format", "awq", "--group-size", "7"},
       {"32", "128"}},
      {"quantize_checkpoint", {"--random", "--output", "/nowhere/out", "--format", "awq", "--threads", "many"}, {}},
      {"measure_upload", {model, "--device", "cuda:"}, devices},
      {"measure_upload", {model, "--buffers", "0"}, {"1"}},
      {"measure_perplexity", {"--model", model, "--text", text, "--compute", "fp31"}, {"fp16", "bf16", "fp32"}},
      {"measure_perplexity", {"--model", model, "--text", text, "--kernel", "fast"}, families},
      {"measure_perplexity", {"--model", model, "--text", "/nowhere.txt"}, {"not exist"}},
      {"measure_load", {model, "--kernel", "fast"}, {"marlin", "openvino"}},
      {"measure_load", {model, "--kernel", "awq", "--device", "gpu"}, devices},
      {"measure_checkpoints", {"--device", "cuda:x"}, devices},
      {"measure_checkpoints", {"--provider", "fast"}, {"builtin", "vllm"}},
      {"measure_operation_patterns", {"--shape", "qwen3-9b"}, {"qwen3-8b"}},
      {"measure_operation_patterns", {"--shape", "qwen3-8b", "--format", "int3"}, {"awq", "gptq", "torchao"}},
      {"measure_operation_patterns", {"--model", model, "--kernel", "fast"}, families},
      {"measure_operation_patterns", {"--kernel", "tinygemm", "--model", model, "--compute", "fp16"}, {"bf16", "fp32"}},
      {"measure_operation_patterns", {"--model", model, "--provider", "mine"}, {"builtin", "vllm"}},
      {"measure_operation_patterns", {"--model", model, "--device", "tpu"}, devices},
      {"measure_operation_patterns", {"--model", model, "--compute", "fp31"}, {"fp16", "bf16", "fp32"}},
      {"measure_operation_patterns", {"--model", model, "--attention", "quick"}, {"flash", "math"}},
      {"measure_operation_patterns", {"--model", model, "--kernel", "awq", "--layers", "4"}, {"0 to 3"}},
      {"measure_operation_patterns", {"--model", model, "--runs", "-1"}, {"0"}},
      {"measure_operation_patterns", {"--model", model, "--prompt-length", "0"}, {"1"}},
      {"measure_operation_patterns", {"--model", model, "--prompt-length", "9000"}, {"--max-model-len"}},
      {"measure_operation_patterns",
       {"--model", model, "--kernel", "awq", "--prompt-length", "2", "--steps", "0", "--runs", "1", "--operations",
        "rotate"},
       {"qkv_proj", "down_proj"}},
      {"measure_kernel_determinism", {"patterns", "--families", "fast"}, families},
      {"measure_kernel_determinism", {"patterns", "--layers", "head"}, {"qkv", "down"}},
      {"measure_kernel_determinism", {"patterns", "--rows", "0"}, {"1"}},
      {"measure_kernel_determinism", {"rates", "--perturbations", "heat"}, {"contention", "poison"}},
      {"measure_kernel_determinism", {"--provider", "mine"}, {"builtin", "vllm"}},
      {"measure_kernel_determinism", {"--option", "fast"}, {"NAME=VALUE"}},
  };
}

TEST(CommandLines, ABadValueIsOneLineThatNamesTheArgumentAndWhatIsAllowed) {
  std::set<std::string> tried;
  for (const BadValue& bad : BadValues()) {
    const auto program = Find(bad.program);
    if (!program) continue;  // of a build with device code
    tried.insert(bad.program);
    const std::string& argument = bad.arguments[bad.arguments.size() - 2];
    const ProgramResult result = RunProgram(*program, bad.arguments);
    const std::string what = std::string(bad.program) + " " + argument + " " + bad.arguments.back();
    EXPECT_EQ(result.exit_code, 2) << what;
    EXPECT_THAT(result.err, MatchesRegex(std::string(bad.program) + ": [^\n]*" + argument + "[^\n]*; see --help\n"))
        << what;
    for (const std::string& word : bad.allowed) EXPECT_THAT(result.err, HasSubstr(word)) << what;
  }
  EXPECT_GE(tried.size(), 7u);
}

// What is well written but cannot be had is no mistake in the command line; and good values are none.
TEST(CommandLines, WhatCannotBeHadEndsWithOneAndGoodValuesWithNone) {
  const std::string model = MODEL;
  for (const auto& [program, arguments] : std::vector<std::pair<const char*, std::vector<std::string>>>{
           {"measure_load", {model, "--kernel", "tinygemm"}},
           {"measure_load", {model, "--kernel", "awq", "--device", "cuda:999999"}},
           {"measure_upload", {model, "--device", "cuda:999999"}},
           {"measure_checkpoints", {"--device", "cuda:999999", "awq"}},
           {"measure_operation_patterns", {"--model", model, "--kernel", "awq", "--device", "cuda:999999"}}}) {
    const ProgramResult result = RunProgram(Find(program).value(), arguments);
    EXPECT_EQ(result.exit_code, 1) << program;
    EXPECT_THAT(result.err, MatchesRegex(std::string(program) + ": [^\n]*\n")) << program;
  }
  for (const auto& [program, arguments] : std::vector<std::pair<const char*, std::vector<std::string>>>{
           {"measure_load", {model, "--kernel", "marlin", "--device", "cpu"}},
           {"measure_checkpoints", {"ct_symmetric", "--provider", "builtin"}},
           {"measure_operation_patterns",
            {"--model", model, "--layers", "1", "--prompt-length", "2", "--steps", "1", "--runs", "1", "--operations",
             "down_proj", "--kernel", "awq", "--attention", "math"}}}) {
    const ProgramResult result = RunProgram(Find(program).value(), arguments);
    EXPECT_EQ(result.exit_code, 0) << program << ": " << result.err;
  }
}

}  // namespace
}  // namespace suites
