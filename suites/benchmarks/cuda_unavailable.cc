#include <stdexcept>

#include "suites/benchmarks/cuda_benchmarks.h"

namespace quant_suites {

void RegisterCudaBenchmarks(const Selection&, ComparisonTable*, ComparisonTable*) {}

int RunMatmulsOnce(const Selection&) { throw std::runtime_error("this build has no device code"); }
int RunModelsOnce(const Selection&) { throw std::runtime_error("this build has no device code"); }

}  // namespace quant_suites
