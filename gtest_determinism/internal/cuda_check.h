// What the files of gtest_determinism::cuda share. No kernel in it.
#ifndef GTEST_DETERMINISM_INTERNAL_CUDA_CHECK_H_
#define GTEST_DETERMINISM_INTERNAL_CUDA_CHECK_H_

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace gtest_determinism::internal {

// Throws std::runtime_error, one line. The error is cleared where it can be.
inline void CheckCuda(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();
  throw std::runtime_error(what + ": " + cudaGetErrorString(error));
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
