// Full-precision weights of a Qwen3: from a checkpoint, or random.
#ifndef SUITES_QUANTIZE_WEIGHT_SOURCE_H_
#define SUITES_QUANTIZE_WEIGHT_SOURCE_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "suites/checkpoint/model_config.h"

namespace suites::quantize {

struct TensorInfo {
  std::string name;                 // "model.layers.0.mlp.down_proj.weight"
  std::vector<std::int64_t> shape;  // [out, in], or [size]
  bool quantized = false;           // a linear layer inside a decoder layer
  std::int64_t rows() const { return shape[0]; }
  std::int64_t columns() const { return shape.size() == 2 ? shape[1] : 1; }
};

// Every tensor of a Qwen3 of this shape, in the order of computation; lm_head
// only where it is not tied.
std::vector<TensorInfo> TensorsOf(const ModelConfig& config);

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual const ModelConfig& config() const = 0;
  // config.json to build the output's on.
  virtual const nlohmann::json& config_json() const = 0;
  // Further files of the output, by name: tokenizer, generation_config.json.
  virtual const std::map<std::string, std::string>& files() const = 0;
  // Rows [begin, end) of `tensor`, row-major, as float32. From any thread.
  virtual void Read(const TensorInfo& tensor, std::int64_t begin, std::int64_t end, float* out) const = 0;
};

// A folder in the Hugging Face layout, bf16, fp16 or fp32. Throws
// CheckpointError: what the readers refuse, a checkpoint that is quantized
// already, a tensor that is missing, has another shape or that Qwen3 lacks.
std::unique_ptr<WeightSource> OpenWeights(const std::filesystem::path& folder);

// Sizes as text: "qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b",
// "qwen3-14b", "qwen3-32b", or "hidden=256,intermediate=1024,layers=2,heads=4,
// kv_heads=2,head_dim=64,vocab=512,tied=1,positions=4096" with any of these.
// Throws CheckpointError.
ModelConfig ParseShape(const std::string& text);

// Matrices of bf16 values of mean 0 and standard deviation 0.02 (the
// initializer_range of Qwen3), norm weights of 1. A value depends on the seed,
// the tensor's name and its place only. The tokenizer has one token for each
// byte, three special tokens, and fills the vocabulary with unused ones.
std::unique_ptr<WeightSource> RandomWeights(const ModelConfig& shape, std::uint64_t seed);

}  // namespace suites::quantize

#endif  // SUITES_QUANTIZE_WEIGHT_SOURCE_H_
