#include <stdexcept>

#include "suites/benchmarks/cuda_benchmarks.h"

namespace quant_suites {

namespace {
constexpr const char* kNoDeviceCode = "this build has no device code";
}

std::string RegisterCudaBenchmarks(const Selection&, ComparisonTable*, ComparisonTable*) { return kNoDeviceCode; }

int RunMatmulsOnce(const Selection&) { throw std::runtime_error(kNoDeviceCode); }
int RunModelsOnce(const Selection&) { throw std::runtime_error(kNoDeviceCode); }

}  // namespace quant_suites
