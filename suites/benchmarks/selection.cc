#include "suites/benchmarks/selection.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <regex>

#include "suites/startup/arguments.h"

namespace quant_suites {
namespace {

// Before minutes of measuring, not after.
std::string NoFileCanBeThere(const std::string& file) {
  const std::filesystem::path path(file), folder = path.parent_path();
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return file + " is a folder";
  return folder.empty() || std::filesystem::is_directory(folder, ignored) ? "" : "no folder " + folder.string();
}

}  // namespace

bool Selection::Wants(const std::string& name, const std::vector<std::string>& chosen) const {
  return chosen.empty() || std::find(chosen.begin(), chosen.end(), name) != chosen.end();
}

ParsedSelection ParseSelection(int argc, const char* const* argv) {
  ParsedSelection parsed;
  Selection& s = parsed.selection;
  CLI::App app(
      "Benchmarks of the INT4 kernels and of whole models, and their comparison in one table: int4_matmul_cuda/ and\n"
      "generation_cuda/ on a GPU, where there is one, int4_matmul/ and generation/ on the CPU. Google Benchmark's "
      "flags\n"
      "work: --benchmark_filter=REGEX, --benchmark_list_tests, --benchmark_repetitions=N (on the CPU; 9), ... Those "
      "below\n"
      "choose what runs on a GPU; the tables are of both. Exit code: 0; 1 where a benchmark failed, computed "
      "something\n"
      "wrong or none matched; 2 where an argument is wrong.",
      "quant_benchmarks");
  app.allow_extras();
  bool all_rows = false;
  app.add_option("--layers", s.layers, "Matmuls: some of qkv, o, gate_up, down")
      ->delimiter(',')
      ->check(CLI::IsMember({"qkv", "o", "gate_up", "down"}).description(""));
  auto* const rows = app.add_option("--rows", s.rows, "Matmuls: rows of x; unset: 1,16,64,512,3790")
                         ->delimiter(',')
                         ->check(CLI::Range(1, 1 << 24).description(""));
  app.add_flag("--all-rows", all_rows, "Matmuls: 1,2,4,8,16,17,32,64,128,256,512,1024,2048,3790")->excludes(rows);
  app.add_option("--providers", s.providers,
                 "Matmuls: some of cublas_fp16, marlin, awq, gptq, gptq_ordered, marlin_invariant, awq_invariant, "
                 "tinygemm, vllm_marlin, vllm_awq, vllm_gptq")
      ->delimiter(',')
      ->check(CLI::IsMember({"cublas_fp16", "marlin", "awq", "gptq", "gptq_ordered", "marlin_invariant",
                             "awq_invariant", "tinygemm", "vllm_marlin", "vllm_awq", "vllm_gptq"})
                  .description(""));
  app.add_option("--variants", s.variants,
                 "Whole model: some of awq_marlin, awq, gptq_marlin, gptq, gptq_ordered, awq_marlin_invariant, "
                 "pytorch_int4, vllm_awq_marlin, vllm_awq, vllm_gptq")
      ->delimiter(',')
      ->check(CLI::IsMember({"awq_marlin", "awq", "gptq_marlin", "gptq", "gptq_ordered", "awq_marlin_invariant",
                             "pytorch_int4", "vllm_awq_marlin", "vllm_awq", "vllm_gptq"})
                  .description(""));
  app.add_option("--prompt", s.prompt, "Whole model: tokens of the prompt")
      ->check(CLI::Range(1, 1 << 24).description(""))
      ->capture_default_str();
  app.add_option("--steps", s.steps, "Whole model: decode steps")
      ->check(CLI::Range(1, 1 << 24).description(""))
      ->capture_default_str();
  app.add_option("--rounds", s.rounds, "Interleaved rounds; figures are medians of them")
      ->check(CLI::Range(1, 1000).description(""))
      ->capture_default_str();
  app.add_option("--pattern-runs", s.pattern_runs, "Matmuls: repetitions whose bits are compared")
      ->check(CLI::Range(1, 100000).description(""))
      ->capture_default_str();
  app.add_option("--op-library", s.op_libraries,
                 "Torch op library with vLLM's kernels; else $QUANT_OP_LIBRARIES, else the package vllm");
  const CLI::Validator writable(NoFileCanBeThere, "", "");
  app.add_option("--table-json", s.table_json, "Write the tables, every round in them, to this file")->check(writable);
  app.add_option("--table-markdown", s.table_markdown, "Write the tables, and ratios of their columns, to this file")
      ->check(writable);
  app.add_flag("--quiet", s.quiet, "Print the tables only, not a line for each benchmark");
  app.add_flag(
      "--once", s.once,
      "Time nothing: run each matmul, or with --variants each operation of a model's middle layer, once between "
      "cudaProfilerStart() and cudaProfilerStop(), for ncu");
  if (const auto exit_code = suites::ParseArguments(app, {argv + 1, argv + argc})) {
    parsed.exit_code = *exit_code;
    return parsed;
  }
  if (s.rows.empty()) s.rows = {1, 16, 64, 512, 3790};
  if (all_rows) s.rows = {1, 2, 4, 8, 16, 17, 32, 64, 128, 256, 512, 1024, 2048, 3790};
  std::sort(s.rows.begin(), s.rows.end());
  s.rows.erase(std::unique(s.rows.begin(), s.rows.end()), s.rows.end());
  parsed.others = app.remaining();
  for (const std::string& other : parsed.others) {
    if (other.starts_with("--benchmark_") || other.starts_with("--v=")) continue;
    std::cerr << "quant_benchmarks: unknown argument " << other << "; see --help\n";
    parsed.exit_code = 2;
    return parsed;
  }
  return parsed;
}

std::string WrongFilter(const std::string& filter) {
  try {
    const std::regex tried(filter.starts_with('-') ? filter.substr(1) : filter, std::regex::extended);
    return "";
  } catch (const std::regex_error& error) {
    return error.what();
  }
}

}  // namespace quant_suites
