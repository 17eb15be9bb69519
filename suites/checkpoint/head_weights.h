// An output head that is stored quantized, as the dense matrix that the engine multiplies by.
#ifndef SUITES_CHECKPOINT_HEAD_WEIGHTS_H_
#define SUITES_CHECKPOINT_HEAD_WEIGHTS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/int4_matmul.h"

namespace suites {

// GPTQ in 8 bits: codes along K, zero points along N, four of either in a word, from the
// lowest bits on. GPTQModel writes its "lm_head": true so, whatever the layers have.
struct EightBitLinear {
  std::int64_t k = 0, n = 0;
  at::Tensor qweight;         // I32 [K/4, N]
  at::Tensor qzeros;          // I32 [K/G, N/4]
  at::Tensor scales;          // float16, bfloat16 or float32 [K/G, N]
  at::Tensor g_idx;           // I32 [K], the group of each row; undefined: in order
  bool gptq_v1_zeros = true;  // "gptq" stores z - 1, from the whole word as one number
};

// [N, K] of `dtype`: (code - zero point) scale, exact in float32 and then rounded. Some columns
// at a time, so that float32 is never there as a whole.
at::Tensor DenseHead(const EightBitLinear& head, at::ScalarType dtype);
at::Tensor DenseHead(const kernels::QuantizedLinear& head, at::ScalarType dtype);

}  // namespace suites

#endif  // SUITES_CHECKPOINT_HEAD_WEIGHTS_H_
