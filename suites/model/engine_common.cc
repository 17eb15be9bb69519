#include "suites/model/engine_common.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "suites/checkpoint/tensor_table.h"

namespace suites {
namespace internal {

Precision ParsePrecision(const std::string& compute) {
  if (compute == "fp16") return Precision::kFp16;
  if (compute == "bf16") return Precision::kBf16;
  if (compute == "fp32") return Precision::kFp32;
  throw std::invalid_argument("compute \"" + compute + "\" is not known: use fp16, bf16 or fp32");
}

gtest_determinism::DType DTypeOf(Precision precision) {
  switch (precision) {
    case Precision::kFp16:
      return gtest_determinism::DType::kFloat16;
    case Precision::kBf16:
      return gtest_determinism::DType::kBFloat16;
    case Precision::kFp32:
      break;
  }
  return gtest_determinism::DType::kFloat32;
}

bool UsesInt4Kernels(const Checkpoint& checkpoint, const Qwen3Options& options, Precision precision) {
  const ModelConfig& config = checkpoint.config();
  if (config.head_dim % 2 != 0 || config.num_attention_heads % config.num_key_value_heads != 0) {
    throw CheckpointError(checkpoint.folder().string() +
                          "/config.json: head_dim must be even and num_attention_heads a multiple of "
                          "num_key_value_heads");
  }
  if (config.quantization.method.empty() || precision == Precision::kFp32) return false;
  const std::string& family = options.kernel.family;
  if (family.empty()) {
    throw std::invalid_argument(checkpoint.folder().string() + ": the checkpoint is quantized (" +
                                config.quantization.method + "): name a kernel family, or compute in fp32");
  }
  const bool bf16_kernel = family == "tinygemm";
  if (bf16_kernel != (precision == Precision::kBf16)) {
    throw std::invalid_argument("kernel " + family + " computes in " + (bf16_kernel ? "bf16" : "fp16") + ", not in " +
                                options.compute + ": use that, or fp32 for the dequantized weights");
  }
  return true;
}

void CheckRequest(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options, std::int64_t vocab,
                  std::int64_t max_positions) {
  const auto check_ids = [&](const std::vector<std::int64_t>& ids, const char* what) {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0 || ids[i] >= vocab) {
        throw std::invalid_argument(std::string(what) + "[" + std::to_string(i) + "] = " + std::to_string(ids[i]) +
                                    " is outside the model's vocabulary of " + std::to_string(vocab));
      }
    }
  };
  const auto prompt = static_cast<std::int64_t>(prompt_ids.size());
  if (prompt == 0) throw std::invalid_argument("the prompt is empty: give at least one token");
  if (options.max_tokens < 0) throw std::invalid_argument("max_tokens is negative");
  check_ids(prompt_ids, "prompt_ids");
  check_ids(options.forced_ids, "forced_ids");
  if (prompt + options.max_tokens > max_positions) {
    throw std::invalid_argument("a prompt of " + std::to_string(prompt) + " tokens and " +
                                std::to_string(options.max_tokens) + " new ones exceed the model's " +
                                std::to_string(max_positions) + " positions: shorten the prompt");
  }
}

std::int64_t PrefillRows(const ModelConfig& config, std::int64_t prefill_chunk, Precision precision) {
  if (prefill_chunk > 0) return prefill_chunk;
  // gate_up is the widest activation.
  const auto row_bytes = 2 * config.intermediate_size * static_cast<std::int64_t>(SizeOf(DTypeOf(precision)));
  return std::max<std::int64_t>(16, (std::int64_t{1} << 30) / row_bytes);
}

RopeTable::RopeTable(const ModelConfig& config, Precision precision)
    : ops_(RowOpsFor(precision)), half_(config.head_dim / 2) {
  // As transformers computes them: the exponent and the power in float32.
  for (std::int64_t i = 0; i < half_; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    const auto power = static_cast<float>(std::pow(config.rope_theta, static_cast<double>(exponent)));
    inverse_frequency_.push_back(1.0f / power);
  }
}

void RopeTable::Extend(std::int64_t positions) {
  const auto have = static_cast<std::int64_t>(cosine_.size()) / half_;
  if (positions <= have) return;
  std::vector<float> cosine(static_cast<std::size_t>(half_));
  std::vector<float> sine(cosine.size());
  const auto append_rounded = [&](const std::vector<float>& row, std::vector<float>& table) {
    std::vector<float> rounded(row.size());
    std::vector<float> stored(row.size());  // of the precision, at most as large as float
    ops_.from_float(row.data(), stored.data(), half_);
    ops_.to_float(stored.data(), rounded.data(), half_);
    table.insert(table.end(), rounded.begin(), rounded.end());
  };
  for (std::int64_t position = have; position < positions; ++position) {
    for (std::size_t i = 0; i < cosine.size(); ++i) {
      // The angle is rounded to float32, its cosine is not computed in it.
      const auto angle = static_cast<double>(static_cast<float>(position) * inverse_frequency_[i]);
      cosine[i] = static_cast<float>(std::cos(angle));
      sine[i] = static_cast<float>(std::sin(angle));
    }
    append_rounded(cosine, cosine_);
    append_rounded(sine, sine_);
  }
}

}  // namespace internal

std::unique_ptr<Qwen3Engine> Qwen3Engine::Load(const Checkpoint& checkpoint, const Qwen3Options& options) {
  const std::string& device = options.kernel.device;
  if (device == "cpu") return internal::MakeCpuEngine(checkpoint, options);
  if (device.starts_with("cuda")) return internal::MakeCudaEngine(checkpoint, options);
  throw std::invalid_argument("device \"" + device + "\" is not known: use cpu, cuda or cuda:N");
}

}  // namespace suites
