#include "suites/int4/command_line.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <string_view>

#include "gtest_determinism/statistics.h"
#include "suites/int4/variant.h"
#include "suites/startup/arguments.h"

namespace suites {
namespace {

constexpr char kFooter[] =
    "Every --gtest_ flag works too (--gtest_filter=*marlin*); it and --variants intersect.\n"
    "Of the library's flags --determinism_runs and --determinism_rate_below set the repetitions,\n"
    "--determinism_seed the seed; _budget, _perturb, _quiet act as they do there, and\n"
    "--determinism_strict makes expected noise a failure.\n"
    "\n"
    "A model is taken from --model-dir, else $QUANT_MODELS_DIR/{VARIANT, MODEL NAME}, else the\n"
    "Hugging Face cache ($HF_HUB_CACHE, $HF_HOME), else the embedded one. Nothing is downloaded.\n"
    "\n"
    "Exit code: 0 when every selected variant ran and met its expectation, 1 when one did not,\n"
    "2 when the command line, the table of variants or the output folder cannot be used.";

std::optional<std::string> SplitModelDirs(const std::vector<std::string>& given,
                                          std::map<std::string, std::filesystem::path>& model_dirs) {
  for (const std::string& pair : given) {
    const std::size_t equals = pair.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == pair.size()) {
      return "--model-dir: '" + pair + "' is not VARIANT=PATH";
    }
    model_dirs[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return std::nullopt;
}

bool BelongsToGoogleTest(const std::string& argument) {
  return argument.rfind("--gtest_", 0) == 0 || argument.rfind("--determinism_", 0) == 0;
}

}  // namespace

void ApplyDeterminismFlags(const gtest_determinism::Configuration& configuration, bool runs_given, bool seed_given,
                           SuiteOptions& options) {
  options.perturb = configuration.perturb;
  if (seed_given && !options.seed_given) options.seed = configuration.seed;
  if (!runs_given && !configuration.rate_below) return;
  const std::string_view flag = configuration.rate_below ? "--determinism_rate_below" : "--determinism_runs";
  if (options.repetitions_given) {
    throw VariantError("--repetitions and " + std::string(flag) + " both say how often to repeat; give one");
  }
  options.repetitions = configuration.rate_below
                            ? static_cast<int>(gtest_determinism::ComparisonsNeeded(*configuration.rate_below)) + 1
                            : configuration.runs;
}

CommandLine ParseCommandLine(int argc, const char* const* argv, const std::filesystem::path& default_variants_file) {
  CommandLine result;
  SuiteOptions& options = result.options;
  options.variants_file = default_variants_file;

  // GoogleTest's flags are taken out first: --variants takes any number of
  // words, and would otherwise depend on what follows it.
  result.rest.emplace_back(argc > 0 ? argv[0] : "quant_suites");
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    (BelongsToGoogleTest(argv[i]) ? result.rest : arguments).emplace_back(argv[i]);
  }

