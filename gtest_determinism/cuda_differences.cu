#include <algorithm>

#include "gtest_determinism/internal/cuda_kernels.h"
#include "gtest_determinism/internal/cuda_launch.cuh"

namespace gtest_determinism::internal {
namespace {

constexpr int kThreads = 256;
// Also where the elements are many: a thread then takes several. Each block leaves a
// count for the last one.
constexpr unsigned kMaxBlocks = 1024;

struct Scratch {
  unsigned blocks_done;  // 0 between launches
  DifferenceCount of_block[kMaxBlocks];
};

template <class Word>
__device__ __forceinline__ Word LoadWord(const unsigned char* p, bool aligned) {
  if (aligned) return *reinterpret_cast<const Word*>(p);
  Word word = 0;
#pragma unroll
  for (int i = 0; i < static_cast<int>(sizeof(Word)); ++i) {
    word = static_cast<Word>(word | static_cast<Word>(p[i]) << (8 * i));
  }
  return word;
}

__device__ DifferenceCount FromLane(const DifferenceCount& count, int offset) {
  constexpr unsigned kAll = 0xffffffffu;
  DifferenceCount other;
  other.elements = __shfl_down_sync(kAll, count.elements, offset);
  other.bytes = __shfl_down_sync(kAll, count.bytes, offset);
  other.first = __shfl_down_sync(kAll, count.first, offset);
  other.expected = __shfl_down_sync(kAll, count.expected, offset);
  other.actual = __shfl_down_sync(kAll, count.actual, offset);
  other.ulp = __shfl_down_sync(kAll, count.ulp, offset);
  other.difference = __shfl_down_sync(kAll, count.difference, offset);
  return other;
}

// Of all threads of the block, in thread 0. Each lane adds that of the one `offset`
// above it; the upper ones, which have none there, are not asked again.
__device__ DifferenceCount OfBlock(DifferenceCount count, DifferenceCount* of_warp) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int offset = 16; offset > 0; offset /= 2) AddCount(count, FromLane(count, offset));
  if (lane == 0) of_warp[warp] = count;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int other = 1; other < kThreads / 32; ++other) AddCount(count, of_warp[other]);
  }
  __syncthreads();
  return count;
}

// Past the first-level cache: other multiprocessors wrote it.
__device__ DifferenceCount LoadFresh(const DifferenceCount* p) {
  return {__ldcg(&p->elements), __ldcg(&p->bytes), __ldcg(&p->first),     __ldcg(&p->expected),
          __ldcg(&p->actual),   __ldcg(&p->ulp),   __ldcg(&p->difference)};
}

// 16 bytes of each at a time where both begin at a multiple of 16, then element by
// element; so that the elements of a thread rise. The last block adds up all.
template <class Kind>
__global__ __launch_bounds__(kThreads) void count_differences(const unsigned char* expected,
                                                              const unsigned char* actual, std::uint64_t elements,
                                                              Scratch* scratch, DifferenceCount* result) {
  using Word = typename Kind::Word;
  constexpr int kSize = sizeof(Word), kEach = 16 / kSize;
  const std::uint64_t thread = blockIdx.x * std::uint64_t{kThreads} + threadIdx.x;
  const std::uint64_t threads = gridDim.x * std::uint64_t{kThreads};
  const auto low = reinterpret_cast<std::uintptr_t>(expected) | reinterpret_cast<std::uintptr_t>(actual);
  DifferenceCount count{};
  std::uint64_t done = 0;
  if (low % 16 == 0) {
    const std::uint64_t vectors = elements / kEach;
    for (std::uint64_t v = thread; v < vectors; v += threads) {
      const uint4 e = __ldcs(reinterpret_cast<const uint4*>(expected) + v);
      const uint4 a = __ldcs(reinterpret_cast<const uint4*>(actual) + v);
      if (((e.x ^ a.x) | (e.y ^ a.y) | (e.z ^ a.z) | (e.w ^ a.w)) == 0) continue;
      const std::uint64_t e_words[2] = {e.x | std::uint64_t{e.y} << 32, e.z | std::uint64_t{e.w} << 32};
      const std::uint64_t a_words[2] = {a.x | std::uint64_t{a.y} << 32, a.z | std::uint64_t{a.w} << 32};
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        const int shift = 8 * (i * kSize % 8);
        const auto x = static_cast<Word>(e_words[i * kSize / 8] >> shift);
        const auto y = static_cast<Word>(a_words[i * kSize / 8] >> shift);
        if (x != y) AddElement<Kind>(count, v * kEach + i, x, y);
      }
    }
    done = vectors * kEach;
  }
  const bool aligned = low % kSize == 0;
  for (std::uint64_t i = done + thread; i < elements; i += threads) {
    const auto x = LoadWord<Word>(expected + i * kSize, aligned), y = LoadWord<Word>(actual + i * kSize, aligned);
    if (x != y) AddElement<Kind>(count, i, x, y);
  }

  __shared__ DifferenceCount of_warp[kThreads / 32];
  __shared__ bool last;
  count = OfBlock(count, of_warp);
  if (threadIdx.x == 0) {
    scratch->of_block[blockIdx.x] = count;
    __threadfence();
    last = atomicInc(&scratch->blocks_done, gridDim.x - 1) == gridDim.x - 1;  // which makes it 0 again
  }
  __syncthreads();
  if (!last) return;
  __threadfence();
  count = {};
  for (unsigned block = threadIdx.x; block < gridDim.x; block += kThreads) {
    AddCount(count, LoadFresh(scratch->of_block + block));
  }
  count = OfBlock(count, of_warp);
  if (threadIdx.x == 0) *result = count;
}

}  // namespace

std::size_t DifferencesScratchBytes() { return sizeof(Scratch); }

void LaunchCountDifferences(const void* expected, const void* actual, std::size_t elements, DType dtype,
                            DifferenceCount* result, void* scratch, cudaStream_t stream) {
  const std::size_t pieces = (elements * SizeOf(dtype) + 16 * kThreads - 1) / (16 * kThreads);
  const auto blocks = static_cast<unsigned>(std::clamp<std::size_t>(pieces, 1, kMaxBlocks));
  WithElementKind(dtype, [&]<class Kind>(Kind) {
    LaunchKernel("count_differences", count_differences<Kind>, blocks, kThreads, stream,
                 static_cast<const unsigned char*>(expected), static_cast<const unsigned char*>(actual), elements,
                 static_cast<Scratch*>(scratch), result);
  });
}

}  // namespace gtest_determinism::internal
