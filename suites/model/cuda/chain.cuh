// Launches that may begin before the launch ahead of them on the stream has
// ended (programmatic dependent launch), so that a kernel's start and what it
// reads of weights lie in the shadow of the one before. What keeps that right
// stands in docs/gpu.md: every kernel waits before it writes anything or reads
// what a kernel ahead of it has written. On a device before sm_90 the launches
// follow one another and the calls in a kernel do nothing.
#ifndef SUITES_MODEL_CUDA_CHAIN_CUH_
#define SUITES_MODEL_CUDA_CHAIN_CUH_

#include <cuda_runtime.h>

#include <atomic>
#include <cstddef>
#include <mutex>
#include <string>

#include "kernels/cuda/launch_check.h"

namespace suites::internal {

// Until all launches ahead have ended and what they wrote is seen. Every block
// calls it, so that the end of a launch is the end of all launches ahead of it.
__device__ inline void WaitForLaunchesAhead() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The next launch may begin once all blocks have called this or ended.
__device__ inline void LetNextLaunchBegin() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Whether the current device can overlap launches, and has clusters of blocks.
inline bool CanOverlapLaunches() {
  constexpr int kDevices = 64;
  static std::atomic<int> known[kDevices] = {};  // 1: no, 2: yes
  int device = 0;
  cudaGetDevice(&device);
  std::atomic<int>& state = known[device % kDevices];
  int overlaps = state.load(std::memory_order_relaxed);
  if (overlaps == 0) {
    int major = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    overlaps = major >= 9 ? 2 : 1;
    state.store(overlaps, std::memory_order_relaxed);
  }
  return overlaps == 2;
}

// More than 48 KiB of shared memory must be asked for, once for each kernel and device.
// How a multiprocessor's memory is divided is left to the driver: with the largest
// share for all kernels a step takes longer (docs/measurements_gpu.md).
// Throws std::runtime_error.
template <auto kKernel>
void AllowShared(const char* name, std::size_t shared) {
  constexpr int kDevices = 64;
  if (shared <= std::size_t{48} << 10) return;
  static std::atomic<std::size_t> allowed_on[kDevices] = {};
  static std::mutex mutex;
  int device = 0;
  cudaGetDevice(&device);
  std::atomic<std::size_t>& allowed = allowed_on[device % kDevices];
  if (shared <= allowed.load()) return;
  const std::lock_guard lock(mutex);  // what a thread was granted is not taken back by another
  if (shared <= allowed.load()) return;
  const cudaError_t error =
      cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (error != cudaSuccess) {
    const std::string what = name + (" (" + std::to_string(shared)) + " bytes of shared memory a block)";
    kernels::cuda::CheckLaunch(what.c_str(), error);
  }
  allowed.store(shared);
}

// kKernel<<<grid, block, shared, stream>>>(args...), overlapped with the launch
// ahead where the device can; in clusters of so many blocks where `cluster` is not
// zero. Throws std::runtime_error with `name` where the launch is refused.
template <auto kKernel, class... Args>
void LaunchInChain(const char* name, dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream, unsigned cluster,
                   Args... args) {
  AllowShared<kKernel>(name, shared);
  cudaLaunchAttribute attributes[2];
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  config.attrs = attributes;
  if (CanOverlapLaunches()) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster != 0) {
    attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
    attributes[config.numAttrs++].val.clusterDim = {cluster, 1, 1};
  }
  kernels::cuda::CheckLaunch(name, cudaLaunchKernelEx(&config, kKernel, args...));
}

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_CHAIN_CUH_
