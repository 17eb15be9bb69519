// How decode attention divides a context: a function of the context's length
// alone, so that the order of every sum is too.
#ifndef SUITES_MODEL_CUDA_ATTENTION_PLAN_H_
#define SUITES_MODEL_CUDA_ATTENTION_PLAN_H_

#include <initializer_list>

#if defined(__CUDACC__)
#define SUITES_HOST_DEVICE __host__ __device__
#else
#define SUITES_HOST_DEVICE
#endif

namespace suites::internal {

struct AttentionPlan {
  int chunk = 0;  // positions of a chunk; the last one may hold fewer
  int count = 0;  // chunks
};

// Tensor cores take the two narrow types, in heads that fill their products.
constexpr bool AttendsOnTensorCores(int element_bytes, int padded_head_dim) {
  return element_bytes == 2 && padded_head_dim >= 64;
}

#ifndef MMA_WARPS
#define MMA_WARPS 4
#define MMA_STAGES 2
#define MMA_MOST 33
#endif
// On tensor cores: as many chunks as a GPU takes at once with eight key-value
// heads, each a multiple of what the warps of a block take at a time.
inline constexpr int kMmaWarps = MMA_WARPS;
inline constexpr int kMmaStep = 16 * kMmaWarps;
inline constexpr int kMostMmaChunks = MMA_MOST;
// Else a chunk lies in shared memory as a whole.
inline constexpr int kSimpleChunk = 64;

SUITES_HOST_DEVICE constexpr AttentionPlan PlanAttention(int length, bool on_tensor_cores) {
  AttentionPlan plan;
  plan.chunk = kSimpleChunk;
  if (on_tensor_cores) {
    const int steps = (length + kMmaStep - 1) / kMmaStep;
    plan.chunk = (steps + kMostMmaChunks - 1) / kMostMmaChunks * kMmaStep;
  }
  plan.count = (length + plan.chunk - 1) / plan.chunk;
  return plan;
}

// The most chunks of any context of up to `capacity` positions.
constexpr int MostChunks(int capacity, bool on_tensor_cores) {
  if (!on_tensor_cores) return PlanAttention(capacity, false).count;
  const int steps = (capacity + kMmaStep - 1) / kMmaStep;
  return steps < kMostMmaChunks ? steps : kMostMmaChunks;
}

// The cache holds heads padded to a size that the kernel knows; 0: none fits.
constexpr int PaddedHeadDim(int head_dim) {
  for (const int size : {32, 64, 128}) {
    if (head_dim <= size) return size;
  }
  return 0;
}

// Query heads of one key-value head that a block computes together.
constexpr int HeadsAtOnce(int group) {
  int heads = 1;
  while (heads < group && heads < 8) heads *= 2;
  return heads;
}

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_ATTENTION_PLAN_H_
