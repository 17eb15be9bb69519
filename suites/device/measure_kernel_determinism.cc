// Bit patterns of the INT4 kernels on a CUDA device, by kernel, shape, rows and
// input, as tables and as JSON:
//
//   measure_kernel_determinism patterns    deterministic kernels: patterns of many runs
//   measure_kernel_determinism rates       gptq: how often a run differs, by the number of partial sums
#include <c10/cuda/CUDAGuard.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gtest_determinism/cuda_perturbations.h"
#include "gtest_determinism/torch.h"
#include "kernels/int4_matmul.h"
#include "kernels/torch_cuda.h"
#include "suites/device/device_layers.h"
#include "suites/device/device_patterns.h"
#include "suites/startup/arguments.h"

namespace {

using kernels::Int4Matmul;
using nlohmann::ordered_json;
using suites::RandomInput;
using suites::RandomKernel;
using suites::Seed;

struct LayerSize {
  const char* name;
  std::int64_t k, n;
};
constexpr LayerSize kLayers[] = {{"n256", 4096, 256},      {"n512", 4096, 512},  {"n1024", 4096, 1024},
                                 {"n2048", 4096, 2048},    {"qkv", 4096, 6144},  {"o", 4096, 4096},
                                 {"gate_up", 4096, 24576}, {"down", 12288, 4096}};

using Perturbations = std::vector<std::shared_ptr<gtest_determinism::Perturbation>>;

struct Settings {
  std::string provider = "auto";
  std::map<std::string, std::string> options;  // of a foreign kernel
  std::vector<std::string> families;
  std::vector<std::int64_t> rows;
  std::vector<std::string> layers;
  int runs = 1000;
  int inputs = 3;
  std::int64_t n = 4096;
  std::vector<std::string> perturbations;
  std::string json;
};

// Those of gtest_determinism that change nothing a kernel may depend on, by name,
// in the given order but contention last: what waits for the device ends it.
Perturbations NamedPerturbations(const std::vector<std::string>& names) {
  Perturbations perturbations;
  bool contention = false;
  for (const std::string& name : names) {
    if (name == "contention") {
      contention = true;
    } else if (name == "cache") {
      perturbations.push_back(gtest_determinism::CacheState());
    } else if (name == "delay") {
      perturbations.push_back(gtest_determinism::LaunchDelay({c10::cuda::getCurrentCUDAStream().stream()}));
    } else if (name == "poison") {
      perturbations.push_back(gtest_determinism::TorchWorkspacePoison());
    } else {
      throw std::invalid_argument("no perturbation " + name + "; there are contention, cache, delay, poison");
    }
  }
  if (contention) perturbations.push_back(gtest_determinism::SmContention());
  return perturbations;
}

ordered_json Patterns(const Settings& settings) {
  ordered_json rows = ordered_json::array();
  std::printf("%-9s %-8s %6s  %-34s %6s %6s %9s %9s\n", "family", "layer", "rows", "path", "inputs", "runs", "patterns",
              "ms/run");
  for (const std::string& family : settings.families) {
    for (const LayerSize& size : kLayers) {
      if (std::find(settings.layers.begin(), settings.layers.end(), size.name) == settings.layers.end()) continue;
      Seed(1);
      const auto kernel = RandomKernel(family, settings.provider, size.k, size.n, settings.options);
      for (const std::int64_t m : settings.rows) {
        // What tells the path tells that of Forward(), which of gptq is not the one that runs here.
        const std::string path = family == "gptq" ? "its ordered twin" : kernel->PathFor(m);
        int most = 0, deviating = 0;
        const auto start = std::chrono::steady_clock::now();
        for (int input = 0; input < settings.inputs; ++input) {
          Seed(100 + static_cast<std::uint64_t>(input));
          const at::Tensor x = RandomInput(family, m, size.k);
          const suites::Patterns found = suites::CountPatterns(
              [&] { return kernel->ForwardOrdered(x); },
              {.runs = settings.runs, .perturbations = NamedPerturbations(settings.perturbations)});
          most = std::max(most, found.distinct);
          deviating += found.deviating;
        }
        const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
        std::printf("%-9s %-8s %6ld  %-34s %6d %6d %9d %9.3f\n", family.c_str(), size.name, m, path.c_str(),
                    settings.inputs, settings.runs, most, ms / (settings.inputs * settings.runs));
        std::fflush(stdout);
        rows.push_back({{"family", family},
                        {"provider", kernel->identity().provider},
                        {"layer", size.name},
                        {"rows", m},
                        {"path", path},
                        {"perturbations", settings.perturbations},
                        {"inputs", settings.inputs},
                        {"runs_each", settings.runs},
                        {"most_patterns", most},
                        {"deviating_runs", deviating}});
      }
    }
  }
  return rows;
}

ordered_json Rates(const Settings& settings) {
  ordered_json rows = ordered_json::array();
  std::printf(
      "gptq, N = %ld, %d runs of each of %d inputs: patterns (largest), runs that differ from run 0, and in how many\n"
      "tens of runs (without run 0) there are two patterns or more\n",
      settings.n, settings.runs, settings.inputs);
  std::printf("%5s %6s  %10s %10s %8s   %10s %10s %8s\n", "sums", "rows", "patterns", "rate", "tens", "disturbed",
              "rate", "tens");
  for (const std::int64_t sums : {2, 3, 4, 8, 32, 96}) {
    const std::int64_t k = 128 * sums;
    Seed(1);
    const auto kernel = RandomKernel("gptq", settings.provider, k, settings.n, settings.options);
    for (const std::int64_t m : settings.rows) {
      ordered_json row = {{"partial_sums", sums}, {"rows", m}};
      std::printf("%5ld %6ld", sums, m);
      for (const bool disturbed : {false, true}) {
        if (disturbed && settings.perturbations.empty()) break;
        int most = 0, deviating = 0, comparisons = 0, tens = 0, tens_that_differ = 0;
        for (int input = 0; input < settings.inputs; ++input) {
          Seed(100 + static_cast<std::uint64_t>(input));
          const at::Tensor x = RandomInput("gptq", m, k);
          const suites::Patterns found = suites::CountPatterns(
              [&] { return kernel->Forward(x); },
              {.runs = settings.runs,
               .perturbations = disturbed ? NamedPerturbations(settings.perturbations) : Perturbations{}});
          most = std::max(most, found.distinct);
          deviating += found.deviating;
          comparisons += found.runs - 1;
          tens += found.tens;
          tens_that_differ += found.tens_that_differ;
        }
        const double rate = static_cast<double>(deviating) / comparisons;
        std::printf("  %10d %9.1f%% %8s ", most, 100 * rate,
                    (std::to_string(tens_that_differ) + "/" + std::to_string(tens)).c_str());
        row[disturbed ? "disturbed" : "alone"] = {{"most_patterns", most},
                                                  {"deviating_runs", deviating},
                                                  {"comparisons", comparisons},
                                                  {"rate", rate},
                                                  {"tens", tens},
                                                  {"tens_that_differ", tens_that_differ}};
      }
      std::printf("\n");
      std::fflush(stdout);
      rows.push_back(row);
    }
  }
  return rows;
}

int Run(int argc, char** argv) {
  CLI::App app("Bit patterns of the INT4 kernels on a CUDA device.", "measure_kernel_determinism");
  Settings settings;
  settings.families = {"marlin", "awq", "gptq", "tinygemm"};
  settings.layers = {"qkv", "o", "gate_up", "down"};
  app.require_subcommand(1);
  app.add_option("--provider", settings.provider, "builtin, vllm or auto")
      ->check(CLI::IsMember({"builtin", "vllm", "auto"}))
      ->capture_default_str();
  std::vector<std::string> options;
  app.add_option("--option", options, "NAME=VALUE, a switch of a foreign kernel: use_atomic_add=true")
      ->check(CLI::Validator(
          [](std::string& option) {
            return option.find('=') == std::string::npos ? option + " is not NAME=VALUE" : std::string();
          },
          "", "option"));
  app.add_option("--json", settings.json, "Also write the table to this file");
  std::vector<std::string> layer_names;
  for (const LayerSize& size : kLayers) layer_names.emplace_back(size.name);
  const auto common = [&](CLI::App* sub) {
    const CLI::Validator counts = CLI::Range(1, 1 << 30).description("");
    sub->add_option("--families", settings.families, "Kernel families")
        ->check(CLI::IsMember({"marlin", "awq", "gptq", "tinygemm"}))
        ->capture_default_str();
    sub->add_option("--layers", settings.layers, "Of the 8B shape, or N alone: n256 to n2048, qkv, o, gate_up, down")
        ->check(CLI::IsMember(layer_names))
        ->capture_default_str();
    sub->add_option("--rows", settings.rows, "Rows of x; default by what is measured")->check(counts);
    sub->add_option("--runs", settings.runs, "Runs of each input")->check(counts)->capture_default_str();
    sub->add_option("--inputs", settings.inputs, "Inputs")->check(counts)->capture_default_str();
    sub->add_option("--columns", settings.n, "N, for rates")->check(counts)->capture_default_str();
    sub->add_option("--perturbations", settings.perturbations, "Some of: contention cache delay poison")
        ->check(CLI::IsMember({"contention", "cache", "delay", "poison"}));
  };
  CLI::App* const patterns = app.add_subcommand("patterns", "Patterns of the ordered kernels");
  common(patterns);
  CLI::App* const rates = app.add_subcommand("rates", "How often a run of gptq differs, by partial sums");
  common(rates);
  if (const auto exit_code = suites::ParseArguments(app, {argv + 1, argv + argc})) return *exit_code;
  if (kernels::TorchCuda().devices == 0) throw std::runtime_error(kernels::TorchCuda().reason);
  if (settings.rows.empty()) {
    settings.rows = *patterns ? std::vector<std::int64_t>{1, 4, 16, 17, 64, 256, 512, 2048}
                              : std::vector<std::int64_t>{1, 2, 4, 8, 16, 32, 50};
  }
  for (const std::string& option : options) {
    const std::size_t equals = option.find('=');
    settings.options[option.substr(0, equals)] = option.substr(equals + 1);
  }
  const ordered_json rows = *patterns ? Patterns(settings) : Rates(settings);
  if (settings.json.empty()) return 0;
  std::ofstream out(settings.json);
  out << rows.dump(1) << "\n";
  if (!out.flush()) throw std::runtime_error("cannot write " + settings.json);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return suites::RunMain("measure_kernel_determinism", [&] { return Run(argc, argv); });
}
