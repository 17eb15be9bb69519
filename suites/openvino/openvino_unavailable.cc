// Stands in for the engine in a build without OpenVINO.
#include "suites/checkpoint/safetensors.h"
#include "suites/openvino/openvino_engine.h"

namespace suites {

std::unique_ptr<OpenVinoEngine> OpenVinoEngine::Load(const std::filesystem::path& folder, const OpenVinoOptions&) {
  throw CheckpointError(folder.string() +
                        ": this build has no OpenVINO; install the wheel openvino==2026.4.1 and build again");
}

std::string OpenVinoEngine::RuntimeVersion() { return "not built in"; }

}  // namespace suites
