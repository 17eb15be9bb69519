// measure_operation_patterns: which operations of a model repeat to the bit.
//
// Over the frozen inputs of some decode steps and prefills every operation runs
// again and again, alone; its outputs are named by digests where they lie. The
// table tells, for each operation and pass, at how many sites (step, layer) more
// than one pattern was seen. On a GPU every attention backend takes part.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "gtest_determinism/compare.h"
#include "gtest_determinism/digest.h"
#include "kernels/providers/op_library.h"
#include "kernels/torch_cuda.h"
#include "nlohmann/json.hpp"
#include "suites/checkpoint/checkpoint.h"
#include "suites/model/qwen3.h"
#include "suites/model/random_checkpoint.h"
#include "suites/startup/arguments.h"
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
#include <c10/cuda/CUDAStream.h>

#include "gtest_determinism/cuda.h"
#include "suites/model/cuda/engine.h"
#endif

namespace suites {
namespace {

using gtest_determinism::Digest;
using Clock = std::chrono::steady_clock;

struct Arguments {
  std::string model, shape, format;
  Qwen3Options options;
  std::vector<std::filesystem::path> op_libraries;
  std::vector<std::string> attention = {"flash", "efficient", "math", "cudnn"};
  std::vector<int> layers;
  std::vector<std::string> operations;
  std::int64_t prompt_length = 256;
  int steps = 20, prefills = 1, runs = 400, timing = 0;
  std::string output;
};

// Digests of tensors, asynchronous on a device.
class Digests {
 public:
  explicit Digests(const std::string& device) {
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
    if (device != "cpu")
      queue_ = std::make_unique<gtest_determinism::CudaDigestQueue>(kernels::CudaDeviceIndex(device));
#endif
    static_cast<void>(device);
  }
  void Add(const at::Tensor& tensor) {
    const at::Tensor held = tensor.contiguous();
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
    if (queue_ != nullptr) {
      // Memory is used again in the stream's order, so the tensor may go.
      queue_->Enqueue(held.const_data_ptr(), held.nbytes(), c10::cuda::getCurrentCUDAStream().stream());
      return;
    }
#endif
    taken_.push_back(gtest_determinism::TreeDigest(held.const_data_ptr(), held.nbytes()));
  }
  std::vector<Digest> Take() {
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
    if (queue_ != nullptr) return queue_->Take();
#endif
    return std::exchange(taken_, {});
  }

 private:
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  std::unique_ptr<gtest_determinism::CudaDigestQueue> queue_;
#endif
  std::vector<Digest> taken_;
};

struct Row {
  int sites = 0, sites_that_differ = 0;
  std::size_t most_patterns = 0;
  std::int64_t runs = 0, deviations = 0;  // from a site's first run
  double seconds = 0;
  std::string kernel, error;
};

class Measurement {
 public:
  Measurement(const Arguments& arguments, Qwen3Engine& engine, std::set<int> layers)
      : arguments_(arguments), engine_(engine), layers_(std::move(layers)), digests_(arguments.options.kernel.device) {}

  void Run() {
    std::mt19937_64 random(42);
    std::uniform_int_distribution<std::int64_t> ids(0, engine_.vocab_size() - 1);
    const auto prompt = [&] {
      std::vector<std::int64_t> tokens(static_cast<std::size_t>(arguments_.prompt_length));
      for (std::int64_t& token : tokens) token = ids(random);
      return tokens;
    };
    engine_.SetReplaySink([this](const OpSite& site, const std::function<std::vector<at::Tensor>()>& run,
                                 const kernels::Int4Matmul* matmul, const at::Tensor& x) {
      if (measured_pass_ == (site.step > 0)) Replay(site, run, matmul, x);
    });
    measured_pass_ = false;
    for (int i = 0; i < arguments_.prefills; ++i) engine_.Generate(prompt(), {.max_tokens = 1});
    measured_pass_ = true;
    if (arguments_.steps > 0) engine_.Generate(prompt(), {.max_tokens = arguments_.steps + 1});
    engine_.SetReplaySink({});
    CheckOperations();
  }

  // (pass, operation) in the order in which they were first seen.
  const std::vector<std::pair<std::string, std::string>>& order() const { return order_; }
  const Row& row(const std::pair<std::string, std::string>& key) const { return rows_.at(key); }

 private:
  void CheckOperations() const {
    for (const std::string& operation : arguments_.operations) {
      if (seen_.contains(operation)) continue;
      std::string known;
      for (const std::string& name : seen_) known += (known.empty() ? "" : ", ") + name;
      throw UsageError("--operations: there is no " + operation + "; there are " + known);
    }
  }

