// The checkpoints that other tools wrote, and which kernel family reads which.
#ifndef TESTS_SUITES_MODEL_CHECKPOINTS_H_
#define TESTS_SUITES_MODEL_CHECKPOINTS_H_

#include <cmath>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "suites/checkpoint/model_config.h"
#include "tests/suites/model/reference.h"

namespace suites {

struct ReferenceCheckpoint {
  const char* name;    // its folder in tests/data/checkpoints
  const char* format;  // as the kernels see it: "awq", "gptq", "torchao"
};
// Those with weights that this project reads itself; OpenVINO's are not among them.
inline const std::vector<ReferenceCheckpoint>& ReferenceCheckpoints() {
  static const std::vector<ReferenceCheckpoint> all = {
      {"awq", "awq"},
      {"awq_group32_shards", "awq"},
      {"awq_group64", "awq"},
      {"awq_columns", "awq"},
      {"awq_gptqmodel", "awq"},
      {"gptq_desc_act", "gptq"},
      {"gptq_asymmetric", "gptq"},
      {"gptq_v2_desc_act", "gptq"},
      {"gptq_770_asymmetric", "gptq"},
      {"gptq_770_desc_act", "gptq"},
      {"gptq_770_v2_symmetric", "gptq"},
      {"gptq_770_v2_asymmetric", "gptq"},
      {"gptq_770_head", "gptq"},
      {"ct_symmetric", "gptq"},
      {"ct_asymmetric", "gptq"},
      {"ct_actorder", "gptq"},
      {"ct_channel", "gptq"},
      {"ct_081_actorder", "gptq"},
      {"torchao", "torchao"},
      {"torchao_012", "torchao"},
      {"torchao_014_cuda", "torchao"},
      {"torchao_018", "torchao"},
      {"torchao_018_plain", "torchao"},
  };
  return all;
}

struct KernelCase {
  const char* checkpoint;
  const char* family;
  friend void PrintTo(const KernelCase& c, std::ostream* os) { *os << c.checkpoint << " by " << c.family; }
};
inline bool Serves(const std::string& family, const std::string& format) {
  if (family == "marlin") return format != "torchao";
  return family == (format == "torchao" ? "tinygemm" : format);
}
// Every family with every checkpoint: those whose format it reads, or the others.
inline std::vector<KernelCase> KernelCases(bool served) {
  std::vector<KernelCase> cases;
  for (const auto& [name, format] : ReferenceCheckpoints()) {
    for (const char* family : {"marlin", "awq", "gptq", "tinygemm"}) {
      if (Serves(family, format) == served) cases.push_back({name, family});
    }
  }
  return cases;
}

// The rounding noise of a 16-bit type in a logit, to first order: every rounding adds an
// independent relative error, uniform with a standard deviation of the unit roundoff (fp16 2^-11, bf16 2^-8) /
// sqrt(3), to the stream that ends in the logit. A layer rounds 18 times (norms 4, q/k norm 2, rotation 3, attention 1,
// matmuls 4, SiLU and product 2, residuals 2), the end 3 times; gptq also rounds each partial sum of 128 rows and each
// addition of one. Later layers amplify some of it and damp the rest: a factor of 2 is allowed for that. A PyTorch-like
// forward in numpy (fp16 after every operation) comes to 1.06 times this estimate.
inline double ExpectedNoise(const std::string& family, const ModelConfig& config, const std::vector<float>& logits) {
  double a_layer = 18;
  if (family == "gptq") {
    const std::int64_t query = config.num_attention_heads * config.head_dim;
    for (const std::int64_t k : {config.hidden_size, query, config.hidden_size, config.intermediate_size}) {
      a_layer += static_cast<double>(2 * ((k + 127) / 128) - 1);
    }
  }
  const double roundings = static_cast<double>(config.num_hidden_layers) * a_layer + 3;
  const std::vector<float> zeros(logits.size());
  return std::sqrt(roundings) * (family == "tinygemm" ? 0x1p-8 : 0x1p-11) / std::sqrt(3.0) *
         RootMeanSquareDifference(logits, zeros);
}

}  // namespace suites

#endif  // TESTS_SUITES_MODEL_CHECKPOINTS_H_
