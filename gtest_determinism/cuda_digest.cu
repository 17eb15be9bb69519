#include <algorithm>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/digest.h"
#include "gtest_determinism/internal/cuda_check.h"
#include "gtest_determinism/internal/cuda_launch.cuh"
#include "gtest_determinism/internal/xxh3_team.cuh"

namespace gtest_determinism {
namespace {

using namespace internal::xxh3;

constexpr int kThreads = 256, kTeams = kThreads / 8;
// So many chunks leave digests that one block's teams digest in one turn.
constexpr std::size_t kChunksToFinish = kTeams * kTopDigests;

enum class Task {
  kLevel,  // `digests` of the chunks of `data`
  kAll,    // and what follows, into `result`, by the block that is the last to be done
  kTop,    // `data` are the digests of the uppermost level; one block
};

// A kAll grid of one block needs neither `digests` nor `done`.
template <int kWidth>
__global__ __launch_bounds__(kThreads, 2) void tree_digest(const unsigned char* data, std::size_t bytes,
                                                           std::size_t total, std::uint64_t* digests, unsigned* done,
                                                           Task task, std::uint64_t* result) {
  __shared__ std::uint64_t top[2 * kTopDigests + 1];
  __shared__ __align__(16) unsigned char tail[kChunk + 16];
  __shared__ bool last;
  const Member m = MemberOf();
  const std::size_t team = threadIdx.x / 8;
  unsigned block = blockIdx.x, blocks = gridDim.x;
  std::uint64_t* out = task == Task::kAll && blocks == 1 ? top : digests;
  std::size_t chunks = 0;
  const std::uint64_t* top_level = nullptr;  // still to be copied to `top`
  if (task == Task::kTop) {
    top_level = reinterpret_cast<const std::uint64_t*>(data);
    chunks = bytes / kDigestBytes;
  }
  while (top_level == nullptr) {
    const std::size_t whole = bytes / kChunk;
    const int rest = static_cast<int>(bytes % kChunk);
    chunks = whole + (rest != 0);
    if (rest != 0 && whole / kTeams % blocks == block) {
      CopyByBlock<kWidth, kThreads>(tail, data + whole * kChunk, rest);
      __syncthreads();
    }
    for (std::size_t chunk = block * kTeams + team; chunk < chunks;
         chunk += static_cast<std::size_t>(blocks) * kTeams) {
      const std::uint64_t half = chunk < whole ? HashChunk<kWidth>(data + chunk * kChunk, m)
                                               : HashAny(tail, static_cast<std::size_t>(rest), m.thread, m.mask);
      Store(out + 2 * chunk, half, m);
    }
    if (task == Task::kLevel) return;
    if (out == top) break;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(done, 1u) == blocks - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();
    if (threadIdx.x == 0) *done = 0;
    if (chunks <= kTopDigests) {
      top_level = digests;
    } else {
      // One more level, by this block alone.
      data = reinterpret_cast<const unsigned char*>(digests);
      bytes = chunks * kDigestBytes;
      block = 0;
      blocks = 1;
      out = top;
    }
  }
  if (top_level != nullptr) {
    for (std::size_t i = threadIdx.x; i < 2 * chunks; i += kThreads) top[i] = __ldcg(top_level + i);
  }
  if (threadIdx.x == 0) top[2 * chunks] = total;
  __syncthreads();
  if (threadIdx.x >= 8) return;
  const std::size_t top_bytes = chunks * kDigestBytes + sizeof(std::uint64_t);
  Store(result, HashAny(reinterpret_cast<const unsigned char*>(top), top_bytes, m.thread, m.mask), m);
}

constexpr std::size_t ChunksOf(std::size_t bytes) { return (bytes + kChunk - 1) / kChunk; }

}  // namespace

std::size_t DigestScratchBytes(std::size_t bytes) {
  std::size_t scratch = 16, chunks = ChunksOf(bytes);
  for (; chunks > kChunksToFinish; chunks = ChunksOf(chunks * kDigestBytes)) scratch += chunks * kDigestBytes;
  return scratch + chunks * kDigestBytes;
}

void LaunchTreeDigest(const void* data, std::size_t bytes, void* digest, void* scratch, cudaStream_t stream) {
  const auto* level = static_cast<const unsigned char*>(data);
  auto* done = static_cast<unsigned*>(scratch);
  auto* digests = reinterpret_cast<std::uint64_t*>(static_cast<unsigned char*>(scratch) + 16);
  // Two run on a multiprocessor at a time; some more, since not all are equally quick.
  const auto most_blocks = static_cast<std::size_t>(8 * internal::MultiprocessorCount());
  const auto launch = [&](auto kernel, std::size_t blocks, std::size_t level_bytes, Task task) {
    internal::LaunchKernel("tree_digest", kernel, static_cast<unsigned>(blocks), kThreads, stream, level, level_bytes,
                           bytes, digests, done, task, static_cast<std::uint64_t*>(digest));
  };
  for (std::size_t level_bytes = bytes;;) {
    const std::size_t chunks = ChunksOf(level_bytes);
    const std::size_t blocks = std::clamp<std::size_t>((chunks + kTeams - 1) / kTeams, 1, most_blocks);
    const auto address = reinterpret_cast<std::uintptr_t>(level);
    const bool all = blocks == 1 || (address % 16 == 0 && chunks <= kChunksToFinish);
    const Task task = all ? Task::kAll : Task::kLevel;
    if (address % 16 == 0) {
      launch(tree_digest<16>, blocks, level_bytes, task);
    } else if (address % 4 == 0) {
      launch(tree_digest<4>, blocks, level_bytes, task);
    } else if (address % 2 == 0) {
      launch(tree_digest<2>, blocks, level_bytes, task);
    } else {
      launch(tree_digest<1>, blocks, level_bytes, task);
    }
    if (all) return;
    level = reinterpret_cast<const unsigned char*>(digests);
    level_bytes = chunks * kDigestBytes;
    digests += 2 * chunks;
    if (level_bytes <= kChunk) return launch(tree_digest<16>, 1, level_bytes, Task::kTop);
  }
}

}  // namespace gtest_determinism
