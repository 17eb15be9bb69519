// Whose error it is that a launch returns. No kernel in it.
#ifndef KERNELS_CUDA_LAUNCH_CHECK_H_
#define KERNELS_CUDA_LAUNCH_CHECK_H_

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace kernels::cuda {

// The errors of work that a device has begun: a launch returns them for work ahead of
// it, never for itself. They stay; all that is asked of the device later returns them.
// gtest_determinism/internal/cuda_check.h has the same list, since neither folder may
// include the other; launch_check_test holds the two together.
constexpr bool IsOfEarlierWork(cudaError_t error) {
  switch (error) {
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContained:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case cudaErrorTensorMemoryLeak:
    case cudaErrorExternalDevice:
      return true;
    default:
      return false;
  }
}

// `error` is what the launch of `kernel`, or a call that prepares it, returned. Throws
// std::runtime_error, one line, unless that is cudaSuccess. What the call left for
// cudaGetLastError() is taken away, so that nobody takes it for his own. What lay there
// before a launch that succeeds is never taken for this launch's.
inline void CheckLaunch(const char* kernel, cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  const std::string text = cudaGetErrorString(error);
  throw std::runtime_error(IsOfEarlierWork(error)
                               ? std::string(kernel) + " was not launched, earlier work on the device failed: " + text
                               : std::string("CUDA refused to launch ") + kernel + ": " + text);
}

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_LAUNCH_CHECK_H_
