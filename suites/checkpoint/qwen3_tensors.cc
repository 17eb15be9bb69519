#include "suites/checkpoint/qwen3_tensors.h"

namespace suites {

Qwen3Tensors TensorsOf(const ModelConfig& config) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t query = config.num_attention_heads * config.head_dim;
  const std::int64_t key_value = config.num_key_value_heads * config.head_dim;
  Qwen3Tensors tensors;
  tensors.dense["model.embed_tokens.weight"] = {config.vocab_size, hidden};
  tensors.dense["model.norm.weight"] = {hidden};
  if (!config.tie_word_embeddings) tensors.linear["lm_head"] = {.k = hidden, .n = config.vocab_size};
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    tensors.dense[layer + "input_layernorm.weight"] = {hidden};
    tensors.dense[layer + "post_attention_layernorm.weight"] = {hidden};
    tensors.dense[layer + "self_attn.q_norm.weight"] = {config.head_dim};
    tensors.dense[layer + "self_attn.k_norm.weight"] = {config.head_dim};
    tensors.linear[layer + "self_attn.q_proj"] = {.k = hidden, .n = query};
    tensors.linear[layer + "self_attn.k_proj"] = {.k = hidden, .n = key_value};
    tensors.linear[layer + "self_attn.v_proj"] = {.k = hidden, .n = key_value};
    tensors.linear[layer + "self_attn.o_proj"] = {.k = query, .n = hidden};
    tensors.linear[layer + "mlp.gate_proj"] = {.k = hidden, .n = config.intermediate_size};
    tensors.linear[layer + "mlp.up_proj"] = {.k = hidden, .n = config.intermediate_size};
    tensors.linear[layer + "mlp.down_proj"] = {.k = config.intermediate_size, .n = hidden};
  }
  return tensors;
}

}  // namespace suites