  CLI::App app("Runs INT4 inference of Qwen3 repeatedly and writes one verdict file for each variant.", "quant_suites");
  app.footer(kFooter);
  app.option_defaults()->always_capture_default(false);
  std::vector<std::string> model_dirs;
  app.add_flag("--list-variants", options.list_variants,
               "Print the table of variants and where their models are found");
  app.add_option("--variants", options.variants, "Which variants to run, or 'all' (default: all)")->type_name("ID...");
  app.add_option("--variants-file", options.variants_file, "Another table of variants")->type_name("FILE");
  app.add_option("--output-dir", options.output_dir, "Folder for the result files (default: results)")
      ->type_name("DIR");
  app.add_option("--model-dir", model_dirs, "Folder of a variant's model; may be repeated")
      ->type_name("VARIANT=PATH")
      ->allow_extra_args(false);
  app.add_option("--device", options.device, "auto, cpu or cuda[:N] (default: auto)")->type_name("DEVICE");
  app.add_option("--provider", options.provider, "Whose kernels run: auto, builtin or vllm (default: auto)")
      ->check(CLI::IsMember({"auto", "builtin", "vllm"}))
      ->type_name("NAME");
  app.add_option("--op-library", options.op_libraries, "Torch op library of a provider; may be repeated")
      ->type_name("PATH")
      ->allow_extra_args(false);
  app.add_flag("--embedded", options.embedded, "Use the embedded model only, also where another is found");
  auto* repetitions =
      app.add_option("--repetitions", options.repetitions, "Generations compared in each mode (default: 20)")
          ->check(CLI::Range(1, 1000000).description(""))
          ->type_name("N");
  app.add_option("--warmups", options.warmups, "Generations before that, not compared (default: 3)")
      ->check(CLI::Range(0, 1000).description(""))
      ->type_name("N");
  app.add_option("--max-tokens", options.max_tokens, "Tokens to generate; EOS does not stop (default: 50)")
      ->check(CLI::Range(1, 1000000).description(""))
      ->type_name("N");
  app.add_option("--max-model-len", options.max_model_len, "Longest prompt and continuation together (default: 8192)")
      ->check(CLI::Range(2, 1 << 30).description(""))
      ->type_name("N");
  auto* prompt = app.add_option("--prompt", options.prompt, "Prompt text")->type_name("TEXT");
  auto* prompt_file =
      app.add_option("--prompt-file", options.prompt_file, "File with the prompt's text (UTF-8)")->type_name("FILE");
  auto* prompt_ids =
      app.add_option("--prompt-ids", options.prompt_ids_file, "File with the prompt's token ids, a JSON list")
          ->type_name("FILE");
  prompt->excludes(prompt_file)->excludes(prompt_ids);
  prompt_file->excludes(prompt_ids);
  app.add_option("--prompt-length", options.prompt_length, "Cut the prompt to its first N tokens")
      ->check(CLI::Range(1, 1 << 30).description(""))
      ->type_name("N");
  auto* seed = app.add_option("--seed", options.seed, "Seed of the perturbations and of the control (default: 42)")
                   ->type_name("N");
  app.add_option("--compute", options.compute,
                 "fp16 or bf16: the INT4 kernels; fp32: the exact dequantized weights in float32, for comparison "
                 "with other engines (default: what the variant's kernel runs in)")
      ->check(CLI::IsMember({"auto", "fp16", "bf16", "fp32"}))
      ->type_name("TYPE");
  app.add_option("--force-ids", options.force_ids_file, "Teacher forcing: these ids follow the prompt (JSON list)")
      ->type_name("FILE");
  app.add_option("--dump-logits", options.dump_logits_dir,
                 "Also write VARIANT.safetensors with prompt_logits and step_logits")
      ->type_name("DIR");
  app.add_option("--gpu-memory-utilization", options.gpu_memory_utilization,
                 "Share of the free GPU memory that may be used (default: 0.9); no effect on a CPU")
      ->check(CLI::Range(0.01, 1.0).description(""))
      ->type_name("X");
  app.add_flag("--eager", options.eager, "On a GPU: launch every kernel of a decode step instead of a CUDA graph");
  app.add_flag("--batch-invariant", options.batch_invariant,
               "INT4 kernels whose bits of a row do not depend on the number of rows; slower for few rows");
  app.add_option("--attention", options.attention,
                 "On a GPU: default, or PyTorch's flash, efficient, cudnn or math, which decode eagerly")
      ->check(CLI::IsMember({"default", "flash", "efficient", "cudnn", "math"}))
      ->type_name("NAME");
  app.add_option("--threads", options.threads, "Threads of libtorch and OpenVINO (default: their own choice)")
      ->check(CLI::Range(0, 4096).description(""))
      ->type_name("N");

  result.exit_code = ParseArguments(app, arguments);
  if (result.exit_code) return result;
  options.repetitions_given = repetitions->count() > 0;
  options.seed_given = seed->count() > 0;
  if (options.embedded && !model_dirs.empty()) {
    std::cerr << "quant_suites: --embedded and --model-dir contradict each other; give one\n";
    result.exit_code = 2;
  }
  if (options.device != "auto" && !IsDeviceName(options.device)) {
    std::cerr << "quant_suites: --device " << options.device << ": is none of auto, cpu, cuda and cuda:N; see --help\n";
    result.exit_code = 2;
  }
  if (options.device == "cpu" && (options.eager || options.attention != "default")) {
    std::cerr << "quant_suites: --eager and --attention are about a GPU, and --device is cpu; leave them out\n";
    result.exit_code = 2;
  }
  for (const std::filesystem::path& library : options.op_libraries) {
    std::error_code ignored;
    if (std::filesystem::is_regular_file(library, ignored)) continue;
    std::cerr << "quant_suites: --op-library " << library.string() << ": there is no such file\n";
    result.exit_code = 2;
  }
  if (const auto error = SplitModelDirs(model_dirs, options.model_dirs)) {
    std::cerr << "quant_suites: " << *error << "; see --help\n";
    result.exit_code = 2;
  }
  return result;
}

}  // namespace suites
