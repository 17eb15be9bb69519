#include "suites/checkpoint/head_weights.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>

namespace suites {
namespace {

constexpr std::int64_t kAtOnce = 2048;  // columns

// Some output columns of a layer, a multiple of 8 from a multiple of 8 on.
kernels::QuantizedLinear Columns(const kernels::QuantizedLinear& linear, std::int64_t first, std::int64_t count) {
  kernels::QuantizedLinear some = linear;
  some.n = count;
  switch (linear.format) {
    case kernels::Format::kAwq:
      some.qweight = linear.qweight.narrow(1, first / 8, count / 8);
      break;
    case kernels::Format::kGptq:
      some.qweight = linear.qweight.narrow(1, first, count);
      break;
    case kernels::Format::kTorchaoTilePacked:
      some.qweight = linear.qweight.narrow(0, first / 8, (count + 7) / 8);
      some.scales = linear.scales.narrow(1, first, (count + 7) / 8 * 8);
      return some;
    case kernels::Format::kTorchaoPlain:
      some.qweight = linear.qweight.narrow(0, first, count);
      some.scales = linear.scales.narrow(1, first, count);
      some.qzeros = linear.qzeros.narrow(1, first, count);
      return some;
  }
  some.scales = linear.scales.narrow(1, first, count);
  some.qzeros = linear.qzeros.narrow(1, first / 8, count / 8);
  return some;
}

// Columns [first, first + count) as rows of float32 [count, K].
at::Tensor Columns(const EightBitLinear& head, std::int64_t first, std::int64_t count) {
  const at::Tensor words = head.qweight.contiguous(), zeros = head.qzeros.contiguous();
  const at::Tensor scales = head.scales.narrow(1, first, count).to(at::kFloat).contiguous();
  const auto* const word = reinterpret_cast<const std::uint32_t*>(words.const_data_ptr<std::int32_t>());
  const auto* const zero = reinterpret_cast<const std::uint32_t*>(zeros.const_data_ptr<std::int32_t>());
  const float* const scale = scales.const_data_ptr<float>();
  const at::Tensor index = head.g_idx.defined() ? head.g_idx.contiguous() : at::Tensor();
  const std::int32_t* const group_of = index.defined() ? index.const_data_ptr<std::int32_t>() : nullptr;
  const std::int64_t group_size = head.k / head.scales.size(0), k = head.k, n = head.n;
  const std::uint32_t add = head.gptq_v1_zeros ? 0x01010101u : 0u;
  at::Tensor values = at::empty({count, k}, at::kFloat);
  float* const out = values.mutable_data_ptr<float>();
  at::parallel_for(0, count, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = 0; row < k; ++row) {
      const std::int64_t group = group_of != nullptr ? group_of[row] : row / group_size;
      for (std::int64_t c = begin; c < end; ++c) {
        const std::int64_t column = first + c;
        const auto code = static_cast<int>(word[row / 4 * n + column] >> (8 * (row % 4)) & 255u);
        const auto z = static_cast<int>((zero[group * (n / 4) + column / 4] + add) >> (8 * (column % 4)) & 255u);
        out[c * k + row] = static_cast<float>(code - z) * scale[group * count + c];
      }
    }
  });
  return values;
}

}  // namespace

at::Tensor DenseHead(const EightBitLinear& head, at::ScalarType dtype) {
  at::Tensor weights = at::empty({head.n, head.k}, dtype);
  for (std::int64_t first = 0; first < head.n; first += kAtOnce) {
    const std::int64_t count = std::min(kAtOnce, head.n - first);
    weights.narrow(0, first, count).copy_(Columns(head, first, count));
  }
  return weights;
}

at::Tensor DenseHead(const kernels::QuantizedLinear& head, at::ScalarType dtype) {
  at::Tensor weights = at::empty({head.n, head.k}, dtype);
  for (std::int64_t first = 0; first < head.n; first += kAtOnce) {
    const std::int64_t count = std::min(kAtOnce, head.n - first);
    weights.narrow(0, first, count).copy_(kernels::Dequantize(Columns(head, first, count)).t());
  }
  return weights;
}

}  // namespace suites