  void Replay(const OpSite& site, const std::function<std::vector<at::Tensor>()>& run,
              const kernels::Int4Matmul* matmul, const at::Tensor& x) {
    seen_.insert(site.op);
    if (site.layer >= 0 && !layers_.contains(site.layer)) return;
    if (!arguments_.operations.empty() &&
        std::find(arguments_.operations.begin(), arguments_.operations.end(), site.op) == arguments_.operations.end()) {
      return;
    }
    const std::pair<std::string, std::string> key = {site.step == 0 ? "prefill" : "decode", site.op};
    if (!rows_.contains(key)) order_.push_back(key);
    Row& row = rows_[key];
    if (!row.error.empty()) return;
    if (matmul != nullptr && row.kernel.empty()) {
      const std::string path = matmul->PathFor(x.size(0));
      row.kernel = matmul->identity().op + (path.empty() ? "" : " (" + path + ")");
    }
    const Clock::time_point start = Clock::now();
    try {
      for (int i = 0; i < arguments_.runs; ++i) {
        for (const at::Tensor& output : run()) digests_.Add(output);
      }
    } catch (const std::exception& error) {
      // A backend that this libtorch or this device lacks.
      const std::string text = error.what();
      row.error = text.substr(0, text.find('\n'));
      digests_.Take();
      return;
    }
    const std::vector<Digest> digests = digests_.Take();
    row.seconds += std::chrono::duration<double>(Clock::now() - start).count();
    const std::size_t patterns = std::set<Digest>(digests.begin(), digests.end()).size();
    ++row.sites;
    row.runs += static_cast<std::int64_t>(digests.size());
    row.sites_that_differ += patterns > 1 ? 1 : 0;
    row.most_patterns = std::max(row.most_patterns, patterns);
    row.deviations +=
        std::count_if(digests.begin(), digests.end(), [&](const Digest& digest) { return digest != digests.front(); });
  }

