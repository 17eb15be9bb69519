// Qwen3 on libtorch: q/k norms, RoPE, grouped-query attention, KV cache.
#ifndef SUITES_MODEL_QWEN3_H_
#define SUITES_MODEL_QWEN3_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

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
  // row's bits do not depend on it on a CPU; a matmul may take another path for
  // few rows.
  std::int64_t prefill_chunk = 0;
  // On a GPU: decode steps without a CUDA graph.
  bool eager = false;
  // On a GPU: "default", or one of PyTorch's backends for prefill and decode:
  // "flash", "efficient", "math", "cudnn". A backend makes decoding eager.
  std::string attention = "default";
};

// Bytes of device memory that an engine takes at its peak: weights with what
// their repacking needs beside them, the KV cache of max_model_len positions,
// the activations of a prefill, `logit_rows` rows of kept logits. An upper
// estimate, without the memory of the CUDA context. Throws std::invalid_argument
// for a compute type that is not known.
std::uint64_t EstimateDeviceBytes(const ModelConfig& config, const Qwen3Options& options,
                                  std::int64_t logit_rows = 256);

// An operation's closure, offered before it runs: run() computes its outputs
// from its true inputs, as often as one likes during the call, and leaves the
// generation as it was. For an INT4 matmul `matmul` and `x` are what it
// multiplies; else nullptr and undefined.
using ReplaySink = std::function<void(const OpSite& site, const std::function<std::vector<at::Tensor>()>& run,
                                      const kernels::Int4Matmul* matmul, const at::Tensor& x)>;

// fp16 and bf16: every operation computes in float32 and rounds its result to the
// type, where PyTorch's modules do; attention keeps scores and softmax in float32
// and rounds its output once. at::RecordFunction sees the INT4 matmuls as their
// operators and the rest as "qwen3::embedding", "qwen3::rms_norm",
// "qwen3::qk_norm_rope", "qwen3::attention", "qwen3::silu_mul", "qwen3::add",
// "qwen3::linear" (full precision, and the head) and "qwen3::sampling".
//
// On a CPU, what an operation other than an INT4 matmul yields depends neither on
// threads nor on the instruction set.
//
// On a GPU ("cuda", "cuda:N") the token, its position and its choice stay on the
// device; decode steps run as one CUDA graph, captured at the first generation
// of a length, and their launches overlap (docs/gpu.md). The matmuls of full
// precision and of the head are cuBLAS's for more than one row; the attention of
// a prefill is a kernel of our own on sm_90 for heads of 128, else PyTorch's flash
// attention (float32: matmuls and a softmax). Fused are a residual and the norm
// that follows, "qwen3::add_rms_norm", and in a decode step
// "qwen3::embedding_rms_norm" and "qwen3::qk_norm_rope_attention". Each tells of
// its operations apart all the same. Step logits stay on the device. With
// all_prompt_logits the last row of prompt_logits may differ from step row 0,
// which is always computed alone. Logprobs sum in an order of their own. The
// generation runs on the current stream of the device, or on one of the
// engine's where that is the default stream, and has ended on return.
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
  // Offers every operation of the following Generate() calls before it runs;
  // empty: none. Decoding is then eager.
  virtual void SetReplaySink(ReplaySink sink) = 0;
  virtual const kernels::KernelIdentity* kernel() const = 0;  // nullptr without INT4
};

}  // namespace suites

#endif  // SUITES_MODEL_QWEN3_H_
