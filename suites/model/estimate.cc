#include <algorithm>
#include <cstdint>

#include "suites/checkpoint/qwen3_tensors.h"
#include "suites/model/cuda/attention_plan.h"
#include "suites/model/engine_common.h"
#include "suites/model/qwen3.h"

namespace suites {
namespace {

std::uint64_t Product(const std::vector<std::int64_t>& shape) {
  std::uint64_t product = 1;
  for (const std::int64_t extent : shape) product *= static_cast<std::uint64_t>(extent);
  return product;
}

std::uint64_t RoundUp(std::int64_t value, std::int64_t multiple) {
  return static_cast<std::uint64_t>((value + multiple - 1) / multiple * multiple);
}

// INT4 codes, and a scale and a zero point of at most 16 bits for each group;
// padded as the widest layout pads.
std::uint64_t PackedBytes(const LinearShape& shape, std::int64_t group_size) {
  const std::uint64_t k = RoundUp(shape.k, 1024);
  const std::uint64_t n = RoundUp(shape.n, 64);
  const std::uint64_t groups =
      group_size > 0 ? (k + static_cast<std::uint64_t>(group_size) - 1) / static_cast<std::uint64_t>(group_size) : 1;
  return k * n / 2 + groups * n * 4;
}

}  // namespace

std::uint64_t EstimateDeviceBytes(const ModelConfig& config, const Qwen3Options& options, std::int64_t logit_rows) {
  const internal::Precision precision = internal::ParsePrecision(options.compute);
  const std::uint64_t element = SizeOf(internal::DTypeOf(precision));
  const bool packed = !config.quantization.method.empty() && precision != internal::Precision::kFp32;
  const Qwen3Tensors tensors = TensorsOf(config);

  std::uint64_t weights = 0;
  for (const auto& [name, shape] : tensors.dense) weights += Product(shape) * element;
  std::uint64_t widest = 0;  // of a layer's matrices
  for (const auto& [name, shape] : tensors.linear) {
    const std::uint64_t dense = Product({shape.k, shape.n}) * element;
    const bool is_head = name == "lm_head";
    const std::uint64_t bytes = packed && !is_head ? PackedBytes(shape, config.quantization.group_size) : dense;
    weights += bytes;
    if (!is_head) widest = std::max(widest, bytes);
  }
  // Its parts, their concatenation and what is made of that, for gate and up.
  const std::uint64_t repacking = 6 * widest;

  const std::int64_t positions = std::min(config.max_position_embeddings, options.max_model_len);
  const auto head_dim = static_cast<std::uint64_t>(internal::PaddedHeadDim(static_cast<int>(config.head_dim)));
  const std::uint64_t cache =
      2 * element * head_dim * Product({config.num_hidden_layers, config.num_key_value_heads, positions});
  const std::uint64_t rope = Product({positions, config.head_dim}) * sizeof(float);

  const auto rows =
      static_cast<std::uint64_t>(std::min(internal::PrefillRows(config, options.prefill_chunk, precision), positions));
  const std::int64_t heads = config.num_attention_heads + 2 * config.num_key_value_heads;
  // Live at once: the residual stream twice, a norm's output, qkv before and
  // after the rotation or gate_up with its product, attention with its copies.
  const std::uint64_t row = 4 * config.hidden_size +
                            std::max(3 * heads * config.head_dim, 3 * config.intermediate_size) +
                            2 * config.num_attention_heads * config.head_dim;
  // float32 attention holds the scores of a piece of the rows.
  const std::uint64_t scores = precision == internal::Precision::kFp32 ? std::uint64_t{3} << 29 : 0;
  const std::uint64_t logits = static_cast<std::uint64_t>(logit_rows) * config.vocab_size * element;
  // cuBLAS's workspaces, and what the caching allocator rounds up.
  const std::uint64_t workspaces = std::uint64_t{256} << 20;
  return weights + repacking + cache + rope + rows * row * element + scores + logits + workspaces;
}

}  // namespace suites
