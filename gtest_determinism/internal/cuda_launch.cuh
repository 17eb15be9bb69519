// A launch that tells its own error from what others left behind.
#ifndef GTEST_DETERMINISM_INTERNAL_CUDA_LAUNCH_CUH_
#define GTEST_DETERMINISM_INTERNAL_CUDA_LAUNCH_CUH_

#include <cuda_runtime.h>

#include "gtest_determinism/internal/cuda_check.h"

namespace gtest_determinism::internal {

// kernel<<<grid, block, 0, stream>>>(arguments...), but what that returns is looked at and
// not cudaGetLastError(), which may be of a launch of the user's that he did not check. It
// stays there for him. Throws std::runtime_error, one line with `name`.
template <class... Parameters, class... Arguments>
void LaunchKernel(const char* name, void (*kernel)(Parameters...), dim3 grid, unsigned block, cudaStream_t stream,
                  const Arguments&... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(block);
  config.stream = stream;
  CheckLaunch(cudaLaunchKernelEx(&config, kernel, arguments...), name);
}

}  // namespace gtest_determinism::internal

#endif  // GTEST_DETERMINISM_INTERNAL_CUDA_LAUNCH_CUH_
