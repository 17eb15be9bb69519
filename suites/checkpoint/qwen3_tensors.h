// The tensors of a Qwen3 and their shapes, as a config implies them.
#ifndef SUITES_CHECKPOINT_QWEN3_TENSORS_H_
#define SUITES_CHECKPOINT_QWEN3_TENSORS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "suites/checkpoint/model_config.h"

namespace suites {

struct LinearShape {
  std::int64_t k = 0;  // inputs
  std::int64_t n = 0;  // outputs
};

struct Qwen3Tensors {
  // Norms and the embedding: "model.norm.weight" -> [hidden].
  std::map<std::string, std::vector<std::int64_t>> dense;
  // Linear layers by module: "model.layers.0.mlp.down_proj". At full precision
  // "<module>.weight" is [n, k]. "lm_head" only where it is not tied.
  std::map<std::string, LinearShape> linear;
};

Qwen3Tensors TensorsOf(const ModelConfig& config);

}  // namespace suites

#endif  // SUITES_CHECKPOINT_QWEN3_TENSORS_H_
