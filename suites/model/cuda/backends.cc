#include "suites/model/cuda/backends.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_efficient_attention_forward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/_scaled_dot_product_attention_math.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <stdexcept>

namespace suites::internal {
namespace {

at::Tensor Flash(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values, double scale) {
  // Its causal mask is aligned to the last position of both.
  const auto result = at::_flash_attention_forward(query.unsqueeze(0), keys.transpose(0, 1).unsqueeze(0),
                                                   values.transpose(0, 1).unsqueeze(0), std::nullopt, std::nullopt,
                                                   query.size(0), keys.size(1), /*dropout_p=*/0.0, /*is_causal=*/true,
                                                   /*return_debug_mask=*/false, scale);
  return std::get<0>(result);
}

// Rows and positions where a row must not look, [M, S].
at::Tensor Future(std::int64_t rows, std::int64_t positions, const at::Device& device) {
  const auto options = at::TensorOptions().dtype(at::kLong).device(device);
  return at::arange(positions, options).unsqueeze(0) > at::arange(positions - rows, positions, options).unsqueeze(1);
}

// In float32 whatever the type, a piece of the rows at a time, so that the scores
// of a piece take 256 MiB at most.
at::Tensor Matmuls(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values, double scale) {
  const std::int64_t rows = query.size(0);
  const std::int64_t heads = query.size(1);
  const std::int64_t dim = query.size(2);
  const std::int64_t kv_heads = keys.size(0);
  const std::int64_t positions = keys.size(1);
  const at::Tensor k = keys.to(at::kFloat);
  const at::Tensor v = values.to(at::kFloat);
  at::Tensor out = at::empty({rows, heads * dim}, query.options());
  const std::int64_t piece = std::max<std::int64_t>(1, (std::int64_t{64} << 20) / (heads * positions));
  for (std::int64_t first = 0; first < rows; first += piece) {
    const std::int64_t count = std::min(piece, rows - first);
    const std::int64_t seen = positions - rows + first + count;
    const at::Tensor q = query.narrow(0, first, count)
                             .to(at::kFloat)
                             .view({count, kv_heads, heads / kv_heads, dim})
                             .permute({1, 2, 0, 3})
                             .reshape({kv_heads, heads / kv_heads * count, dim});
    at::Tensor scores = at::bmm(q, k.narrow(1, 0, seen).transpose(1, 2)).mul_(scale);
    scores.view({kv_heads, heads / kv_heads, count, seen})
        .masked_fill_(Future(count, seen, query.device()), -std::numeric_limits<float>::infinity());
    const at::Tensor result = at::bmm(at::softmax(scores, -1), v.narrow(1, 0, seen));
    out.narrow(0, first, count)
        .copy_(
            result.view({kv_heads, heads / kv_heads, count, dim}).permute({2, 0, 1, 3}).reshape({count, heads * dim}));
  }
  return out;
}

// Each key-value head once for each of its query heads, [q_heads, S, D].
at::Tensor Repeated(const at::Tensor& tensor, std::int64_t heads) {
  const std::int64_t group = heads / tensor.size(0);
  return tensor.unsqueeze(1).expand({tensor.size(0), group, tensor.size(1), tensor.size(2)}).flatten(0, 1);
}

at::Tensor Efficient(const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values, double scale) {
  constexpr std::int64_t kCausalFromTheLastPosition = 2;
  const std::int64_t heads = query.size(1);
  const auto result = at::_efficient_attention_forward(
      query.unsqueeze(0), Repeated(keys, heads).transpose(0, 1).unsqueeze(0),
      Repeated(values, heads).transpose(0, 1).unsqueeze(0), std::nullopt, std::nullopt, std::nullopt, std::nullopt,
      std::nullopt, /*dropout_p=*/0.0, kCausalFromTheLastPosition, /*compute_log_sumexp=*/false, scale);
  return std::get<0>(result);
}

at::Tensor Scaled(AttentionBackend backend, const at::Tensor& query, const at::Tensor& keys, const at::Tensor& values,
                  double scale) {
  const std::int64_t rows = query.size(0);
  const std::int64_t positions = keys.size(1);
  const at::Tensor q = query.transpose(0, 1).unsqueeze(0);  // [1, q_heads, M, D]
  const at::Tensor k = Repeated(keys, query.size(1)).unsqueeze(0);
  const at::Tensor v = Repeated(values, query.size(1)).unsqueeze(0);
  // Their causal mask is aligned to the first position: good for a whole prompt.
  const bool is_causal = rows == positions && rows > 1;
  const bool masked = !is_causal && rows > 1;
  if (backend == AttentionBackend::kMath) {
    std::optional<at::Tensor> mask;
    if (masked) mask = Future(rows, positions, query.device()).logical_not();
    return std::get<0>(at::_scaled_dot_product_attention_math(q, k, v, mask, 0.0, is_causal, std::nullopt, scale))
        .transpose(1, 2);
  }
  if (masked) {
    throw std::invalid_argument("attention \"cudnn\" takes a prompt as a whole: leave prefill_chunk at 0");
  }
  return std::get<0>(at::_scaled_dot_product_cudnn_attention(q, k, v, std::nullopt, /*compute_log_sumexp=*/false, 0.0,
                                                             is_causal, /*return_debug_mask=*/false, scale))
      .transpose(1, 2);
}

}  // namespace

AttentionBackend ParseAttention(const std::string& name) {
  if (name == "default") return AttentionBackend::kDefault;
  if (name == "flash") return AttentionBackend::kFlash;
  if (name == "efficient") return AttentionBackend::kEfficient;
  if (name == "math") return AttentionBackend::kMath;
  if (name == "cudnn") return AttentionBackend::kCudnn;
  throw std::invalid_argument("attention \"" + name + "\" is not known: use default, flash, efficient, math or cudnn");
}

at::Tensor AttendByBackend(AttentionBackend backend, const at::Tensor& query, const at::Tensor& keys,
                           const at::Tensor& values, double scale) {
  at::Tensor out;
  switch (backend) {
    case AttentionBackend::kDefault:
      out = query.scalar_type() == at::kFloat ? Matmuls(query, keys, values, scale) : Flash(query, keys, values, scale);
      break;
    case AttentionBackend::kFlash:
      out = Flash(query, keys, values, scale);
      break;
    case AttentionBackend::kEfficient:
      out = Efficient(query, keys, values, scale);
      break;
    case AttentionBackend::kMath:
    case AttentionBackend::kCudnn:
      out = Scaled(backend, query, keys, values, scale);
      break;
  }
  return out.reshape({query.size(0), query.size(1) * query.size(2)});
}

}  // namespace suites::internal
