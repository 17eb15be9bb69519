// What the files of gtest_determinism::cuda share. No kernel in it.
#ifndef GTEST_DETERMINISM_INTERNAL_CUDA_CHECK_H_
#define GTEST_DETERMINISM_INTERNAL_CUDA_CHECK_H_

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace gtest_determinism::internal {

// The errors of work that a device has begun: any call may return them for work ahead
// of it, a launch never for itself. They stay; all that is asked of the device later
// returns them. kernels/cuda/launch_check.h has the same list.
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

// `error` is what the call returned that does `what`. Throws std::runtime_error, one line,
// unless that is cudaSuccess. What the call left for cudaGetLastError() is taken away
// where it can be; what lay there before a call that succeeds is not looked at.
inline void CheckCuda(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  throw std::runtime_error(what + (IsOfEarlierWork(error) ? ": earlier work on the device failed: " : ": ") +
                           cudaGetErrorString(error));
}

// The same of a launch, in words of its own.
inline void CheckLaunch(cudaError_t error, const char* kernel) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  const std::string text = cudaGetErrorString(error);
  throw std::runtime_error(IsOfEarlierWork(error)
                               ? std::string(kernel) + " was not launched, earlier work on the device failed: " + text
                               : std::string("CUDA refused to launch ") + kernel + ": " + text);
}

// The device of the thread is `device` while it lives.
class DeviceScope {
 public:
  explicit DeviceScope(int device) {
    CheckCuda(cudaGetDevice(&before_), "cudaGetDevice");
    changed_ = before_ != device;
    if (changed_) CheckCuda(cudaSetDevice(device), "cudaSetDevice");
  }
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;
  ~DeviceScope() {
    if (changed_) cudaSetDevice(before_);
  }

 private:
  int before_ = 0;
  bool changed_ = false;
};

// A thread's calls are allowed while it lives though some stream is being
// captured into a graph; they touch none that is.
class CaptureScope {
 public:
  CaptureScope() { CheckCuda(cudaThreadExchangeStreamCaptureMode(&mode_), "cudaThreadExchangeStreamCaptureMode"); }
  CaptureScope(const CaptureScope&) = delete;
  CaptureScope& operator=(const CaptureScope&) = delete;
  ~CaptureScope() { cudaThreadExchangeStreamCaptureMode(&mode_); }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

// Of the current device; asked for once.
int MultiprocessorCount();

// Kernels that compete with a run (cuda_perturbations.h) end before a device is
// waited for, or the wait would last as long as they do. `stop` is called with
// the device, from CudaMemory()'s Synchronize() only.
void SetCompetitionStopper(void (*stop)(int device));

}  // namespace gtest_determinism::internal

#endif  // GTEST_DETERMINISM_INTERNAL_CUDA_CHECK_H_
