#include <cuda_fp16.h>

#include "cuda_test_kernels.h"

namespace gtest_determinism {
namespace {

__device__ void Wait(std::uint64_t nanoseconds) {
  std::uint64_t begin, now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
  do {
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  } while (now - begin < nanoseconds);
}

template <class T>
__global__ void iota(T* y, std::int64_t n, float first) {
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (i < n) y[i] = static_cast<T>(first + static_cast<float>(i));
}

__global__ void slow_increment(const float* x, float* y, std::int64_t n, std::uint64_t nanoseconds) {
  Wait(nanoseconds);
  const std::int64_t i = blockIdx.x * static_cast<std::int64_t>(blockDim.x) + threadIdx.x;
  if (i < n) y[i] = x[i] + 1;
}

__global__ void mark_multiprocessors(unsigned char* used, std::uint64_t nanoseconds) {
  unsigned id;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(id));
  if (threadIdx.x == 0) used[id] = 1;
  Wait(nanoseconds);
}

unsigned Blocks(std::int64_t n) { return static_cast<unsigned>((n + 255) / 256); }

}  // namespace

void LaunchIota(float* y, std::int64_t n, float first, cudaStream_t stream) {
  iota<<<Blocks(n), 256, 0, stream>>>(y, n, first);
}

void LaunchIotaHalf(void* y, std::int64_t n, float first, cudaStream_t stream) {
  iota<<<Blocks(n), 256, 0, stream>>>(static_cast<__half*>(y), n, first);
}

void LaunchSlowIncrement(const float* x, float* y, std::int64_t n, std::uint64_t nanoseconds, cudaStream_t stream) {
  slow_increment<<<Blocks(n), 256, 0, stream>>>(x, y, n, nanoseconds);
}

void LaunchMarkMultiprocessors(unsigned char* used, std::uint64_t nanoseconds, cudaStream_t stream) {
  int device = 0, count = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  mark_multiprocessors<<<static_cast<unsigned>(count), 1024, 0, stream>>>(used, nanoseconds);
}

}  // namespace gtest_determinism
