// How often each planted fault shows: a table of how many of `runs` runs differ
// from run 0, by what surrounds them. cuda_fault_rates [runs] (100).
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "faults.h"
#include "gtest_determinism/cuda.h"
#include "gtest_determinism/cuda_perturbations.h"
#include "gtest_determinism/runner.h"

namespace {

using namespace gtest_determinism;
using Perturbations = std::vector<std::shared_ptr<Perturbation>>;

std::string Rate(cuda_faults::Planted& planted, cudaStream_t stream, int runs, const Perturbations& perturbations) {
  const DeviceSpan<const float> output{
      static_cast<const float*>(planted.output()), {static_cast<std::int64_t>(planted.output_elements())}, stream};
  int batch = 1;
  const bool by_batch = std::string(planted.info().name) == "tile_by_batch";
  const Report report = RunRepeated(
      [&] {
        planted.Run(stream, by_batch ? batch++ % 64 + 1 : 1);
        return output;
      },
      {.runs = runs, .perturbations = perturbations});
  if (report.outcome == Outcome::kError) return "error: " + report.reason;
  double seconds = 0;
  for (const double s : report.seconds) seconds += s;
  char text[64];
  std::snprintf(text, sizeof(text), "%4lld (%d, %.2f ms)", static_cast<long long>(report.power.deviations),
                report.distinct_of_input.empty() ? 0 : report.distinct_of_input[0],
                1e3 * seconds / static_cast<double>(report.seconds.size()));
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  const int runs = argc > 1 ? std::atoi(argv[1]) : 100;
  if (const std::string why = NoCudaDevice(); !why.empty()) {
    std::printf("%s\n", why.c_str());
    return 0;
  }
  cudaStream_t stream;
  if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess) return 1;
  const std::pair<const char*, Perturbations> surroundings[] = {
      {"none", {}},
      {"contention", {SmContention()}},
      {"cache", {CacheState()}},
      {"poison", {WorkspacePoison()}},
      {"delay", {LaunchDelay({stream})}},
      {"all", {WorkspacePoison(), CacheState(), LaunchDelay({stream}), SmContention()}}};
  std::printf("runs that differ from run 0, of %d (patterns, time of a run)\n%-16s %-6s", runs - 1, "", "");
  for (const auto& [name, perturbations] : surroundings) std::printf(" %-20s", name);
  std::printf("\n");
  for (const cuda_faults::Info& info : cuda_faults::AllPlanted()) {
    for (const auto version : {cuda_faults::Version::kFault, cuda_faults::Version::kSound}) {
      const bool fault = version == cuda_faults::Version::kFault;
      cuda_faults::Planted planted(info.name, version);
      std::printf("%-16s %-6s", info.name, fault ? "fault" : "sound");
      for (const auto& [name, perturbations] : surroundings) {
        std::printf(" %-20s", Rate(planted, stream, runs, perturbations).c_str());
      }
      std::printf("\n");
      std::fflush(stdout);
    }
  }
}
