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
#include <stdexcept>
#include <string>

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

// Once for each kernel and device. A multiprocessor can hold two kernels at a time
// only where both want its memory divided alike: all take the largest share of it
// as shared memory. More than 48 KiB of that must be asked for.
// Throws std::runtime_error.
template <auto kKernel>
void PrepareForChain(std::size_t shared) {
  constexpr int kDevices = 64;
  constexpr std::size_t kAlways = std::size_t{48} << 10;
  static std::atomic<std::size_t> allowed_on[kDevices] = {};
  int device = 0;
  cudaGetDevice(&device);
  std::atomic<std::size_t>& allowed = allowed_on[device % kDevices];
  if (const std::size_t now = allowed.load(); now >= kAlways && shared <= now) return;
  cudaError_t error =
      cudaFuncSetAttribute(kKernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
  if (error == cudaSuccess && shared > kAlways) {
    error = cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  }
  if (error != cudaSuccess) {
    throw std::runtime_error(std::to_string(shared) + " bytes of shared memory: " + cudaGetErrorString(error));
  }
  // Each kernel is prepared with one size: threads that meet here store the same.
  allowed.store(shared > kAlways ? shared : kAlways);
}

// kKernel<<<grid, block, shared, stream>>>(args...), overlapped with the launch
// ahead where the device can; in clusters of so many blocks where `cluster` is not
// zero. An error of the launch is left for cudaGetLastError().
template <auto kKernel, class... Args>
void LaunchInChain(dim3 grid, dim3 block, std::size_t shared, cudaStream_t stream, unsigned cluster, Args... args) {
  PrepareForChain<kKernel>(shared);
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
  cudaLaunchKernelEx(&config, kKernel, args...);
}

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_CHAIN_CUH_
