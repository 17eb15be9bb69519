#include "kernels/cpu/operators.h"

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <torch/library.h>

#include <vector>

#include "kernels/cpu/gemm.h"

// Named by the target's link options, so that a static link keeps this file,
// and with it the registration, for a user who calls the operators by name only.
extern "C" {
int gtest_determinism_int4_operators = 0;
}

namespace kernels::cpu {
namespace {

using Gemm = void (*)(const Weights&, const std::uint16_t*, std::int64_t, std::uint16_t*);

const std::uint16_t* HalfBits(const at::Tensor& tensor) {
  return reinterpret_cast<const std::uint16_t*>(tensor.const_data_ptr<at::Half>());
}

Weights ViewOf(const char* op, const at::Tensor& words, const at::Tensor& zeros, const at::Tensor& scales,
               std::int64_t k, std::int64_t n) {
  Weights weights;
  weights.k = k;
  weights.n = n;
  TORCH_CHECK(n > 0 && n % 8 == 0, op, ": n must be a positive multiple of 8, but is ", n);
  TORCH_CHECK(k > 0 && k % 8 == 0, op, ": K must be a positive multiple of 8, but is ", k);
  const std::int64_t padded = weights.padded_n();
  const std::vector<std::int64_t> shape = {weights.tiles(), k / 8, kTileColumns};
  TORCH_CHECK(words.scalar_type() == at::kInt && words.is_contiguous() && words.sizes() == at::IntArrayRef(shape), op,
              ": words must be contiguous int32 ", at::IntArrayRef(shape), ", but are ", words.scalar_type(), " ",
              words.sizes());
  TORCH_CHECK(scales.dim() == 2 && scales.scalar_type() == at::kHalf && scales.is_contiguous() &&
                  scales.size(1) == padded && scales.size(0) > 0 && k % scales.size(0) == 0,
              op, ": scales must be contiguous float16 [K / group size, ", padded, "], but are ", scales.scalar_type(),
              " ", scales.sizes());
  TORCH_CHECK(zeros.scalar_type() == at::kByte && zeros.is_contiguous() && zeros.sizes() == scales.sizes(), op,
              ": zeros must be contiguous uint8 ", scales.sizes(), ", but are ", zeros.scalar_type(), " ",
              zeros.sizes());
  weights.group_size = k / scales.size(0);
  TORCH_CHECK(weights.group_size % 8 == 0, op, ": the group size must be a multiple of 8, but is ", weights.group_size);
  weights.words = reinterpret_cast<const std::uint32_t*>(words.const_data_ptr<std::int32_t>());
  weights.zeros = zeros.const_data_ptr<std::uint8_t>();
  weights.scales = HalfBits(scales);
  return weights;
}

at::Tensor Run(const char* op, Gemm gemm, const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros,
               const at::Tensor& scales, const std::optional<at::Tensor>& row_order, std::int64_t n) {
  TORCH_CHECK(x.dim() == 2 && x.scalar_type() == at::kHalf, op, ": x must be float16 [M, K], but is ", x.scalar_type(),
              " ", x.sizes());
  TORCH_CHECK(!row_order || row_order->sizes() == at::IntArrayRef({x.size(1)}), op, ": row_order must be [", x.size(1),
              "], but is ", row_order->sizes());
  const Weights weights = ViewOf(op, words, zeros, scales, x.size(1), n);
  const at::Tensor rows = row_order ? at::index_select(x, 1, *row_order) : x.contiguous();
  at::Tensor y = at::empty({x.size(0), n}, x.options());
  gemm(weights, HalfBits(rows), x.size(0), reinterpret_cast<std::uint16_t*>(y.mutable_data_ptr<at::Half>()));
  return y;
}

}  // namespace

at::Tensor MarlinGemm(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros, const at::Tensor& scales,
                      const std::optional<at::Tensor>& row_order, std::int64_t n) {
  return Run("marlin_gemm", OrderedGemm, x, words, zeros, scales, row_order, n);
}

at::Tensor AwqGemm(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros, const at::Tensor& scales,
                   const std::optional<at::Tensor>& row_order, std::int64_t n) {
  return Run("awq_gemm", OrderedGemm, x, words, zeros, scales, row_order, n);
}

at::Tensor GptqGemm(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros, const at::Tensor& scales,
                    const std::optional<at::Tensor>& row_order, std::int64_t n) {
  const Gemm gemm = at::globalContext().deterministicAlgorithms() ? SplitKGemmOrdered : SplitKGemmArrival;
  return Run("gptq_gemm", gemm, x, words, zeros, scales, row_order, n);
}

at::Tensor GptqGemmOrdered(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros,
                           const at::Tensor& scales, const std::optional<at::Tensor>& row_order, std::int64_t n) {
  return Run("gptq_gemm_ordered", SplitKGemmOrdered, x, words, zeros, scales, row_order, n);
}

}  // namespace kernels::cpu

TORCH_LIBRARY(determinism_int4, library) {
  library.def("marlin_gemm(Tensor x, Tensor words, Tensor zeros, Tensor scales, Tensor? row_order, int n) -> Tensor");
  library.def("awq_gemm(Tensor x, Tensor words, Tensor zeros, Tensor scales, Tensor? row_order, int n) -> Tensor");
  library.def("gptq_gemm(Tensor x, Tensor words, Tensor zeros, Tensor scales, Tensor? row_order, int n) -> Tensor");
  library.def(
      "gptq_gemm_ordered(Tensor x, Tensor words, Tensor zeros, Tensor scales, Tensor? row_order, int n) -> Tensor");
}

TORCH_LIBRARY_IMPL(determinism_int4, CPU, library) {
  library.impl("marlin_gemm", kernels::cpu::MarlinGemm);
  library.impl("awq_gemm", kernels::cpu::AwqGemm);
  library.impl("gptq_gemm", kernels::cpu::GptqGemm);
  library.impl("gptq_gemm_ordered", kernels::cpu::GptqGemmOrdered);
}
