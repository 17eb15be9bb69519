// From logits to tokens, logprobs and the top ten, without the host.
#include "kernels/cuda/launch_kernel.cuh"
#include "suites/model/cuda/chain.cuh"
#include "suites/model/cuda/launch.h"
#include "suites/model/cuda/numeric.cuh"

namespace suites::internal {
namespace {

using Rank = unsigned long long;

constexpr int kSampleThreads = 128;
constexpr int kSampleWidth = 8;  // of one thread
constexpr int kSampleElements = kSampleThreads * kSampleWidth;
constexpr int kScoreThreads = 1024;

// Greater is better: by logit, then by lower id; a NaN is below every number,
// and nothing is zero.
__device__ Rank RankOf(float logit, std::int64_t id) {
  std::uint32_t ordered = 0;
  if (!isnan(logit)) {
    const std::uint32_t bits = __float_as_uint(logit + 0.0f);  // -0 ranks with 0
    ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  }
  return static_cast<Rank>(ordered) << 32 | (0xffffffffu - static_cast<std::uint32_t>(id));
}
__device__ std::int64_t IdOf(Rank rank) { return 0xffffffffu - static_cast<std::uint32_t>(rank); }

__device__ Rank Greater(Rank a, Rank b) { return a > b ? a : b; }

// The greatest over the block, the same in every thread. Begins with a barrier,
// so that it can be called again at once.
__device__ Rank BlockGreatest(Rank rank) {
  __shared__ Rank warps[32];
  for (int mask = 16; mask > 0; mask /= 2) rank = Greater(rank, __shfl_xor_sync(~0u, rank, mask));
  __syncthreads();
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = rank;
  __syncthreads();
  Rank greatest = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) greatest = Greater(greatest, warps[warp]);
  return greatest;
}

template <class T>
__global__ void SampleKernel(SampleArgs args) {
  __shared__ bool is_last;
  LetNextLaunchBegin();
  WaitForLaunchesAhead();
  const std::int32_t step = args.state->step;
  const T* logits = static_cast<const T*>(args.logits);
  T* kept = static_cast<T*>(args.state->rows) + step * args.vocab;
  const std::int64_t first =
      static_cast<std::int64_t>(blockIdx.x) * kSampleElements + static_cast<std::int64_t>(threadIdx.x) * kSampleWidth;
  const bool aligned = (reinterpret_cast<std::uintptr_t>(logits) | reinterpret_cast<std::uintptr_t>(kept)) % 16 == 0;
  Rank best = 0;
  if (aligned && first + kSampleWidth <= args.vocab) {
    const auto pack = *reinterpret_cast<const Pack8<T>*>(logits + first);
    *reinterpret_cast<Pack8<T>*>(kept + first) = pack;
#pragma unroll
    for (int e = 0; e < kSampleWidth; ++e) best = Greater(best, RankOf(Widen(pack.value[e]), first + e));
  } else {
    for (std::int64_t id = first; id < first + kSampleWidth && id < args.vocab; ++id) {
      kept[id] = logits[id];
      best = Greater(best, RankOf(Widen(logits[id]), id));
    }
  }
  best = BlockGreatest(best);
  if (threadIdx.x == 0) {
    args.partial[blockIdx.x] = best;
    __threadfence();
    is_last = atomicAdd(args.arrived, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!is_last) return;
  __threadfence();
  best = 0;
  for (unsigned block = threadIdx.x; block < gridDim.x; block += kSampleThreads) {
    best = Greater(best, __ldcg(reinterpret_cast<const Rank*>(args.partial) + block));
  }
  best = BlockGreatest(best);
  if (threadIdx.x != 0) return;
  *args.arrived = 0;
  const std::int64_t forced = args.forced[step];
  const std::int64_t token = forced >= 0 ? forced : IdOf(best);
  args.tokens[step] = token;
  *args.token = token;
  // Every block has read the state by now.
  args.state->step = step + 1;
  args.state->position += 1;
}

// The sum over the block in float64, the same in every thread.
__device__ double BlockSum(double value) {
  __shared__ double warps[32];
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(~0u, value, mask);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  double sum = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum += warps[warp];
  return sum;
}

template <class T>
__global__ void __launch_bounds__(kScoreThreads)
    TokenScoresKernel(const T* rows, std::int64_t vocab, const std::int64_t* tokens, TokenScores* scores) {
  const T* logits = rows + blockIdx.x * vocab;
  TokenScores& out = scores[blockIdx.x];
  __shared__ Rank top[kTopTokens];
  Rank last = ~Rank{0};
  for (int t = 0; t < kTopTokens; ++t) {
    Rank best = 0;
    for (std::int64_t id = threadIdx.x; id < vocab; id += kScoreThreads) {
      const Rank rank = RankOf(Widen(logits[id]), id);
      if (rank < last) best = Greater(best, rank);
    }
    last = BlockGreatest(best);
    if (threadIdx.x == 0) top[t] = last;
  }
  __syncthreads();
  const float largest = Widen(logits[IdOf(top[0])]);
  double sum = 0;
  for (std::int64_t id = threadIdx.x; id < vocab; id += kScoreThreads) {
    sum += static_cast<double>(expf(Widen(logits[id]) - largest));
  }
  const double log_sum = log(BlockSum(sum));
  auto logprob = [&](std::int64_t id) {
    return static_cast<float>(static_cast<double>(Widen(logits[id]) - largest) - log_sum);
  };
  if (threadIdx.x < kTopTokens) {
    const Rank rank = top[threadIdx.x];
    out.top_ids[threadIdx.x] = rank == 0 ? -1 : IdOf(rank);
    out.top_logprobs[threadIdx.x] = rank == 0 ? 0.0f : logprob(IdOf(rank));
  }
  if (threadIdx.x == 0) {
    out.logprob = logprob(tokens[blockIdx.x]);
    out.unused = 0;
  }
}

__global__ void FlipKernel(std::uint8_t* byte, std::uint8_t mask, const DecodeState* state, std::int32_t step) {
  if (state == nullptr || state->step == step) *byte ^= mask;
}

}  // namespace

std::int64_t SampleBlocks(std::int64_t vocab) { return (vocab + kSampleElements - 1) / kSampleElements; }

void LaunchSample(Precision precision, const SampleArgs& args, cudaStream_t stream) {
  WithElement(precision, [&]<class T>(T) {
    LaunchInChain<SampleKernel<T>>("sampling", dim3(static_cast<unsigned>(SampleBlocks(args.vocab))),
                                   dim3(kSampleThreads), 0, stream, 0, args);
  });
}

void LaunchTokenScores(Precision precision, const void* rows, std::int64_t vocab, const std::int64_t* tokens,
                       TokenScores* scores, std::int64_t steps, cudaStream_t stream) {
  if (steps == 0) return;
  WithElement(precision, [&]<class T>(T) {
    kernels::cuda::LaunchKernel<TokenScoresKernel<T>>("token scores", static_cast<unsigned>(steps), kScoreThreads, 0,
                                                      stream, static_cast<const T*>(rows), vocab, tokens, scores);
  });
}

void LaunchFlip(void* byte, std::uint8_t mask, const DecodeState* state, std::int32_t step, cudaStream_t stream) {
  kernels::cuda::LaunchKernel<FlipKernel>("flip", 1, 1, 0, stream, static_cast<std::uint8_t*>(byte), mask, state, step);
}

}  // namespace suites::internal
