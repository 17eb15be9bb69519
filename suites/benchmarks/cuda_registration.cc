#include "suites/benchmarks/cuda_registration.h"

#include <cstddef>
#include <memory>
#include <regex>
#include <stdexcept>

#include "gtest_determinism/cuda.h"
#include "kernels/providers/op_library.h"
#include "kernels/torch_cuda.h"
#include "suites/benchmarks/cuda_benchmarks.h"

namespace quant_suites {

bool FilterTakes(const std::string& name) {
  // As benchmark::RunSpecifiedBenchmarks() reads it; WrongFilter() has looked at it.
  std::string filter = benchmark::GetBenchmarkFilter();
  if (filter.empty() || filter == "all") return true;
  const bool exclude = filter[0] == '-';
  if (exclude) filter.erase(0, 1);
  return std::regex_search(name, std::regex(filter, std::regex::extended)) != exclude;
}

std::string FirstLine(const std::exception& error) {
  const std::string text = error.what();
  return text.substr(0, text.find('\n'));
}

void OpenDevice(const Selection& selection) {
  if (kernels::TorchCuda().devices == 0) throw std::runtime_error(kernels::TorchCuda().reason);
  if (selection.op_libraries.empty()) {
    kernels::OpenOpLibraries(kernels::FindOpLibraries());
  } else {
    kernels::OpenOpLibraries({selection.op_libraries.begin(), selection.op_libraries.end()});
  }
}

void RegisterMeasured(const std::string& name, int rounds, benchmark::TimeUnit unit,
                      const std::function<const ComparisonRow&()>& row, const std::string& provider) {
  const auto next = std::make_shared<std::size_t>(0);
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) {
                                 try {
                                   const ComparisonRow& measured = row();
                                   const ComparisonCell* cell = nullptr;
                                   for (const ComparisonCell& each : measured.cells) {
                                     if (each.provider == provider) cell = &each;
                                   }
                                   if (cell == nullptr || cell->us.empty()) {
                                     throw std::runtime_error(cell == nullptr ? "not measured" : cell->error);
                                   }
                                   const double us = cell->us[(*next)++ % cell->us.size()];
                                   for (auto _ : state) state.SetIterationTime(us * 1e-6);
                                   state.counters["B/s"] = measured.bytes / us * 1e6;
                                   state.counters["FLOP/s"] = measured.flops / us * 1e6;
                                   state.counters["floor_us"] = measured.floor_us;
                                   state.counters["floor_share"] = measured.floor_us / us;
                                   state.counters["patterns"] = cell->patterns;
                                   if (cell->deviation >= 0) state.counters["deviation"] = cell->deviation;
                                   if (cell->wrong()) throw std::runtime_error("the result is not the product");
                                   state.SetLabel(cell->path);
                                 } catch (const std::exception& error) {
                                   state.SkipWithError(FirstLine(error).c_str());
                                 }
                               })
      ->UseManualTime()
      ->Iterations(1)
      ->Repetitions(rounds)
      ->Unit(unit);
}

bool ForeignKernelsWanted(const Selection& selection, const std::vector<std::string>& chosen) {
  if (!selection.op_libraries.empty() || !kernels::FindOpLibraries().empty()) return true;
  for (const std::string& name : chosen) {
    if (name.starts_with("vllm_")) throw std::runtime_error(name + ": no op library was found; give --op-library");
  }
  return false;
}

std::string RegisterCudaBenchmarks(const Selection& selection, ComparisonTable* matmuls, ComparisonTable* models) {
  // Without libtorch's CUDA half, which takes seconds to open.
  if (std::string why = gtest_determinism::NoCudaDevice(); !why.empty()) return why;
  RegisterCudaMatmuls(selection, matmuls);
  RegisterCudaModels(selection, models);
  return "";
}

}  // namespace quant_suites