  const Arguments& arguments_;
  Qwen3Engine& engine_;
  std::set<int> layers_;
  std::set<std::string> seen_;  // operations, measured or not
  Digests digests_;
  bool measured_pass_ = false;  // decode steps, else prefills
  std::map<std::pair<std::string, std::string>, Row> rows_;
  std::vector<std::pair<std::string, std::string>> order_;
};

std::unique_ptr<Checkpoint> Open(const Arguments& arguments) {
  if (!arguments.shape.empty()) {
    return std::make_unique<RandomCheckpoint>(ConfigOfShape(arguments.shape), arguments.format);
  }
  return OpenCheckpoint(arguments.model);
}

nlohmann::ordered_json Time(const Arguments& arguments, Qwen3Engine& engine) {
  std::vector<std::int64_t> prompt;
  for (std::int64_t i = 0; i < arguments.prompt_length; ++i) prompt.push_back((i * 7919 + 11) % engine.vocab_size());
  const GenerationOptions options{.max_tokens = arguments.steps + 1};
  nlohmann::ordered_json json;
  std::vector<double> prefill, decode, whole, traced, compared;
  const Generation first = engine.Generate(prompt, options);
  for (int i = -2; i < arguments.timing; ++i) {  // two warm-ups
    Clock::time_point start = Clock::now();
    const Generation generation = engine.Generate(prompt, options);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    start = Clock::now();
    engine.Trace(prompt, options);
    const double seconds_traced = std::chrono::duration<double>(Clock::now() - start).count();
    // As RunRepeated() compares a repetition with the first.
    start = Clock::now();
    gtest_determinism::Trace expected, actual;
    AppendBits(expected, "", first);
    AppendBits(actual, "", generation);
    gtest_determinism::CompareTraces(expected, actual);
    const double seconds_compared = std::chrono::duration<double>(Clock::now() - start).count();
    if (i < 0) continue;
    compared.push_back(seconds_compared);
    prefill.push_back(generation.prefill_seconds);
    decode.push_back(generation.decode_seconds / std::max(1, arguments.steps));
    whole.push_back(seconds);
    traced.push_back(seconds_traced);
  }
  const auto median = [](std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
  };
  json["prefill_seconds"] = median(prefill);
  json["decode_seconds_per_step"] = median(decode);
  json["generation_seconds"] = median(whole);
  json["traced_generation_seconds"] = median(traced);
  json["comparison_seconds"] = median(compared);
  std::printf("prompt %lld, %d steps, median of %d: prefill %.2f ms, decode %.3f ms a step\n",
              static_cast<long long>(arguments.prompt_length), arguments.steps, arguments.timing, 1e3 * median(prefill),
              1e3 * median(decode));
  std::printf("generation %.1f ms, traced %.1f ms (%+.1f %%), comparison with another %.2f ms (%.2f %%)\n",
              1e3 * median(whole), 1e3 * median(traced), 100 * (median(traced) / median(whole) - 1),
              1e3 * median(compared), 100 * median(compared) / median(whole));
  return json;
}

void CheckKernel(const Arguments& arguments, const std::string& method) {
  const std::string& family = arguments.options.kernel.family;
  const std::string& compute = arguments.options.compute;
  if (method.empty() || compute == "fp32") return;
  if (family.empty()) {
    throw UsageError("--kernel: the weights are quantized (" + method +
                     "); give marlin, awq, gptq or tinygemm, or --compute fp32");
  }
  const char* const type = family == "tinygemm" ? "bf16" : "fp16";
  if (compute != type) throw UsageError("--compute " + compute + ": kernel " + family + " takes " + type + " or fp32");
}

void Measure(Arguments arguments) {
  if (!arguments.op_libraries.empty()) kernels::OpenOpLibraries(arguments.op_libraries);
  const std::unique_ptr<Checkpoint> checkpoint = Open(arguments);
  CheckKernel(arguments, checkpoint->config().quantization.method);
  const int count = static_cast<int>(checkpoint->config().num_hidden_layers);
  for (const int layer : arguments.layers) {
    if (layer < 0 || layer >= count) {
      throw UsageError("--layers: " + std::to_string(layer) + " is not one of the layers 0 to " +
                       std::to_string(count - 1) + " of this model");
    }
  }
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  std::size_t free_before = 0;
  if (arguments.options.kernel.device != "cpu") {
    kernels::CudaDeviceIndex(arguments.options.kernel.device);  // its context is not counted
    std::size_t total = 0;
    cudaMemGetInfo(&free_before, &total);
  }
#endif
  const Clock::time_point start = Clock::now();
  const std::unique_ptr<Qwen3Engine> engine = Qwen3Engine::Load(*checkpoint, arguments.options);
  const double load_seconds = std::chrono::duration<double>(Clock::now() - start).count();
  if (arguments.layers.empty()) arguments.layers = {0, count / 2, count - 1};
  std::printf("loaded in %.2f s\n", load_seconds);
  nlohmann::ordered_json json;
  json["model"] = arguments.shape.empty() ? arguments.model : arguments.shape + " (random weights)";
  json["device"] = arguments.options.kernel.device;
  json["compute"] = arguments.options.compute;
  json["kernel"] = engine->kernel() == nullptr ? "" : engine->kernel()->family + "/" + engine->kernel()->provider;
  json["prompt_length"] = arguments.prompt_length;
  json["load_seconds"] = load_seconds;
  if (arguments.timing > 0) json["time"] = Time(arguments, *engine);
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  if (arguments.options.kernel.device != "cpu") {
    std::size_t free_after = 0, total = 0;
    cudaMemGetInfo(&free_after, &total);
    const std::uint64_t estimate =
        EstimateDeviceBytes(checkpoint->config(), arguments.options, 4 * (arguments.steps + 1));
    const std::uint64_t taken = free_before - std::min(free_before, free_after);
    std::printf("device memory: %.2f GiB taken, %.2f GiB estimated\n", static_cast<double>(taken) / (1 << 30),
                static_cast<double>(estimate) / (1 << 30));
    json["device_bytes"] = {{"taken", taken}, {"estimated", estimate}};
  }
#endif

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  if (auto* cuda = dynamic_cast<internal::CudaEngine*>(engine.get())) cuda->ReplayAttention(arguments.attention);
#endif
  if (arguments.runs > 0) {
    Measurement measurement(arguments, *engine, std::set<int>(arguments.layers.begin(), arguments.layers.end()));
    measurement.Run();
    std::printf("%-8s %-20s %6s %8s %7s %9s %10s %8s  %s\n", "pass", "operation", "sites", "runs", "differ", "patterns",
                "deviations", "seconds", "kernel");
    nlohmann::ordered_json rows = nlohmann::ordered_json::array();
    for (const auto& key : measurement.order()) {
      const Row& row = measurement.row(key);
      std::printf("%-8s %-20s %6d %8lld %7d %9zu %10lld %8.2f  %s\n", key.first.c_str(), key.second.c_str(), row.sites,
                  static_cast<long long>(row.runs), row.sites_that_differ, row.most_patterns,
                  static_cast<long long>(row.deviations), row.seconds,
                  (row.error.empty() ? row.kernel : row.error).c_str());
      rows.push_back({{"pass", key.first},
                      {"operation", key.second},
                      {"sites", row.sites},
                      {"runs_of_a_site", arguments.runs},
                      {"sites_that_differ", row.sites_that_differ},
                      {"most_patterns_of_a_site", row.most_patterns},
                      {"runs", row.runs},
                      {"deviations", row.deviations},
                      {"seconds", row.seconds},
                      {"kernel", row.kernel},
                      {"error", row.error.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(row.error)}});
    }
    json["layers"] = arguments.layers;
    json["operations"] = rows;
  }
  if (arguments.output.empty()) return;
  std::ofstream file(arguments.output);
  file << json.dump(1) << "\n";
  file.close();
  if (!file) throw std::runtime_error(arguments.output + " cannot be written");
}

}  // namespace
}  // namespace suites

