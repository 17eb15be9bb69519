#include "suites/int4/cuda_device.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <stdexcept>

#include "kernels/torch_cuda.h"
#include "suites/int4/variant.h"

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
#include <cuda_runtime_api.h>
#endif

namespace suites {
namespace {

std::string Gigabytes(double bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f GB", bytes / 1e9);
  return text;
}

#if defined(GTEST_DETERMINISM_HAVE_CUDA)

std::string Version(int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); }

// "580.159.04" of "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04 ..."
std::string KernelModuleVersion() {
  std::ifstream file("/proc/driver/nvidia/version");
  for (std::string word; file >> word;) {
    if (word.find('.') != std::string::npos && word.find_first_not_of("0123456789.") == std::string::npos) return word;
  }
  return "unknown";
}

std::string Uuid(const cudaUUID_t& uuid) {
  std::string text = "GPU-";
  for (int i = 0; i < 16; ++i) {
    char byte[4];
    std::snprintf(byte, sizeof byte, "%02x", static_cast<unsigned>(static_cast<unsigned char>(uuid.bytes[i])));
    text += byte;
    if (i == 3 || i == 5 || i == 7 || i == 9) text += '-';
  }
  return text;
}

#endif

}  // namespace

#if defined(GTEST_DETERMINISM_HAVE_CUDA)

CudaMemoryInfo MemoryOfCudaDevice(int device) {
  int current = 0;
  std::size_t free_bytes = 0, total_bytes = 0;
  cudaError_t error = cudaGetDevice(&current);
  if (error == cudaSuccess) error = cudaSetDevice(device);
  if (error == cudaSuccess) error = cudaMemGetInfo(&free_bytes, &total_bytes);
  cudaSetDevice(current);
  if (error != cudaSuccess) {
    throw std::runtime_error("cuda:" + std::to_string(device) +
                             ": its memory cannot be read: " + cudaGetErrorString(error));
  }
  return {free_bytes, total_bytes};
}

std::vector<std::pair<std::string, std::string>> CudaEnvironment(const std::string& device) {
  if (KindOfDevice(device) != "cuda") {
    return {{"gpu", kernels::TorchCuda().devices > 0 ? "not used" : kernels::TorchCuda().reason}};
  }
  std::vector<std::pair<std::string, std::string>> values;
  try {
    const int index = kernels::CudaDeviceIndex(device);
    cudaDeviceProp properties{};
    if (const cudaError_t error = cudaGetDeviceProperties(&properties, index); error != cudaSuccess) {
      return {{"gpu", std::string("unknown: ") + cudaGetErrorString(error)}};
    }
    int clock_khz = 0, driver = 0, runtime = 0;
    cudaDeviceGetAttribute(&clock_khz, cudaDevAttrClockRate, index);
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    values = {{"gpu", properties.name},
              {"gpu_index", std::to_string(index)},
              {"gpu_uuid", Uuid(properties.uuid)},
              {"gpu_compute_capability", std::to_string(properties.major) + "." + std::to_string(properties.minor)},
              {"gpu_memory", Gigabytes(static_cast<double>(properties.totalGlobalMem))},
              {"gpu_sms", std::to_string(properties.multiProcessorCount)},
              {"gpu_l2_bytes", std::to_string(properties.l2CacheSize)},
              {"gpu_clock_mhz", std::to_string(clock_khz / 1000)},
              {"gpu_ecc", properties.ECCEnabled != 0 ? "on" : "off"},
              {"nvidia_driver", KernelModuleVersion()},
              {"cuda_driver", Version(driver)},
              {"cuda_runtime", Version(runtime)}};
  } catch (const std::exception& error) {
    values = {{"gpu", error.what()}};
  }
  return values;
}

#else

CudaMemoryInfo MemoryOfCudaDevice(int /*device*/) { throw std::runtime_error(kernels::TorchCuda().reason); }

std::vector<std::pair<std::string, std::string>> CudaEnvironment(const std::string& /*device*/) {
  return {{"gpu", kernels::TorchCuda().reason}};
}

#endif

std::string KindOfDevice(const std::string& device) { return device.substr(0, device.find(':')); }

std::string ResolveDevice(const std::string& device) {
  if (device == "cpu") return device;
  if (device == "auto") return kernels::TorchCuda().devices > 0 ? "cuda:0" : "cpu";
  try {
    return "cuda:" + std::to_string(kernels::CudaDeviceIndex(device));
  } catch (const std::invalid_argument& error) {
    throw VariantError(std::string("--device: ") + error.what() + "; use --device cpu, or auto");
  }
}

void CheckCudaMemory(std::uint64_t needed, double utilization, const CudaMemoryInfo& memory,
                     const std::string& device) {
  const double allowed = static_cast<double>(memory.free_bytes) * utilization;
  if (static_cast<double>(needed) <= allowed) return;
  char share[32];
  std::snprintf(share, sizeof share, "%.2f", utilization);
  throw VariantError(device + ": the model needs about " + Gigabytes(static_cast<double>(needed)) + ", and " + share +
                     " of the " + Gigabytes(static_cast<double>(memory.free_bytes)) +
                     " that are free may be used; use --max-model-len, free memory, or raise "
                     "--gpu-memory-utilization");
}

}  // namespace suites
