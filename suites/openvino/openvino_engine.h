// Qwen3 as OpenVINO IR in its own runtime, stateful.
#ifndef SUITES_OPENVINO_OPENVINO_ENGINE_H_
#define SUITES_OPENVINO_OPENVINO_ENGINE_H_

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "reporters/record.h"
#include "suites/model/generation.h"

namespace suites {

struct OpenVinoOptions {
  // True: one stream, fixed threads, INFERENCE_PRECISION_HINT f32,
  // KV_CACHE_PRECISION f32, DYNAMIC_QUANTIZATION_GROUP_SIZE 0.
  bool deterministic = false;
  bool exact_f32 = false;  // the same precisions, for --compute fp32
  int threads = 0;         // 0: the runtime's own choice
  bool profile = false;    // compile with profiling, so that Profile() has something to say
};

class OpenVinoEngine : public InferenceEngine {
 public:
  // `folder` holds openvino_model.xml and .bin. Throws CheckpointError.
  static std::unique_ptr<OpenVinoEngine> Load(const std::filesystem::path& folder, const OpenVinoOptions& options);
  // Operators executed since the last call, from get_profiling_info(); device "cpu".
  virtual reporters::KernelProfile TakeProfile() = 0;
  // The settings that the compiled model reports, by name, as text.
  virtual std::vector<std::pair<std::string, std::string>> Settings() const = 0;
  static std::string RuntimeVersion();
};

}  // namespace suites

#endif  // SUITES_OPENVINO_OPENVINO_ENGINE_H_
