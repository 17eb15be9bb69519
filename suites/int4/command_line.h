// The command line of quant_suites.
#ifndef SUITES_INT4_COMMAND_LINE_H_
#define SUITES_INT4_COMMAND_LINE_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gtest_determinism/configuration.h"

namespace suites {

struct SuiteOptions {
  bool list_variants = false;
  std::vector<std::string> variants;  // ids; empty: all
  std::filesystem::path variants_file;
  std::filesystem::path output_dir = "results";
  std::map<std::string, std::filesystem::path> model_dirs;
  std::string device = "auto";    // "auto", "cpu", "cuda", "cuda:N"
  std::string provider = "auto";  // "auto", "builtin", "vllm"
  std::vector<std::filesystem::path> op_libraries;
  bool embedded = false;  // no other model than the embedded one
  int repetitions = 20;
  int warmups = 3;
  int max_tokens = 50;
  std::int64_t max_model_len = 8192;
  std::optional<std::string> prompt;
  std::optional<std::filesystem::path> prompt_file;
  std::optional<std::filesystem::path> prompt_ids_file;
  std::optional<std::int64_t> prompt_length;
  std::optional<std::filesystem::path> force_ids_file;
  std::optional<std::filesystem::path> dump_logits_dir;
  std::uint64_t seed = 42;
  // Given on the command line, so that the library's flags of the same meaning
  // do not change them.
  bool repetitions_given = false, seed_given = false;
  bool perturb = true;           // --determinism_perturb
  std::string compute = "auto";  // "auto": what the variant runs in; "fp16", "bf16", "fp32"
  double gpu_memory_utilization = 0.9;
  bool eager = false;                 // on a GPU: no CUDA graphs
  bool batch_invariant = false;       // a row's bits do not depend on how many rows are multiplied
  std::string attention = "default";  // on a GPU: this project's kernels, or a backend of PyTorch
  int threads = 0;                    // 0: what libtorch chooses
};

struct CommandLine {
  SuiteOptions options;
  // What is left for GoogleTest and gtest_determinism: argv[0] and every
  // --gtest_ and --determinism_ flag.
  std::vector<std::string> rest;
  // Set where the program must end at once: after --help, or an error, which
  // has been printed as one line.
  std::optional<int> exit_code;
};

// Lets the library's flags act: --determinism_runs and --determinism_rate_below
// are repetitions, --determinism_seed is the seed, where --repetitions and --seed
// are not given. `runs_given`, `seed_given`: a flag or its environment twin was
// there. Throws VariantError where the two contradict each other.
void ApplyDeterminismFlags(const gtest_determinism::Configuration& configuration, bool runs_given, bool seed_given,
                           SuiteOptions& options);

// `default_variants_file`: what --variants-file is where it is not given.
CommandLine ParseCommandLine(int argc, const char* const* argv, const std::filesystem::path& default_variants_file);

}  // namespace suites

#endif  // SUITES_INT4_COMMAND_LINE_H_
