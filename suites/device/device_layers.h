// Layers and inputs of random bits, made on the CUDA device: for tools and
// benchmarks.
#ifndef SUITES_DEVICE_DEVICE_LAYERS_H_
#define SUITES_DEVICE_DEVICE_LAYERS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "kernels/int4_matmul.h"

namespace suites {

// Of the device's generator that the others draw from.
void Seed(std::uint64_t seed);

// Codes and zero points of random bits, group size 128, scales of 0.005 to 0.015, in
// the format that the family reads.
kernels::QuantizedLinear RandomLayer(const std::string& family, std::int64_t k, std::int64_t n);

// A kernel of such a layer.
std::unique_ptr<kernels::Int4Matmul> RandomKernel(const kernels::KernelRequest& request, std::int64_t k,
                                                  std::int64_t n);
// `options`: of a foreign kernel, KernelRequest::options.
inline std::unique_ptr<kernels::Int4Matmul> RandomKernel(const std::string& family, const std::string& provider,
                                                         std::int64_t k, std::int64_t n,
                                                         const std::map<std::string, std::string>& options = {}) {
  return RandomKernel({family, provider, "cuda", options}, k, n);
}

// [m, k] in -2..2: the type that the family takes; halves.
at::Tensor RandomInput(const std::string& family, std::int64_t m, std::int64_t k);
at::Tensor RandomHalves(std::int64_t m, std::int64_t k);

// Bytes of a layer's codes, zero points and scales, at least: those a kernel must read.
double WeightBytes(std::int64_t k, std::int64_t n);

}  // namespace suites

#endif  // SUITES_DEVICE_DEVICE_LAYERS_H_
