// What the engines of Qwen3 share, whatever device they run on.
#ifndef SUITES_MODEL_ENGINE_COMMON_H_
#define SUITES_MODEL_ENGINE_COMMON_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gtest_determinism/bits.h"
#include "suites/checkpoint/checkpoint.h"
#include "suites/checkpoint/model_config.h"
#include "suites/model/generation.h"
#include "suites/model/qwen3.h"
#include "suites/model/row_ops.h"

namespace suites::internal {

std::unique_ptr<Qwen3Engine> MakeCpuEngine(const Checkpoint& checkpoint, const Qwen3Options& options);
// Throws std::invalid_argument where this build has no device code.
std::unique_ptr<Qwen3Engine> MakeCudaEngine(const Checkpoint& checkpoint, const Qwen3Options& options);

// "fp16", "bf16", "fp32". Throws std::invalid_argument.
Precision ParsePrecision(const std::string& compute);
gtest_determinism::DType DTypeOf(Precision precision);

// Whether INT4 kernels run in this model. Throws CheckpointError (heads that do
// not divide) and std::invalid_argument (a kernel that is missing, or computes
// in another precision).
bool UsesInt4Kernels(const Checkpoint& checkpoint, const Qwen3Options& options, Precision precision);

// Throws std::invalid_argument as InferenceEngine::Generate() says.
void CheckRequest(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options, std::int64_t vocab,
                  std::int64_t max_positions);

// Rows of the prompt that go through the layers together: Qwen3Options::prefill_chunk.
std::int64_t PrefillRows(const ModelConfig& config, std::int64_t prefill_chunk, Precision precision);

// The cosines and sines of the first positions, rounded to the precision, [positions, half].
class RopeTable {
 public:
  RopeTable(const ModelConfig& config, Precision precision);
  void Extend(std::int64_t positions);  // to at least so many
  std::int64_t half() const { return half_; }
  const std::vector<float>& cosine() const { return cosine_; }
  const std::vector<float>& sine() const { return sine_; }

 private:
  const RowOps& ops_;
  std::int64_t half_;
  std::vector<float> inverse_frequency_;
  std::vector<float> cosine_, sine_;
};

}  // namespace suites::internal

#endif  // SUITES_MODEL_ENGINE_COMMON_H_
