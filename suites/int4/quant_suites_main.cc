// quant_suites: INT4 inference of Qwen3, repeated, one verdict file a variant.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "gtest_determinism/configuration.h"
#include "reporters/console.h"
#include "reporters/text.h"
#include "suites/int4/command_line.h"
#include "suites/int4/cuda_device.h"
#include "suites/int4/int4_inference_test.h"
#include "suites/int4/list_variants.h"
#include "suites/int4/model_locator.h"
#include "suites/startup/openmp_wait.h"

namespace {

namespace fs = std::filesystem;

int Refuse(const std::string& message) {
  std::cerr << "quant_suites: " << message << '\n';
  return 2;
}

// Found out before hours of inference, not after them. Returns "" or one line.
std::string ProblemOfOutputFolder(const fs::path& folder, const std::string& flag) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return folder.string() + ": cannot be made (" + error.message() + "); choose another folder with " + flag;
  std::string probe = (folder / ".quant_suites_probe_XXXXXX").string();
  const int file = mkstemp(probe.data());
  if (file < 0)
    return folder.string() + ": cannot be written (" + std::strerror(errno) + "); choose another folder with " + flag;
  close(file);
  unlink(probe.c_str());
  return "";
}

// In PyTorch's deterministic mode cuBLAS needs a fixed workspace; it holds in
// both modes, so that only one thing changes between them.
void FixEnvironment() { setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0); }

// A flag of the library, or its environment twin.
bool Given(const std::vector<std::string>& arguments, const std::string& flag, const char* variable) {
  for (const std::string& argument : arguments) {
    if (argument.rfind("--determinism_" + flag, 0) == 0 && argument.size() >= 14 + flag.size() &&
        (argument.size() == 14 + flag.size() || argument[14 + flag.size()] == '=')) {
      return true;
    }
  }
  return std::getenv(variable) != nullptr;
}

// GoogleTest runs a part of the tests in each of several processes; a part may
// be empty.
bool Sharded() {
  const char* shards = std::getenv("GTEST_TOTAL_SHARDS");
  return shards != nullptr && std::atoi(shards) > 1;
}

int Run(int argc, char** argv) {
  const fs::path data = QUANT_SUITES_DATA_DIR;
  suites::CommandLine command_line = suites::ParseCommandLine(argc, argv, data / "variants.json");
  if (command_line.exit_code) return *command_line.exit_code;
  const suites::SuiteOptions& options = command_line.options;

  suites::RunContext context;
  context.options = options;
  context.places = suites::PlacesOfThisProcess();
  context.places.by_variant = options.model_dirs;
  if (options.embedded) context.places = suites::EmbeddedOnly(context.places);
  context.default_prompt_file = data / "prompts" / "default_prompt.txt";
  context.argv.assign(argv, argv + argc);

  std::vector<suites::Variant> selected;
  try {
    const std::vector<suites::Variant> table = suites::ReadVariants(options.variants_file);
    selected = suites::SelectVariants(table, options.variants);
    for (const auto& [id, path] : options.model_dirs) suites::SelectVariants(table, {id});
  } catch (const suites::VariantError& error) {
    return Refuse(error.what());
  }
  if (options.list_variants) {
    try {
      suites::ListVariants(std::cout, selected, context.places, suites::ResolveDevice(options.device),
                           options.provider);
    } catch (const suites::VariantError& error) {
      return Refuse(error.what());
    }
    return 0;
  }

  std::vector<char*> rest;
  for (std::string& argument : command_line.rest) rest.push_back(argument.data());
  rest.push_back(nullptr);
  int rest_count = static_cast<int>(command_line.rest.size());
  testing::InitGoogleTest(&rest_count, rest.data());
  try {
    const bool runs_given = Given(command_line.rest, "runs", "DETERMINISM_RUNS");
    const bool seed_given = Given(command_line.rest, "seed", "DETERMINISM_SEED");
    gtest_determinism::SetConfiguration(gtest_determinism::ParseConfiguration(&rest_count, rest.data()));
    suites::ApplyDeterminismFlags(gtest_determinism::GetConfiguration(), runs_given, seed_given, context.options);
  } catch (const std::exception& error) {
    return Refuse(error.what());
  }
  if (rest_count > 1) return Refuse(std::string("unknown flag ") + rest[1] + "; see --help");

  suites::SuiteResults results;
  const reporters::ConsoleStyle console = reporters::DetectConsole(STDOUT_FILENO);
  reporters::ConsoleProgress progress(std::cout, console);
  context.progress = [&progress](const std::string& phase, int done, int of) { progress.Update(phase, done, of); };
  suites::RegisterInt4InferenceTests(selected, context, progress, results);
  if (GTEST_FLAG_GET(list_tests)) return RUN_ALL_TESTS();
  if (const std::string problem = ProblemOfOutputFolder(options.output_dir, "--output-dir"); !problem.empty())
    return Refuse(problem);
  if (options.dump_logits_dir) {
    const std::string problem = ProblemOfOutputFolder(*options.dump_logits_dir, "--dump-logits");
    if (!problem.empty()) return Refuse(problem);
  }
  if (options.threads > 0) at::set_num_threads(options.threads);
  FixEnvironment();

  const int status = RUN_ALL_TESTS();
  if (results.rows.empty()) {
    if (Sharded()) return status;
    return Refuse("no variant was run: --variants and --gtest_filter leave none, or a --gtest_ flag is unknown");
  }
  reporters::WriteSummaryTable(std::cout, results.rows, console);
  const int exit_code = status == 0 && results.unwritten == 0 ? 0 : 1;
  if (results.journal) results.journal->Finish(exit_code);
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  suites::LimitOpenMpSpinning(argv);
  try {
    return Run(argc, argv);
  } catch (const std::exception& error) {
    return Refuse(error.what());
  }
}
