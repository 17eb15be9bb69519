#include "suites/benchmarks/selection.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "suites/startup/arguments.h"

namespace quant_suites {

bool Selection::Wants(const std::string& name, const std::vector<std::string>& chosen) const {
  return chosen.empty() || std::find(chosen.begin(), chosen.end(), name) != chosen.end();
}

ParsedSelection ParseSelection(int argc, const char* const* argv) {
  ParsedSelection parsed;
  Selection& s = parsed.selection;
  CLI::App app(
      "Benchmarks of the INT4 kernels and of whole models. Other flags are Google Benchmark's: "
      "--benchmark_filter=REGEX,\n"
      "--benchmark_list_tests, --benchmark_repetitions=N (on a CPU), ... The following are of those on a GPU, which "
      "are\n"
      "there where there is one.",
      "quant_benchmarks");
  app.allow_extras();
  bool all_rows = false;
  app.add_option("--layers", s.layers, "Matmuls: some of qkv, o, gate_up, down")
      ->delimiter(',')
      ->check(CLI::IsMember({"qkv", "o", "gate_up", "down"}).description(""));
  app.add_option("--rows", s.rows, "Matmuls: rows of x; unset: 1,16,64,512,3790")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 24));
  app.add_flag("--all-rows", all_rows, "Matmuls: 1,2,4,8,16,17,32,64,128,256,512,1024,2048,3790");
  app.add_option("--providers", s.providers,
                 "Matmuls: some of cublas_fp16, marlin, awq, gptq, gptq_ordered, tinygemm, vllm_marlin, ...")
      ->delimiter(',')
      ->check(CLI::IsMember({"cublas_fp16", "marlin", "awq", "gptq", "gptq_ordered", "marlin_invariant",
                             "awq_invariant", "tinygemm", "vllm_marlin", "vllm_awq", "vllm_gptq"})
                  .description(""));
  app.add_option("--variants", s.variants, "Whole model: some of awq_marlin, awq, gptq_marlin, gptq, vllm_awq, ...")
      ->delimiter(',')
      ->check(CLI::IsMember({"awq_marlin", "awq", "gptq_marlin", "gptq", "gptq_ordered", "awq_marlin_invariant",
                             "pytorch_int4", "vllm_awq_marlin", "vllm_awq", "vllm_gptq"})
                  .description(""));
  app.add_option("--prompt", s.prompt, "Whole model: tokens of the prompt")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_option("--steps", s.steps, "Whole model: decode steps")->check(CLI::Range(1, 1 << 24))->capture_default_str();
  app.add_option("--rounds", s.rounds, "Interleaved rounds")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--pattern-runs", s.pattern_runs, "Repetitions whose bits are compared")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--op-library", s.op_libraries, "A torch op library; else $QUANT_OP_LIBRARIES, else the package vllm");
  app.add_option("--table-json", s.table_json, "Write the tables to this file");
  app.add_option("--table-markdown", s.table_markdown, "Write the tables to this file");
  app.add_flag("--quiet", s.quiet, "Print the tables only");
  app.add_flag("--once", s.once,
               "No times, each call once between cudaProfilerStart and Stop, for ncu; with --variants of a model");
  if (const auto exit_code = suites::ParseArguments(app, {argv + 1, argv + argc})) {
    parsed.exit_code = *exit_code;
    return parsed;
  }
  if (s.rows.empty()) s.rows = {1, 16, 64, 512, 3790};
  if (all_rows) s.rows = {1, 2, 4, 8, 16, 17, 32, 64, 128, 256, 512, 1024, 2048, 3790};
  parsed.others = app.remaining();
  for (const std::string& other : parsed.others) {
    if (other.starts_with("--benchmark_") || other.starts_with("--v=")) continue;
    std::cerr << "quant_benchmarks: unknown argument " << other << "; see --help\n";
    parsed.exit_code = 2;
    return parsed;
  }
  return parsed;
}

}  // namespace quant_suites
