// The GPU that a variant runs on, as the record and the checks before loading
// need it.
#ifndef SUITES_INT4_CUDA_DEVICE_H_
#define SUITES_INT4_CUDA_DEVICE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace suites {

struct CudaMemoryInfo {
  std::uint64_t free_bytes = 0, total_bytes = 0;
};
// Throws std::runtime_error where the runtime cannot say.
CudaMemoryInfo MemoryOfCudaDevice(int device);

// "cpu", or "cuda:N", for --device DEVICE and a variant that runs in libtorch.
// "auto" is the first GPU where there is one. Throws VariantError: not of that
// form, no such device (with the reason).
std::string ResolveDevice(const std::string& device);

// "cuda" of "cuda:1": the word of the table of variants.
std::string KindOfDevice(const std::string& device);

// What a result may depend on: "gpu", "gpu_uuid", "gpu_memory", "gpu_sms",
// "gpu_l2_bytes", "gpu_clock_mhz", "cuda_driver", "cuda_runtime", "nvidia_driver".
// Without a device one entry, "gpu", that says why. Never throws.
std::vector<std::pair<std::string, std::string>> CudaEnvironment(const std::string& device);

// Throws VariantError, one line with both figures, where `needed` bytes are more
// than `utilization` of what is free on the device.
void CheckCudaMemory(std::uint64_t needed, double utilization, const CudaMemoryInfo& memory, const std::string& device);

}  // namespace suites

#endif  // SUITES_INT4_CUDA_DEVICE_H_
