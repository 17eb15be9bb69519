// A Qwen3 checkpoint: its dense tensors and its quantized linear layers.
#ifndef SUITES_CHECKPOINT_CHECKPOINT_H_
#define SUITES_CHECKPOINT_CHECKPOINT_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "kernels/int4_matmul.h"
#include "suites/checkpoint/model_config.h"
#include "suites/checkpoint/tensor_table.h"  // CheckpointError

namespace suites {

// How far a loader has come: bytes of the tensors that it has asked for, of all
// that the model needs, as they lie in the files.
using LoadProgress = std::function<void(std::uint64_t bytes_done, std::uint64_t bytes_total)>;

// Nothing is copied: tensors are views of the mapped files, but for the few whose
// bytes are not aligned to their elements. Pages of the tensors handed out longest
// ago, beyond the last 256 MiB, leave resident memory again (they stay in the page
// cache), so that a loader that repacks holds its own copy only.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;
  virtual const ModelConfig& config() const = 0;
  virtual const std::filesystem::path& folder() const = 0;
  // A dense tensor ("model.norm.weight"), a view of the mapped file. With tied
  // embeddings "lm_head.weight" is the embedding. Checks the shape that the
  // config implies, and that every element is finite. Throws CheckpointError.
  virtual at::Tensor Dense(const std::string& name) const = 0;
  // True where `module` ("model.layers.0.mlp.down_proj") is stored quantized;
  // never for a tied "lm_head".
  virtual bool IsQuantized(const std::string& module) const = 0;
  // Its tensors, shapes checked against the config; compressed-tensors come as the GPTQ words
  // that hold the same weights. Scales of AWQ and GPTQ are float16 where that holds them
  // exactly, else as stored. Throws CheckpointError, also for scales that are not finite.
  virtual kernels::QuantizedLinear Quantized(const std::string& module) const = 0;
  // The output head [vocabulary, hidden]: Dense("lm_head.weight"), or, where it is stored quantized
  // ("lm_head": true of GPTQ, in 4 or 8 bits), its values rounded to `dtype`. Throws as those.
  virtual at::Tensor Head(at::ScalarType dtype) const;
  // Called by Dense(), Quantized() and Head(), from the thread that calls them, with what
  // was asked for before: a loader that asks for one tensor after the other has
  // then dealt with those. Each tensor counts once. Empty: no calls.
  virtual void SetProgress(LoadProgress) {}
};

// Opens a folder in the Hugging Face layout: full precision, AWQ, GPTQ,
// compressed-tensors, torchao (safetensors or pickle).
// Every tensor that Qwen3 needs is checked to be there with the right shape
// before this returns. Throws CheckpointError.
std::unique_ptr<Checkpoint> OpenCheckpoint(const std::filesystem::path& folder);

}  // namespace suites

#endif  // SUITES_CHECKPOINT_CHECKPOINT_H_
