// libtorch's CUDA half, opened when a device is first asked for: a program that
// never asks needs neither a driver nor the libraries behind it.
#ifndef KERNELS_TORCH_CUDA_H_
#define KERNELS_TORCH_CUDA_H_

#include <string>

namespace kernels {

struct CudaStatus {
  int devices = 0;  // usable ones; 0: none, and `reason` says why
  std::string reason;
};

// Counts the devices and, where there is one, opens libtorch_cuda.so, so that
// ATen's operators run on at::kCUDA tensors. The first call decides; the others
// return the same. Never throws. `reason` is one line: this build has no device
// code, there is no driver or no device, a library of libtorch is missing.
const CudaStatus& TorchCuda();

// The index of "cuda" (0) or "cuda:N". Throws std::invalid_argument, one line:
// not of that form, no device (with TorchCuda().reason), or fewer than N + 1.
int CudaDeviceIndex(const std::string& device);

}  // namespace kernels

#endif  // KERNELS_TORCH_CUDA_H_
