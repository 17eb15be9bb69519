// Scales and zero points in the order in which vLLM's Marlin kernel reads them, and
// how it divides rows. Pure functions; of tensors on any device, which nothing leaves.
#ifndef KERNELS_PROVIDERS_VLLM_LAYOUT_H_
#define KERNELS_PROVIDERS_VLLM_LAYOUT_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace kernels::vllm {

// AWQ words I32 [R, N/8] to codes I32 [R, N], in the order of columns.
at::Tensor AwqCodes(const at::Tensor& words);

// GPTQ zero points I32 [G, N/8] to zero points I32 [G, N]; `v1`: stored less
// one, as whole words.
at::Tensor GptqZeros(const at::Tensor& words, bool v1);

// Codes [R, N] to words I32 [R, N/8]: column 8c + i in bits 4i of word c.
at::Tensor PackColumns(const at::Tensor& codes);

// Scales F16 [K/G, N], N a multiple of 64. With several groups each block of 64
// columns, taken as 8 by 8, is transposed; with one (`group_size` >= k) each
// block of 32, taken as 4 by 4 pairs.
at::Tensor MarlinScales(const at::Tensor& scales, std::int64_t k, std::int64_t group_size);

// Zero points I32 [K/G, N], N a multiple of 64, to words I32 [K/G, N/8]: blocks
// of 64 transposed as above, then of each eight the even ones before the odd.
at::Tensor MarlinZeros(const at::Tensor& zeros);

// How many of `rows` rows of x marlin_gemm adds up atomically for N columns when it
// is told to: it takes them in parts, and does so in a part while
// ceil(rows of it / 64) N <= 2048.
std::int64_t MarlinAtomicRows(std::int64_t rows, std::int64_t n);

}  // namespace kernels::vllm

#endif  // KERNELS_PROVIDERS_VLLM_LAYOUT_H_
