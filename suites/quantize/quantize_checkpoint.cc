// quantize_checkpoint: a full-precision Qwen3 checkpoint, or random weights of
// a given shape, as AWQ, GPTQ, torchao or OpenVINO IR.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>
#include <new>
#include <stdexcept>
#include <string>

#include "suites/quantize/quantize.h"
#include "suites/startup/arguments.h"

namespace {

namespace quantize = suites::quantize;

std::atomic<bool> interrupted = false;

// On a terminal one line that is overwritten; elsewhere nothing.
void ShowProgress(std::size_t done, std::size_t total, const std::string& tensor) {
  if (interrupted) throw std::runtime_error("interrupted");
  if (!isatty(STDERR_FILENO)) return;
  std::fprintf(stderr, "\r\033[K[%zu/%zu] %s", done + 1, total, tensor.c_str());
  std::fflush(stderr);
}

void ClearProgress() {
  if (isatty(STDERR_FILENO)) std::fputs("\r\033[K", stderr);
}

int Run(int argc, char** argv) {
  CLI::App app("Writes a full-precision Qwen3 checkpoint as INT4: AWQ, GPTQ, torchao or OpenVINO IR.",
               "quantize_checkpoint");
  std::string model, format, output, shape = "qwen3-8b";
  bool random = false;
  std::uint64_t seed = 42;
  quantize::QuantizeOptions options;
  CLI::Option* model_option = app.add_option("--model", model, "Folder of the full-precision checkpoint");
  app.add_option("--format", format, "awq, gptq, torchao or openvino")
      ->required()
      ->check(CLI::IsMember({"awq", "gptq", "torchao", "openvino"}));
  app.add_option("--output", output, "Folder to write; it must be empty or not exist, unless --overwrite")->required();
  app.add_option("--group-size", options.group_size, "Inputs that share a scale: 32, 64 or 128")
      ->check(CLI::IsMember({32, 64, 128}))
      ->capture_default_str();
  app.add_option("--threads", options.threads, "0: as many as there are cores; the bytes do not depend on it")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  app.add_option("--shard-bytes", options.shard_bytes, "Largest safetensors file")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--overwrite", options.overwrite, "Replace the output folder");
  CLI::Option* random_option =
      app.add_flag("--random", random,
                   "Random weights instead of --model, for speed. There is no trained tokenizer: the one "
                   "written knows single bytes, and prompts are best given with --prompt-ids");
  random_option->excludes(model_option);
  app.add_option("--shape", shape,
                 "With --random: qwen3-0.6b, -1.7b, -4b, -8b, -14b, -32b, or hidden=256,intermediate=1024,layers=2,"
                 "heads=4,kv_heads=2,head_dim=64,vocab=512,tied=1,positions=4096")
      ->check(suites::ReadBy([](const std::string& text) { quantize::ParseShape(text); }))
      ->needs(random_option)
      ->capture_default_str();
  app.add_option("--seed", seed, "With --random")->needs(random_option)->capture_default_str();
  if (const auto exit_code = suites::ParseArguments(app, {argv + 1, argv + argc})) return *exit_code;

  if (!random && model.empty()) throw suites::UsageError("give --model FOLDER, or --random --shape SHAPE");
  options.format = quantize::ParseOutputFormat(format).value();
  options.progress = ShowProgress;

  const auto start = std::chrono::steady_clock::now();
  const auto source =
      random ? quantize::RandomWeights(quantize::ParseShape(shape), seed) : quantize::OpenWeights(model);
  const quantize::QuantizeResult result = quantize::Quantize(*source, output, options);
  ClearProgress();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("%s: %s, %zu tensors, %.1f MB of weights, %.1f s", output.c_str(), format.c_str(), result.tensors,
              static_cast<double>(result.bytes) / 1e6, seconds.count());
  if (result.writing > 0)
    std::printf(" (waiting for weights %.1f s, writing %.1f s)", result.encoding_wait, result.writing);
  std::printf("\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  for (int signal : {SIGINT, SIGTERM}) std::signal(signal, [](int) { interrupted = true; });
  return suites::RunMain("quantize_checkpoint", [&] {
    try {
      return Run(argc, argv);
    } catch (...) {
      ClearProgress();
      throw;
    }
  });
}
