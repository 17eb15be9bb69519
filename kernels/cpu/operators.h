// The CPU matmuls as PyTorch operators of the namespace determinism_int4, so
// that profilers and at::RecordFunction see them by name.
#ifndef KERNELS_CPU_OPERATORS_H_
#define KERNELS_CPU_OPERATORS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace kernels::cpu {

// Arguments of every operator, beside x: F16 [M, K]:
//   words      I32 [padded N / 64, K / 8, 64]: tiles of 64 columns over all of K,
//              N padded to whole ones; codes within a word as microkernels.h says
//   zeros      U8 [K / G, padded N]
//   scales     F16 [K / G, padded N]
//   row_order  I64 [K] or none: row i of words multiplies column row_order[i] of x
//   n          columns of the result
// Result: F16 [M, n]. Wrong dtypes, shapes or devices are c10::Error.
at::Tensor MarlinGemm(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros, const at::Tensor& scales,
                      const std::optional<at::Tensor>& row_order, std::int64_t n);
at::Tensor AwqGemm(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros, const at::Tensor& scales,
                   const std::optional<at::Tensor>& row_order, std::int64_t n);
// Partial sums meet in arrival order, except under
// at::globalContext().deterministicAlgorithms(), where this is GptqGemmOrdered.
at::Tensor GptqGemm(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros, const at::Tensor& scales,
                    const std::optional<at::Tensor>& row_order, std::int64_t n);
at::Tensor GptqGemmOrdered(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros,
                           const at::Tensor& scales, const std::optional<at::Tensor>& row_order, std::int64_t n);

}  // namespace kernels::cpu

#endif  // KERNELS_CPU_OPERATORS_H_
