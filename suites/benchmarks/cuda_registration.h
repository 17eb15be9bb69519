// How measured rows become Google Benchmark's benchmarks.
#ifndef SUITES_BENCHMARKS_CUDA_REGISTRATION_H_
#define SUITES_BENCHMARKS_CUDA_REGISTRATION_H_

#include <benchmark/benchmark.h>

#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "suites/benchmarks/comparison_table.h"
#include "suites/benchmarks/selection.h"

namespace quant_suites {

// Whether --benchmark_filter matches: what it does not is not measured either.
bool FilterTakes(const std::string& name);

// A benchmark of `rounds` repetitions, each the time of one round of the row's cell
// of that provider, with counters B/s, FLOP/s, floor_us, floor_share, patterns.
// `row` is called when it runs and may measure; what it throws is the benchmark's error.
void RegisterMeasured(const std::string& name, int rounds, benchmark::TimeUnit unit,
                      const std::function<const ComparisonRow&()>& row, const std::string& provider);

// libtorch's CUDA half and the op libraries. Throws std::runtime_error and
// std::invalid_argument, one line.
void OpenDevice(const Selection& selection);

std::string FirstLine(const std::exception& error);

// Whether there are vLLM's kernels. Throws std::runtime_error where there are not
// and `chosen` names one.
bool ForeignKernelsWanted(const Selection& selection, const std::vector<std::string>& chosen);

void RegisterCudaMatmuls(const Selection& selection, ComparisonTable* table);
void RegisterCudaModels(const Selection& selection, ComparisonTable* table);

}  // namespace quant_suites

#endif  // SUITES_BENCHMARKS_CUDA_REGISTRATION_H_
