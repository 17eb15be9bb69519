// config.json of a Qwen3 checkpoint in the Hugging Face layout.
#ifndef SUITES_CHECKPOINT_MODEL_CONFIG_H_
#define SUITES_CHECKPOINT_MODEL_CONFIG_H_

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace suites {

struct QuantizationConfig {
  std::string method;  // "awq", "gptq", "compressed-tensors", "torchao"; "" for full precision
  int bits = 4;
  std::int64_t group_size = 128;     // -1: whole columns
  bool group_size_by_layer = false;  // not said, or GPTQModel's "dynamic": a layer's scales say it
  bool desc_act = false;
  bool symmetric = true;
  bool gptq_v1_zeros = true;  // checkpoint_format "gptq"; false for "gptq_v2"
  std::string packing;        // torchao: "tile_packed_to_4d" or "plain"
  std::vector<std::string> modules_to_not_convert;
};

struct ModelConfig {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 1e6;  // top level, or rope_parameters.rope_theta
  bool tie_word_embeddings = false;
  // "torch_dtype" or "dtype": "float16", "bfloat16", "float32"; "" if not said.
  std::string torch_dtype;
  std::int64_t eos_token_id = -1;  // the first of several
  QuantizationConfig quantization;
};

struct ModelSizes {
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t max_position_embeddings = 0;
};

// Of FOLDER/config.json, what a runtime that brings its own computation needs: no feature
// of the model and no quantization is refused. Throws CheckpointError: a missing file, not
// JSON, another architecture, a missing or senseless size.
ModelSizes ReadModelSizes(const std::filesystem::path& folder);

// Reads FOLDER/config.json as transformers 4 and 5 write it. Quantization comes
// from its quantization_config, else from the quantize_config.json of AutoGPTQ
// and GPTQModel or the quant_config.json of early AutoAWQ beside it.
// Throws CheckpointError: a missing file, not JSON, another architecture than
// Qwen3ForCausalLM, a missing or senseless field, a feature that would change
// the result and is not built (scaled RoPE, sliding windows, biases), or a
// quantization other than 4-bit AWQ gemm, GPTQ, compressed-tensors W4A16 and torchao.
ModelConfig ReadModelConfig(const std::filesystem::path& folder);

}  // namespace suites

#endif  // SUITES_CHECKPOINT_MODEL_CONFIG_H_
