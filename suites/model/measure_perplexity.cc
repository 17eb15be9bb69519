// measure_perplexity --model DIR --text FILE: how well a model predicts a text.
//
// The text is cut into windows that do not overlap; each token but a window's
// first is predicted from those before it in the window. Perplexity is
// e^(mean negative log-likelihood).
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "suites/checkpoint/checkpoint.h"
#include "suites/model/qwen3.h"
#include "suites/openvino/openvino_engine.h"
#include "suites/startup/arguments.h"
#include "suites/tokenizer/tokenizer.h"

namespace suites {
namespace {

struct Arguments {
  std::filesystem::path model, text;
  std::string compute = "fp32";
  std::string kernel;
  std::int64_t window = 1024;
};

std::unique_ptr<InferenceEngine> LoadEngine(const Arguments& arguments) {
  if (std::filesystem::exists(arguments.model / "openvino_model.xml")) {
    OpenVinoOptions options;
    options.exact_f32 = arguments.compute == "fp32";
    return OpenVinoEngine::Load(arguments.model, options);
  }
  Qwen3Options options;
  options.compute = arguments.compute;
  options.kernel.family = arguments.kernel;
  options.max_model_len = arguments.window + 1;
  return Qwen3Engine::Load(*OpenCheckpoint(arguments.model), options);
}

std::string ReadText(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::invalid_argument(path.string() + " cannot be read");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void Measure(const Arguments& arguments) {
  const std::unique_ptr<InferenceEngine> engine = LoadEngine(arguments);
  const std::vector<std::int64_t> ids = Tokenizer::Open(arguments.model).Encode(ReadText(arguments.text));
  // One position is left for the token that a generation of at least one writes.
  const auto window = static_cast<std::size_t>(std::min(arguments.window, engine->max_positions() - 1));
  double nll = 0;
  std::size_t predicted = 0, windows = 0;
  for (std::size_t first = 0; first + 1 < ids.size(); first += window, ++windows) {
    const std::size_t last = std::min(first + window, ids.size());
    const std::vector<std::int64_t> piece(ids.begin() + static_cast<std::ptrdiff_t>(first),
                                          ids.begin() + static_cast<std::ptrdiff_t>(last));
    GenerationOptions options;
    options.max_tokens = 1;
    options.all_prompt_logits = true;
    const Generation generation = engine->Generate(piece, options);
    for (std::size_t i = 0; i + 1 < piece.size(); ++i) {
      nll -= ChooseToken(generation.prompt_logits.Row(static_cast<std::int64_t>(i)), piece[i + 1]).logprob;
    }
    predicted += piece.size() - 1;
  }
  if (predicted == 0) throw std::invalid_argument(arguments.text.string() + " has less than two tokens");
  const double mean = nll / static_cast<double>(predicted);
  std::printf("tokens %zu, predicted %zu in %zu windows of at most %zu: mean NLL %.5f, perplexity %.4f\n", ids.size(),
              predicted, windows, window, mean, std::exp(mean));
}

}  // namespace
}  // namespace suites

namespace {

int Run(int argc, char** argv) {
  suites::Arguments arguments;
  CLI::App app("Measures how well a model predicts a text", "measure_perplexity");
  app.add_option("--model", arguments.model, "Folder of the model: Hugging Face layout, or OpenVINO IR")
      ->required()
      ->check(CLI::ExistingDirectory);
  app.add_option("--text", arguments.text, "Text file, UTF-8")->required()->check(CLI::ExistingFile);
  app.add_option("--compute", arguments.compute, "fp16, bf16 or fp32 (the exact dequantized weights)")
      ->check(CLI::IsMember({"fp16", "bf16", "fp32"}))
      ->capture_default_str();
  app.add_option("--kernel", arguments.kernel, "Family of the INT4 kernel: marlin, awq, gptq, tinygemm")
      ->check(CLI::IsMember({"marlin", "awq", "gptq", "tinygemm"}));
  app.add_option("--window", arguments.window, "Tokens predicted from one another")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str();
  if (const auto exit_code = suites::ParseArguments(app, {argv + 1, argv + argc})) return *exit_code;
  suites::Measure(arguments);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return suites::RunMain("measure_perplexity", [&] { return Run(argc, argv); });
}
