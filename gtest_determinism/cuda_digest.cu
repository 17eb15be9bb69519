#include <algorithm>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/internal/cuda_check.h"
#include "gtest_determinism/internal/xxh3.h"
#include "gtest_determinism/internal/xxh3_team.cuh"

namespace gtest_determinism {
namespace {

using namespace internal::xxh3;

constexpr int kThreads = 256, kTeams = kThreads / 8;
// So many chunks leave digests that one block's teams digest in one turn.
constexpr std::size_t kChunksToFinish = kTeams * kTopDigests;

// Digests of the chunks of `data` into `digests`; with `finish` also what follows,
// by the block that is the last to be done, into `result`. A grid of one block
// needs neither `digests` nor `done`.
template <int kWidth>
__global__ __launch_bounds__(kThreads, 2) void tree_digest(const unsigned char* data, std::size_t bytes,
                                                           std::size_t total, std::uint64_t* digests, unsigned* done,
                                                           bool finish, std::uint64_t* result) {
  __shared__ std::uint64_t top[2 * kTopDigests + 1];
  __shared__ bool last;
  const Member m = MemberOf();
  const std::size_t team = threadIdx.x / 8, whole = bytes / kChunk, chunks = (bytes + kChunk - 1) / kChunk;
  const bool alone = gridDim.x == 1;
  for (std::size_t chunk = blockIdx.x * kTeams + team; chunk < chunks;
       chunk += static_cast<std::size_t>(gridDim.x) * kTeams) {
    const unsigned char* p = data + chunk * kChunk;
    const std::uint64_t half = chunk < whole ? HashChunk<kWidth>(p, m) : HashAny(p, bytes % kChunk, m.thread, m.mask);
    Store((alone ? top : digests) + 2 * chunk, half, m);
  }
  if (!finish) return;
  std::size_t count = chunks;
  if (!alone) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(done, 1u) == gridDim.x - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();
    if (threadIdx.x == 0) *done = 0;
    const auto* level = reinterpret_cast<const unsigned char*>(digests);
    if (chunks <= kTopDigests) {
      for (std::size_t i = threadIdx.x; i < 2 * chunks; i += kThreads) top[i] = __ldcg(digests + i);
    } else {
      const std::size_t level_bytes = chunks * kDigestBytes;
      count = (level_bytes + kChunk - 1) / kChunk;
      for (std::size_t chunk = team; chunk < count; chunk += kTeams) {
        const unsigned char* p = level + chunk * kChunk;
        const bool full = (chunk + 1) * kChunk <= level_bytes;
        Store(top + 2 * chunk,
              full ? HashChunk<kOfOtherBlocks>(p, m) : HashAny(p, level_bytes % kChunk, m.thread, m.mask), m);
      }
    }
  }
  if (threadIdx.x == 0) top[2 * count] = total;
  __syncthreads();
  if (threadIdx.x >= 8) return;
  Store(result, HashAny(reinterpret_cast<const unsigned char*>(top), count * kDigestBytes + 8, m.thread, m.mask), m);
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
  for (std::size_t level_bytes = bytes;;) {
    const std::size_t chunks = ChunksOf(level_bytes);
    const bool finish = chunks <= kChunksToFinish;
    const auto blocks = static_cast<unsigned>(std::clamp<std::size_t>((chunks + kTeams - 1) / kTeams, 1, most_blocks));
    const auto launch = [&](auto kernel) {
      kernel<<<blocks, kThreads, 0, stream>>>(level, level_bytes, bytes, digests, done, finish,
                                              static_cast<std::uint64_t*>(digest));
    };
    const auto address = reinterpret_cast<std::uintptr_t>(level);
    if (address % 16 == 0) {
      launch(tree_digest<16>);
    } else if (address % 4 == 0) {
      launch(tree_digest<4>);
    } else if (address % 2 == 0) {
      launch(tree_digest<2>);
    } else {
      launch(tree_digest<1>);
    }
    internal::CheckCuda(cudaGetLastError(), "launch of tree_digest");
    if (finish) return;
    level = reinterpret_cast<const unsigned char*>(digests);
    level_bytes = chunks * kDigestBytes;
    digests += 2 * chunks;
  }
}

}  // namespace gtest_determinism
