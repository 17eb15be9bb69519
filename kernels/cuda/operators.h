// The CUDA matmuls behind the operators of kernels/cpu/operators.h, for tensors on
// a CUDA device, with a layout of their own.
#ifndef KERNELS_CUDA_OPERATORS_H_
#define KERNELS_CUDA_OPERATORS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/cuda/plan.h"

namespace kernels::cuda {

// Arguments of every operator, beside x: F16 [M, K] contiguous, on the current
// stream of its device:
//   words      I32 [padded N / 16, padded K / 64, 32, 4] in Marlin order (layout.h);
//              N padded to 16, K to 64
//   zeros      U8 [K / G, padded N]
//   scales     F16 [K / G, padded N]
//   row_order  I64 [K] or none: row i of words multiplies column row_order[i] of x
//   n          columns of the result, a multiple of 8 up to 2^30
// Words, zeros and scales must have been written by work that has completed: they may
// be read before the launch ahead has ended.
// Result: F16 [M, n]. Wrong dtypes, shapes or devices are c10::Error.
//
// Streamed (up to 16 rows, as plan.h has it) with groups of a multiple of 32 rows of K: no weight is
// rounded. In all other cases each is rounded once, to half((q - z) s). Sums are fp32, but for gptq's.
at::Tensor MarlinOperator(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros,
                          const at::Tensor& scales, const std::optional<at::Tensor>& row_order, std::int64_t n);
at::Tensor AwqOperator(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros, const at::Tensor& scales,
                       const std::optional<at::Tensor>& row_order, std::int64_t n);
// The same with K split by K, N and the device alone: a row's bits do not depend on M.
at::Tensor MarlinInvariantOperator(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros,
                                   const at::Tensor& scales, const std::optional<at::Tensor>& row_order,
                                   std::int64_t n);
at::Tensor AwqInvariantOperator(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros,
                                const at::Tensor& scales, const std::optional<at::Tensor>& row_order, std::int64_t n);
// Up to kMaxSliceRows rows: partial sums meet in arrival order, except under
// at::globalContext().deterministicAlgorithms(), where this is GptqOrderedOperator.
// More rows: the same as its twin.
at::Tensor GptqOperator(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros, const at::Tensor& scales,
                        const std::optional<at::Tensor>& row_order, std::int64_t n);
at::Tensor GptqOrderedOperator(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros,
                               const at::Tensor& scales, const std::optional<at::Tensor>& row_order, std::int64_t n);

// gptq, or its twin under at::globalContext().deterministicAlgorithms().
Family GptqFamily();

// How `device` multiplies: what PlanFor() says for its multiprocessors and its version.
Plan PlanOn(at::Device device, Family family, std::int64_t m, std::int64_t k, std::int64_t n,
            std::int64_t group_size = 128, bool batch_invariant = false);

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_OPERATORS_H_
