#include "kernels/torch_cuda.h"

#include <charconv>
#include <exception>
#include <filesystem>
#include <stdexcept>

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
#include <ATen/Context.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#endif

namespace kernels {
namespace {

#if defined(GTEST_DETERMINISM_HAVE_CUDA)

// Beside the libtorch that this program runs with, wherever that is.
std::string LibraryPath() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&at::globalContext), &info) != 0 && info.dli_fname != nullptr) {
    return (std::filesystem::path(info.dli_fname).parent_path() / "libtorch_cuda.so").string();
  }
  return "libtorch_cuda.so";
}

CudaStatus Open() {
  CudaStatus status;
  if (const cudaError_t error = cudaGetDeviceCount(&status.devices); error != cudaSuccess) {
    int driver = 0;
    cudaDriverGetVersion(&driver);
    status.devices = 0;
    // Without a driver the runtime speaks of an old one.
    status.reason =
        std::string("no CUDA device: ") + (driver == 0 ? "there is no NVIDIA driver" : cudaGetErrorString(error));
    return status;
  }
  if (status.devices == 0) {
    status.reason = "no CUDA device: the driver reports none";
    return status;
  }
  // RTLD_GLOBAL: op libraries that are opened later look for its symbols.
  if (dlopen(LibraryPath().c_str(), RTLD_LAZY | RTLD_GLOBAL) == nullptr) {
    const char* error = dlerror();
    status.devices = 0;
    status.reason = std::string("libtorch's CUDA half cannot be opened: ") +
                    (error != nullptr ? error : "no reason given") +
                    "; install the CUDA libraries that the torch wheel names (requirements-cuda.txt)";
    return status;
  }
  try {
    at::globalContext().lazyInitDevice(at::kCUDA);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    status.devices = 0;
    status.reason = "libtorch cannot start CUDA: " + text.substr(0, text.find('\n'));
  }
  return status;
}

#else

CudaStatus Open() { return {0, "this build has no device code: nvcc was not found when it was configured"}; }

#endif

}  // namespace

const CudaStatus& TorchCuda() {
  static const CudaStatus status = Open();
  return status;
}

int CudaDeviceIndex(const std::string& device) {
  int index = 0;
  const std::string prefix = "cuda";
  bool valid = device.starts_with(prefix);
  if (valid && device.size() > prefix.size()) {
    const char* const first = device.data() + prefix.size() + 1;
    const char* const last = device.data() + device.size();
    const auto [end, error] = std::from_chars(first, last, index);
    valid = device[prefix.size()] == ':' && first != last && error == std::errc() && end == last && index >= 0;
  }
  if (!valid) throw std::invalid_argument("device \"" + device + "\" is not of the form cuda or cuda:N");
  const CudaStatus& status = TorchCuda();
  if (status.devices == 0) throw std::invalid_argument("device \"" + device + "\": " + status.reason);
  if (index >= status.devices) {
    throw std::invalid_argument("device \"" + device + "\": there are " + std::to_string(status.devices) +
                                ", counted from 0: cuda:0 is the first");
  }
  return index;
}

}  // namespace kernels
