#include "suites/op_test/perturbation_names.h"

#include <stdexcept>

#include "gtest_determinism/perturbations.h"
#include "gtest_determinism/torch.h"
#include "kernels/torch_cuda.h"

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
#include <c10/cuda/CUDAStream.h>

#include "gtest_determinism/cuda_perturbations.h"
#endif

namespace suites::op_test {
namespace {

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
std::shared_ptr<gtest_determinism::Perturbation> MakeCudaPerturbation(const std::string& name, int device) {
  using namespace gtest_determinism;
  if (name == "sm_contention") {
    SmContentionOptions options;
    options.device = device;
    return SmContention(options);
  }
  if (name == "cache_state") return CacheState(device);
  if (name == "workspace_poison") return TorchWorkspacePoison(device);
  return LaunchDelay({c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream()},
                     std::chrono::microseconds(200), device);
}
#else
std::shared_ptr<gtest_determinism::Perturbation> MakeCudaPerturbation(const std::string& name, int) {
  throw std::invalid_argument("perturbation " + name + ": this build has no device code");
}
#endif

}  // namespace

std::vector<std::string_view> PerturbationNames() {
  return {"allocator_poison", "competing_load", "sm_contention", "cache_state", "workspace_poison", "launch_delay"};
}

std::shared_ptr<gtest_determinism::Perturbation> MakePerturbation(const std::string& name, const std::string& device) {
  if (name == "allocator_poison") return gtest_determinism::AllocatorPoison();
  if (name == "competing_load") return gtest_determinism::CompetingLoad();
  if (device == "cpu")
    throw std::invalid_argument("perturbation " + name + " is one of a GPU, but the test runs on the CPU");
  return MakeCudaPerturbation(name, kernels::CudaDeviceIndex(device));
}

}  // namespace suites::op_test
