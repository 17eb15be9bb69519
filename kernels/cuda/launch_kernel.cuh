// A launch that tells its own error from what others left behind.
#ifndef KERNELS_CUDA_LAUNCH_KERNEL_CUH_
#define KERNELS_CUDA_LAUNCH_KERNEL_CUH_

#include <cuda_runtime.h>

#include <cstddef>

#include "kernels/cuda/launch_check.h"

namespace kernels::cuda {

// kKernel<<<grid, block, shared, stream>>>(arguments...). Throws std::runtime_error.
template <auto kKernel, class... Arguments>
void LaunchKernel(const char* name, dim3 grid, unsigned block, std::size_t shared, cudaStream_t stream,
                  Arguments... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(block);
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  CheckLaunch(name, cudaLaunchKernelEx(&config, kKernel, arguments...));
}

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_LAUNCH_KERNEL_CUH_
