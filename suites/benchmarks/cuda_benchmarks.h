// Benchmarks on a CUDA device. They are measured in interleaved rounds of their
// own; what Google Benchmark sees as a repetition is the time of one round.
#ifndef SUITES_BENCHMARKS_CUDA_BENCHMARKS_H_
#define SUITES_BENCHMARKS_CUDA_BENCHMARKS_H_

#include <string>

#include "suites/benchmarks/comparison_table.h"
#include "suites/benchmarks/selection.h"

namespace quant_suites {

// Registers what `selection` wants and --benchmark_filter matches, after
// benchmark::Initialize(). Returns why there are none, where there is no device or
// the build has no device code, else "". Throws std::runtime_error for a provider
// or variant that is asked for by name and needs an op library which is not there.
// The tables are filled as the benchmarks run, and must outlive them.
std::string RegisterCudaBenchmarks(const Selection& selection, ComparisonTable* matmuls, ComparisonTable* models);

// The matmuls of `selection`, once each after one call to warm up, for a profiler:
// between cudaProfilerStart() and cudaProfilerStop(), each in an NVTX range
// "gate_up/m:16/marlin". Returns how many; throws std::runtime_error without a device.
int RunMatmulsOnce(const Selection& selection);
// The operations of the middle layer, in a prefill and in a decode step, and those
// behind the last layer in the latter, of each variant of `selection`, in the same
// way: "decode/attention/awq_marlin". Decoding is eager.
int RunModelsOnce(const Selection& selection);

}  // namespace quant_suites

#endif  // SUITES_BENCHMARKS_CUDA_BENCHMARKS_H_
