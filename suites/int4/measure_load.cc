// measure_load --kernel FAMILY MODEL: how long a model takes to load as quant_suites loads it, and how much
// memory beside its weights.

#include <c10/core/CachingDeviceAllocator.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "suites/checkpoint/progress_line.h"
#include "suites/checkpoint/upload_rates.h"
#include "suites/int4/engine_loader.h"
#include "suites/startup/arguments.h"
#include "suites/startup/openmp_wait.h"

namespace {

namespace fs = std::filesystem;

// A value of /proc/self/status in bytes: "VmHWM" (the most that was resident), "RssAnon", "RssFile".
std::uint64_t Status(const std::string& key) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    std::uint64_t kilobytes = 0;
    if (word == key + ":" && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

// Of the device's memory, what tensors hold now and the most that they held.
void PrintDeviceMemory(const at::Device& device) {
  using Statistic = c10::CachingAllocator::StatType;
  const auto statistics = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  const auto& held = statistics.allocated_bytes[static_cast<std::size_t>(Statistic::AGGREGATE)];
  std::printf("on the device: now %.3f GB, most %.3f GB, on top of what stays: %.3f GB at most\n",
              static_cast<double>(held.current) / 1e9, static_cast<double>(held.peak) / 1e9,
              static_cast<double>(held.peak - held.current) / 1e9);
}

double Gigabytes(std::uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

int Run(int argc, char** argv) {
  CLI::App app(
      "Loads a model as quant_suites does, and says how long that took and how much memory beside its weights.",
      "measure_load");
  suites::Variant variant;
  suites::LocatedModel model;
  suites::SuiteOptions options;
  bool cold = false;
  app.add_option("model", model.folder, "Folder")->required()->check(CLI::ExistingDirectory);
  app.add_option("--kernel", variant.kernel, "marlin, awq, gptq, tinygemm or openvino")
      ->required()
      ->check(CLI::IsMember({"marlin", "awq", "gptq", "tinygemm", "openvino"}));
  app.add_option("--device", options.device, "cpu, cuda or cuda:N")->check(suites::DeviceName())->capture_default_str();
  app.add_flag("--cold", cold, "With the files dropped from the page cache before");
  if (const auto exit_code = suites::ParseArguments(app, {argv + 1, argv + argc})) return *exit_code;
  variant.id = model.folder.filename().string();
  variant.format = variant.kernel == "openvino" ? "openvino" : "";
  options.provider = "builtin";

  const auto files = suites::WeightFiles(model.folder);
  std::uint64_t bytes = 0;
  for (const fs::path& file : files) bytes += fs::file_size(file);
  if (cold) suites::DropFromPageCache(files);
  std::printf("%zu files, %.3f GB, %.3f GB of them in the page cache\n", files.size(), Gigabytes(bytes),
              Gigabytes(suites::ResidentBytes(files)));
  std::fflush(stdout);
  const std::uint64_t before = Status("VmHWM");
  const auto start = std::chrono::steady_clock::now();
  suites::LoadedEngine loaded;
  {
    suites::ProgressLine line(variant.id);
    loaded = suites::LoadEngine(variant, model, options, suites::Mode::kBaseline,
                                [&](std::uint64_t done, std::uint64_t total) { line.Show(done, total); });
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const std::uint64_t peak = Status("VmHWM");
  std::printf("loaded by %s/%s on %s in %.2f s, %.2f GB/s\n", variant.kernel.c_str(), loaded.provider.c_str(),
              loaded.device.c_str(), seconds, Gigabytes(bytes) / seconds);
  std::printf("resident: before %.3f GB, most %.3f GB, now %.3f GB of its own and %.3f GB of files\n",
              Gigabytes(before), Gigabytes(peak), Gigabytes(Status("RssAnon")), Gigabytes(Status("RssFile")));
  // What stays are the engine's weights and libtorch; weights that need no repacking stay in the mapped files.
  std::printf("on top of what stays: %.3f GB at most\n", Gigabytes(peak) - Gigabytes(Status("RssAnon")));
  if (const at::Device device(loaded.device); device.is_cuda()) PrintDeviceMemory(device);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  suites::LimitOpenMpSpinning(argv);
  return suites::RunMain("measure_load", [&] { return Run(argc, argv); });
}
