// What the registry knows of each kernel. To add one: declare its maker here and add
// its identity to the table in registry.cc.
#ifndef KERNELS_INTERNAL_MAKERS_H_
#define KERNELS_INTERNAL_MAKERS_H_

#include <memory>

#include "kernels/int4_matmul.h"

namespace kernels::internal {

// A maker gets a layer that CheckLayer() has passed, on the device for which the
// kernel is asked, and refuses what its kernel cannot do by Refuse().
using Maker = std::unique_ptr<Int4Matmul> (*)(const QuantizedLinear& linear, const KernelIdentity& identity);

std::unique_ptr<Int4Matmul> MakeMarlinCpu(const QuantizedLinear& linear, const KernelIdentity& identity);
std::unique_ptr<Int4Matmul> MakeAwqCpu(const QuantizedLinear& linear, const KernelIdentity& identity);
std::unique_ptr<Int4Matmul> MakeGptqCpu(const QuantizedLinear& linear, const KernelIdentity& identity);
std::unique_ptr<Int4Matmul> MakeTinygemmCpu(const QuantizedLinear& linear, const KernelIdentity& identity);

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
std::unique_ptr<Int4Matmul> MakeMarlinCuda(const QuantizedLinear& linear, const KernelIdentity& identity);
std::unique_ptr<Int4Matmul> MakeAwqCuda(const QuantizedLinear& linear, const KernelIdentity& identity);
std::unique_ptr<Int4Matmul> MakeGptqCuda(const QuantizedLinear& linear, const KernelIdentity& identity);
std::unique_ptr<Int4Matmul> MakeTinygemmCuda(const QuantizedLinear& linear, const KernelIdentity& identity);
#endif

// Throws std::invalid_argument where x is not [M, K] of `dtype` on `device`; on a
// CUDA device it must be contiguous too.
void CheckActivations(const KernelIdentity& identity, const at::Tensor& x, at::ScalarType dtype, std::int64_t k,
                      at::Device device = at::kCPU);

}  // namespace kernels::internal

#endif  // KERNELS_INTERNAL_MAKERS_H_
