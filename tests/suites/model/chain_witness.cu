#include "suites/model/cuda/chain.cuh"
#include "suites/model/cuda/numeric.cuh"
#include "tests/suites/model/chain_witness.h"

namespace suites::internal {
namespace {

constexpr int kThreads = 1024;
constexpr std::uint64_t kHarmNs = 20000;  // many times what the launches here take

__device__ std::uint64_t Now() {
  std::uint64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
  return now;
}

__device__ void CopyWords(void* to, const void* from, std::size_t bytes) {
  for (std::size_t i = threadIdx.x; i < bytes / 16; i += kThreads) {
    static_cast<uint4*>(to)[i] = __ldcg(static_cast<const uint4*>(from) + i);
  }
}

__global__ void __launch_bounds__(kThreads) HeldKernel(HeldLaunch held) {
  LetNextLaunchBegin();
  WaitForLaunchesAhead();
  if (threadIdx.x == 0) {
    const auto* witness = static_cast<volatile std::uint32_t*>(held.witness);
    const std::uint64_t begin = Now();
    while (*witness == 0 && Now() - begin < held.patience_ns) __nanosleep(200);
    *held.witness_was_there = *witness;
    const std::uint64_t from_here = Now();
    while (held.patience_ns > 0 && Now() - from_here < kHarmNs) __nanosleep(200);
  }
  __syncthreads();
  CopyWords(held.seen_in, held.in, held.in_bytes);
  CopyWords(held.out, held.source, held.out_bytes);
}

__global__ void WitnessKernel(std::uint32_t* witness) {
  *static_cast<volatile std::uint32_t*>(witness) = 1;
  LetNextLaunchBegin();
  WaitForLaunchesAhead();
}

}  // namespace

void LaunchHeld(const HeldLaunch& held, cudaStream_t stream) {
  LaunchInChain<HeldKernel>("held launch", dim3(1), dim3(kThreads), 0, stream, 0, held);
}

void LaunchWitness(std::uint32_t* witness, cudaStream_t stream) {
  LaunchInChain<WitnessKernel>("witness", dim3(1), dim3(32), 0, stream, 0, witness);
}

}  // namespace suites::internal
