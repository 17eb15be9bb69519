// A model of given sizes with random weights, in memory: for speed, and for
// experiments that need the true shapes but no sense.
#ifndef SUITES_MODEL_RANDOM_CHECKPOINT_H_
#define SUITES_MODEL_RANDOM_CHECKPOINT_H_

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "suites/checkpoint/checkpoint.h"
#include "suites/checkpoint/qwen3_tensors.h"

namespace suites {

// "qwen3-8b". Throws std::invalid_argument.
ModelConfig ConfigOfShape(const std::string& shape);

// Every layer has the same weights, so that gigabytes need not be made. Numbers
// are scaled so that activations stay near one.
class RandomCheckpoint : public Checkpoint {
 public:
  // `format`: "awq", "gptq", "torchao" (group size 128), or "" for full precision.
  // Throws std::invalid_argument.
  RandomCheckpoint(ModelConfig config, const std::string& format);
  const ModelConfig& config() const override { return config_; }
  const std::filesystem::path& folder() const override { return folder_; }
  at::Tensor Dense(const std::string& name) const override;
  bool IsQuantized(const std::string& module) const override;
  kernels::QuantizedLinear Quantized(const std::string& module) const override;

 private:
  ModelConfig config_;
  std::filesystem::path folder_ = "random weights";
  Qwen3Tensors tensors_;
  at::Tensor words_, numbers_;                      // random; tensors are filled from them
  mutable std::map<std::string, at::Tensor> made_;  // by kind and sizes
};

}  // namespace suites

#endif  // SUITES_MODEL_RANDOM_CHECKPOINT_H_
