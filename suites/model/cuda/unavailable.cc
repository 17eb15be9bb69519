// Where nvcc was not found.
#include <stdexcept>

#include "kernels/torch_cuda.h"
#include "suites/model/engine_common.h"

namespace suites::internal {

std::unique_ptr<Qwen3Engine> MakeCudaEngine(const Checkpoint&, const Qwen3Options& options) {
  kernels::CudaDeviceIndex(options.kernel.device);  // throws: it says why there is no device
  throw std::invalid_argument("device \"" + options.kernel.device + "\": this build has no device code");
}

}  // namespace suites::internal
