// Qwen3 as OpenVINO IR in its own runtime, stateful.
#ifndef SUITES_OPENVINO_OPENVINO_ENGINE_H_
#define SUITES_OPENVINO_OPENVINO_ENGINE_H_

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "reporters/record.h"
#include "suites/model/generation.h"

namespace suites {

struct OpenVinoOptions {
  // True: one stream, as many threads as this process may use cores (or
  // `threads`), INFERENCE_PRECISION_HINT f32, KV_CACHE_PRECISION f32,
  // DYNAMIC_QUANTIZATION_GROUP_SIZE 0. False: the runtime's own choice, which
  // on a CPU with AVX-512 BF16 is bf16, a KV cache of u8 and activations
  // quantized in groups of 32.
  bool deterministic = false;
  bool exact_f32 = false;  // the same precisions, for --compute fp32
  int threads = 0;         // INFERENCE_NUM_THREADS; 0: the runtime's own choice
  // NUM_STREAMS, INFERENCE_PRECISION_HINT ("f32", "bf16", "f16") and KV_CACHE_PRECISION (these,
  // "u8", "u4"), where the two flags above leave them open; 0 and "": the runtime's own choice.
  int streams = 0;
  std::string inference_precision = {}, kv_cache_precision = {};
  bool profile = false;  // compile with PERF_COUNT, so that TakeProfile() has something to say
};

// The IR as optimum-intel exports it: inputs input_ids and attention_mask
// [1, S] i64, position_ids [1, S] i64, beam_idx [1] i32 (the last two where the
// model has them), output logits [1, S, vocab], the KV cache in the model's
// states.
class OpenVinoEngine : public InferenceEngine {
 public:
  // `folder` holds openvino_model.xml, openvino_model.bin and config.json.
  // Throws CheckpointError: a file that is missing or that the runtime does not
  // read, a model that is not stateful or lacks an input or output named above,
  // a build without OpenVINO.
  static std::unique_ptr<OpenVinoEngine> Load(const std::filesystem::path& folder, const OpenVinoOptions& options);
  // Operators executed since the last call, from get_profiling_info(), summed by
  // node type and implementation; device "cpu". The expected kernel is
  // FullyConnectedCompressed: the plugin's name for a matmul that reads its
  // weights compressed.
  virtual reporters::KernelProfile TakeProfile() = 0;
  // The settings that the compiled model reports, by name, as text.
  virtual std::vector<std::pair<std::string, std::string>> Settings() const = 0;
  // "2026.4.1-...", or "not built in".
  static std::string RuntimeVersion();
};

}  // namespace suites

#endif  // SUITES_OPENVINO_OPENVINO_ENGINE_H_
