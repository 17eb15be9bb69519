// Stands in for the writer of OpenVINO IR in a build without OpenVINO.
#include "suites/checkpoint/safetensors.h"
#include "suites/quantize/openvino_ir.h"

namespace suites::quantize {

void WriteOpenVinoIr(const WeightSource&, const std::filesystem::path&, const QuantizeOptions&) {
  throw CheckpointError(
      "--format openvino: this build has no OpenVINO; install the wheel openvino==2026.4.1 and build again");
}

}  // namespace suites::quantize
