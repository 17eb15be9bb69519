// Qwen3 on libtorch: q/k norms, RoPE, grouped-query attention, KV cache.
#ifndef SUITES_MODEL_QWEN3_H_
#define SUITES_MODEL_QWEN3_H_

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "kernels/int4_matmul.h"
#include "suites/checkpoint/checkpoint.h"
#include "suites/model/generation.h"

namespace suites {

struct Qwen3Options {
  // "fp16", "bf16", "fp32". fp32: the exact dequantized weights in float32, for
  // comparison with other engines; no INT4 kernel runs.
  std::string compute = "fp16";
  kernels::KernelRequest kernel;  // family "" for a full-precision checkpoint
  std::int64_t max_model_len = 8192;
  // The prompt goes through the layers in pieces of so many rows. 0: whole,
  // unless an activation would then exceed 1 GiB. Outside the INT4 matmuls a
  // row's bits do not depend on it; a matmul may take another path for few rows.
  std::int64_t prefill_chunk = 0;
};

// fp16 and bf16: every operation computes in float32 and rounds its result to the
// type, where PyTorch's modules do; attention keeps scores and softmax in float32
// and rounds its output once. What an operation other than an INT4 matmul yields
// depends neither on threads nor on the instruction set. at::RecordFunction sees
// the INT4 matmuls as their operators and the rest as "qwen3::embedding",
// "qwen3::rms_norm", "qwen3::qk_norm_rope", "qwen3::attention", "qwen3::silu_mul",
// "qwen3::add" and "qwen3::linear" (full precision, and the head).
class Qwen3Engine : public InferenceEngine {
 public:
  // Loads the weights. Throws CheckpointError, std::invalid_argument, std::bad_alloc.
  static std::unique_ptr<Qwen3Engine> Load(const Checkpoint& checkpoint, const Qwen3Options& options);

  // The INT4 matmul behind module `op` ("qkv_proj", "o_proj", "gate_up_proj",
  // "down_proj") of `layer`; nullptr in fp32 or full precision. To replay an
  // operation alone on frozen inputs. Layers that cannot be concatenated (a
  // g_idx each) go by their own names: "q_proj", "k_proj", "v_proj", "gate_proj",
  // "up_proj".
  virtual const kernels::Int4Matmul* MatmulOf(int layer, const std::string& op) const = 0;
  // Offers the *inputs* of every INT4 matmul of the following Generate() calls
  // (step, layer, op, x [M, K]); empty: none.
  using InputSink = std::function<void(int step, int layer, const std::string& op, const at::Tensor& x)>;
  virtual void SetMatmulInputSink(InputSink sink) = 0;
  virtual const kernels::KernelIdentity* kernel() const = 0;  // nullptr without INT4
};

}  // namespace suites

#endif  // SUITES_MODEL_QWEN3_H_
