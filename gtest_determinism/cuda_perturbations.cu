#include "gtest_determinism/internal/cuda_kernels.h"
#include "gtest_determinism/internal/cuda_launch.cuh"

namespace gtest_determinism::internal {
namespace {

constexpr int kThreads = 1024;
// With these in registers and 1024 threads a block has all registers of a
// multiprocessor, so that no other block fits beside it.
constexpr int kHeld = 48;

__device__ std::uint64_t Nanoseconds() {
  std::uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

__device__ std::uint32_t Mixed(std::uint64_t seed, unsigned block, unsigned turn) {
  std::uint64_t z = seed + 0x9e3779b97f4a7c15u * (block * 4096ull + turn + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return static_cast<std::uint32_t>(z ^ (z >> 31));
}

// Turns of some 10 us, until *stop is not 0 or the time is over.
__global__ __launch_bounds__(kThreads, 1) void compete(const volatile unsigned* stop, std::uint64_t nanoseconds,
                                                       std::uint32_t* buffer, unsigned mask, std::uint64_t seed) {
  __shared__ bool over;
  const std::uint64_t begin = Nanoseconds();
  std::uint32_t held[kHeld];
#pragma unroll
  for (int i = 0; i < kHeld; ++i) held[i] = Mixed(seed, blockIdx.x, threadIdx.x * kHeld + i);
  for (unsigned turn = 0;; ++turn) {
    const std::uint32_t what = Mixed(seed, blockIdx.x, turn);
    const unsigned at = what * 1024u + threadIdx.x;
    switch (what % 4) {
      case 0:  // reads
#pragma unroll
        for (int i = 0; i < kHeld; ++i) held[i] ^= __ldcg(buffer + ((at + i * 65536u) & mask));
        break;
      case 1:  // writes; what they are is nobody's concern
#pragma unroll
        for (int i = 0; i < kHeld; ++i) __stcg(buffer + ((at + i * 65536u) & mask), held[i]);
        break;
      case 2:
        for (int round = 0; round < 8; ++round) {
#pragma unroll
          for (int i = 0; i < kHeld; ++i) held[i] = held[i] * 1664525u + held[(i + 1) % kHeld];
        }
        break;
      default:
        __nanosleep(2000 + what % 8192);
    }
    __syncthreads();
    if (threadIdx.x == 0) over = *stop != 0 || Nanoseconds() - begin > nanoseconds;
    __syncthreads();
    if (over) break;
  }
  std::uint32_t sum = 0;
#pragma unroll
  for (int i = 0; i < kHeld; ++i) sum += held[i] * (2 * i + 1);
  if (sum == 0x9e3779b9u) buffer[threadIdx.x] = sum;  // so that they are needed to the end
}

__global__ void hold_stream(std::uint64_t nanoseconds) {
  const std::uint64_t begin = Nanoseconds();
  while (Nanoseconds() - begin < nanoseconds) __nanosleep(500);
}

}  // namespace

void LaunchCompete(int blocks, const unsigned* stop, std::uint64_t nanoseconds, std::uint32_t* buffer,
                   std::size_t words, std::uint64_t seed, cudaStream_t stream) {
  LaunchKernel("compete", compete, static_cast<unsigned>(blocks), kThreads, stream, stop, nanoseconds, buffer,
               static_cast<unsigned>(words - 1), seed);
}

void LaunchHoldStream(std::uint64_t nanoseconds, cudaStream_t stream) {
  LaunchKernel("hold_stream", hold_stream, 1, 1, stream, nanoseconds);
}

}  // namespace gtest_determinism::internal
