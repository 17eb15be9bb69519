// What the kernels of decode attention share: copies in the background, and how
// the partial results of a context's chunks meet.
#ifndef SUITES_MODEL_CUDA_ATTENTION_COMMON_CUH_
#define SUITES_MODEL_CUDA_ATTENTION_COMMON_CUH_

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "suites/model/cuda/attention_plan.h"
#include "suites/model/cuda/launch.h"
#include "suites/model/cuda/numeric.cuh"

namespace suites::internal {

constexpr float kLog2E = 1.44269504f;

// 16 bytes to shared memory in the background, past the L1 cache; zero where
// `valid` is false, and then nothing is read.
__device__ inline void CopyAsync(void* to, const void* from, bool valid) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kLeft>
__device__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

// Of one partial result in the workspace: sums, then maxima of the scores in
// powers of two, then totals.
SUITES_HOST_DEVICE constexpr int PartialFloats(int heads_at_once, int head_dim) {
  return heads_at_once * head_dim + 2 * heads_at_once;
}

// What a sum in terms of `maximum` is multiplied with, to be in terms of a larger one.
__device__ inline float Factor(float maximum, float larger) {
  return maximum == -INFINITY ? 0.0f : exp2f(maximum - larger);
}

// Whether this block is the last of `count` to have written its partial result;
// it then sees all of them, and the counter is zero again.
__device__ inline bool IsLastToArrive(std::uint32_t* arrived, int count) {
  __shared__ bool is_last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    is_last = atomicAdd(arrived, 1u) == static_cast<unsigned>(count) - 1;
    if (is_last) *arrived = 0;
  }
  __syncthreads();
  if (is_last) __threadfence();
  return is_last;
}

// Puts the partial results of `count` parts together, in ascending order.
// shared: [2 * count * heads_at_once].
template <class T, int D, int kThreads>
__device__ void CombineParts(const float* partials, int count, int heads_at_once, int heads, int head_dim,
                             float* shared, T* out) {
  const int stride = PartialFloats(heads_at_once, D);
  // Each part's factor, and its total times that.
  float* factors = shared;
  float* totals = shared + count * heads_at_once;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  for (int g = warp; g < heads; g += kThreads / 32) {
    const float* maxima = partials + heads_at_once * D + g;
    float largest = -INFINITY;
    for (int c = lane; c < count; c += 32) largest = fmaxf(largest, __ldcg(maxima + c * stride));
    for (int mask = 16; mask > 0; mask /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, mask));
    for (int c = lane; c < count; c += 32) {
      const float factor = Factor(__ldcg(maxima + c * stride), largest);
      factors[c * heads_at_once + g] = factor;
      totals[c * heads_at_once + g] = factor * __ldcg(maxima + c * stride + heads_at_once);
    }
  }
  __syncthreads();
  for (int e = threadIdx.x; e < heads * D; e += kThreads) {
    const int g = e / D;
    const int d = e % D;
    float sum = 0;
    float total = 0;
    constexpr int kAtOnce = 8;
    for (int first = 0; first < count; first += kAtOnce) {
      float parts[kAtOnce];
#pragma unroll
      for (int c = 0; c < kAtOnce; ++c) {
        parts[c] = first + c < count ? __ldcg(partials + (first + c) * stride + e) : 0.0f;
      }
#pragma unroll
      for (int c = 0; c < kAtOnce; ++c) {
        if (first + c >= count) break;
        sum = fmaf(factors[(first + c) * heads_at_once + g], parts[c], sum);
        total += totals[(first + c) * heads_at_once + g];
      }
    }
    if (d < head_dim) out[g * head_dim + d] = Narrow<T>(sum / total);
  }
}

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_ATTENTION_COMMON_CUH_