namespace {

int Run(int argc, char** argv) {
  suites::Arguments arguments;
  CLI::App app("Measures which operations of a model repeat to the bit, each alone on frozen inputs",
               "measure_operation_patterns");
  auto* model = app.add_option("--model", arguments.model, "Folder of the model, Hugging Face layout")
                    ->check(CLI::ExistingDirectory);
  auto* shape = app.add_option("--shape", arguments.shape, "Random weights of a shape: qwen3-8b")
                    ->check(CLI::IsMember({"qwen3-8b"}))
                    ->excludes(model);
  app.add_option("--format", arguments.format, "Of random weights: awq, gptq, torchao; none: full precision")
      ->check(CLI::IsMember({"awq", "gptq", "torchao"}))
      ->needs(shape);
  app.add_option("--kernel", arguments.options.kernel.family, "Family of the INT4 kernel: marlin, awq, gptq, tinygemm")
      ->check(CLI::IsMember({"marlin", "awq", "gptq", "tinygemm"}));
  app.add_option("--provider", arguments.options.kernel.provider, "Provider of the INT4 kernel")
      ->check(CLI::IsMember({"auto", "builtin", "aten", "vllm"}))
      ->capture_default_str();
  app.add_option("--op-library", arguments.op_libraries, "Op library to open; can be given several times")
      ->check(CLI::ExistingFile);
  app.add_option("--device", arguments.options.kernel.device, "cpu, cuda or cuda:N")
      ->check(suites::DeviceName())
      ->capture_default_str();
  app.add_option("--compute", arguments.options.compute, "fp16, bf16 or fp32")
      ->check(CLI::IsMember({"fp16", "bf16", "fp32"}))
      ->capture_default_str();
  app.add_option("--max-model-len", arguments.options.max_model_len, "Positions of the KV cache")
      ->check(CLI::Range(2, 1 << 30).description(""))
      ->capture_default_str();
  app.add_flag("--eager", arguments.options.eager, "Decode without a CUDA graph");
  app.add_option("--attention", arguments.attention, "Backends of attention to replay beside the engine's own")
      ->check(CLI::IsMember({"flash", "efficient", "math", "cudnn"}))
      ->capture_default_str();
  app.add_option("--layers", arguments.layers, "Layers to look at; default: the first, the middle and the last")
      ->delimiter(',');
  app.add_option("--operations", arguments.operations, "Operations to look at; default: all")->delimiter(',');
  app.add_option("--prompt-length", arguments.prompt_length, "Tokens of each prompt")
      ->check(CLI::Range(1, 1 << 30).description(""))
      ->capture_default_str();
  app.add_option("--steps", arguments.steps, "Decode steps")
      ->check(CLI::Range(0, 1 << 30).description(""))
      ->capture_default_str();
  app.add_option("--prefills", arguments.prefills, "Prefills, each of another prompt")
      ->check(CLI::Range(0, 1 << 30).description(""))
      ->capture_default_str();
  app.add_option("--runs", arguments.runs, "Runs of each operation at each site; 0: none")
      ->check(CLI::Range(0, 1 << 30).description(""))
      ->capture_default_str();
  app.add_option("--timing", arguments.timing, "Also time so many generations, traced and not")
      ->check(CLI::Range(0, 1 << 30).description(""))
      ->capture_default_str();
  app.add_option("--output", arguments.output, "JSON file to write");
  if (const auto exit_code = suites::ParseArguments(app, {argv + 1, argv + argc})) return *exit_code;
  if (arguments.model.empty() && arguments.shape.empty()) throw suites::UsageError("give --model or --shape");
  if (arguments.prompt_length + arguments.steps + 1 > arguments.options.max_model_len) {
    throw suites::UsageError("--prompt-length and --steps need more positions than --max-model-len " +
                             std::to_string(arguments.options.max_model_len));
  }
  suites::Measure(arguments);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return suites::RunMain("measure_operation_patterns", [&] { return Run(argc, argv); });
}
