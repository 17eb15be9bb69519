// Attention by libtorch, for prefills and for the experiment on operations.
#ifndef SUITES_MODEL_CUDA_BACKENDS_H_
#define SUITES_MODEL_CUDA_BACKENDS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace suites::internal {

enum class AttentionBackend : std::uint8_t { kDefault, kFlash, kEfficient, kMath, kCudnn };

// Throws std::invalid_argument for a name that Qwen3Options does not know.
AttentionBackend ParseAttention(const std::string& name);

// Causal attention of the last M positions of S: query [M, q_heads, D], keys and
// values [kv_heads, S, D], rows in any stride; row r sees the first S - M + r + 1
// positions. Returns [M, q_heads * D]. kDefault is kFlash for 16-bit types, and
// for float32 matmuls and a softmax over pieces of the rows. Throws what libtorch
// throws where the backend does not do it on this device.
at::Tensor AttendByBackend(AttentionBackend backend, const at::Tensor& query, const at::Tensor& keys,
                           const at::Tensor& values, double scale);

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_BACKENDS_H_
