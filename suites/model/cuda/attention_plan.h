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

// A short context takes smaller chunks, so that there is work for all
// multiprocessors; a float32 chunk must fit into shared memory.
inline constexpr int kSmallChunk = 64;
inline constexpr int kLargeChunk = 128;
inline constexpr int kLongContext = 2048;

SUITES_HOST_DEVICE constexpr AttentionPlan PlanAttention(int length, int element_bytes) {
  AttentionPlan plan;
  plan.chunk = element_bytes == 2 && length > kLongContext ? kLargeChunk : kSmallChunk;
  plan.count = (length + plan.chunk - 1) / plan.chunk;
  return plan;
}

// The most chunks, and the largest, of any context of up to `capacity` positions.
constexpr AttentionPlan LargestAttentionPlan(int capacity, int element_bytes) {
  const AttentionPlan whole = PlanAttention(capacity, element_bytes);
  const AttentionPlan small = PlanAttention(capacity < kLongContext ? capacity : kLongContext, element_bytes);
  return {whole.chunk, whole.count > small.count ? whole.count : small.count};
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
