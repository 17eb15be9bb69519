#include <algorithm>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/digest.h"
#include "gtest_determinism/internal/cuda_check.h"
#include "gtest_determinism/internal/xxh3.h"

namespace gtest_determinism {
namespace {

using namespace internal::xxh3;

constexpr int kThreads = 256, kTeams = kThreads / 8;
constexpr std::size_t kChunk = kDigestChunkBytes, kDigestBytes = 16, kTopDigests = kChunk / kDigestBytes;
// So many chunks leave digests that one block's teams digest in one turn.
constexpr std::size_t kChunksToFinish = kTeams * kTopDigests;

// What a thread of a team of eight needs for each chunk, in registers.
struct Member {
  int thread;     // 0 .. 7
  unsigned mask;  // the team within the warp
  Words initial, scramble, last_key;
  std::uint64_t keys[16];
};

__device__ Member MemberOf() {
  Member m;
  m.thread = static_cast<int>(threadIdx.x) % 8;
  m.mask = 0xffu << (threadIdx.x % 32 & 24);
  m.initial = InitialState(m.thread);
  m.scramble = {SecretWord(16 + 2 * (m.thread % 4)), SecretWord(17 + 2 * (m.thread % 4))};
  m.last_key = LastKey(m.thread);
#pragma unroll
  for (int i = 0; i < 16; ++i) m.keys[i] = SecretWord(KeyWord(m.thread, m.thread / 4) + i);
  return m;
}

// What other blocks of the same launch wrote, aligned to 16: read from the L2
// cache, since L1 is not coherent.
constexpr int kOfOtherBlocks = 0;

// 16 bytes, by words of kWidth.
template <int kWidth>
__device__ __forceinline__ Words Load16(const unsigned char* p) {
  if constexpr (kWidth == kOfOtherBlocks) {
    const ulonglong2 v = __ldcg(reinterpret_cast<const ulonglong2*>(p));
    return {v.x, v.y};
  } else if constexpr (kWidth == 16) {
    const ulonglong2 v = __ldcs(reinterpret_cast<const ulonglong2*>(p));
    return {v.x, v.y};
  } else if constexpr (kWidth == 4) {
    const auto* q = reinterpret_cast<const std::uint32_t*>(p);
    return {q[0] | static_cast<std::uint64_t>(q[1]) << 32, q[2] | static_cast<std::uint64_t>(q[3]) << 32};
  } else if constexpr (kWidth == 2) {
    const auto* q = reinterpret_cast<const std::uint16_t*>(p);
    Words w = {0, 0};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      w.w0 |= static_cast<std::uint64_t>(q[i]) << (16 * i);
      w.w1 |= static_cast<std::uint64_t>(q[4 + i]) << (16 * i);
    }
    return w;
  } else {
    return {ReadBytes(p, 8), ReadBytes(p + 8, 8)};
  }
}

__device__ __forceinline__ void AddBlock(Words& state, Words sum, unsigned mask) {
  sum.w0 += __shfl_xor_sync(mask, sum.w0, 4);
  sum.w1 += __shfl_xor_sync(mask, sum.w1, 4);
  state.w0 += sum.w0;
  state.w1 += sum.w1;
}

// The low half of the hash on threads 0 to 3, the high one on 4 to 7.
__device__ __forceinline__ std::uint64_t HalfOf(const Words& state, std::size_t n, int thread, unsigned mask) {
  std::uint64_t sum = Quarter(state, thread);
  sum += __shfl_xor_sync(mask, sum, 1);
  sum += __shfl_xor_sync(mask, sum, 2);
  return Finish(sum, n, thread);
}

// A whole chunk.
template <int kWidth>
__device__ __forceinline__ std::uint64_t HashChunk(const unsigned char* p, const Member& m) {
  constexpr int kBlocks = static_cast<int>(kChunk / kBlock);
  Words state = m.initial;
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    Words data[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) data[i] = Load16<kWidth>(p + block * kBlock + 128 * i + 16 * m.thread);
    Words sum = {0, 0};
#pragma unroll
    for (int i = 0; i < 7; ++i) Accumulate(sum, data[i], m.keys[2 * i], m.keys[2 * i + 1]);
    const bool last = block == kBlocks - 1 && m.thread >= 4;
    Accumulate(sum, data[7], last ? m.last_key.w0 : m.keys[14], last ? m.last_key.w1 : m.keys[15]);
    AddBlock(state, sum, m.mask);
    if (block < kBlocks - 1) {
      state = {ScrambleWord(state.w0, m.scramble.w0), ScrambleWord(state.w1, m.scramble.w1)};
    }
  }
  return HalfOf(state, kChunk, m.thread, m.mask);
}

// Any length, at any alignment. Not inlined: it is long, and seldom what takes the time.
__device__ __noinline__ std::uint64_t HashAny(const unsigned char* p, std::size_t n, int thread, unsigned mask) {
  if (n <= 240) {
    // One thread's work; all eight do it, and each takes its half.
    const Hash128 hash = HashUpTo240(p, static_cast<unsigned>(n));
    return thread < 4 ? hash.low : hash.high;
  }
  Words state = InitialState(thread);
  const std::size_t blocks = (n - 1) / kBlock;
  for (std::size_t block = 0; block <= blocks; ++block) {
    const int stripes = block < blocks ? 16 : static_cast<int>((n - 1 - blocks * kBlock) / kStripe);
    Words sum = {0, 0};
#pragma unroll 4
    for (int stripe = thread / 4; stripe < stripes; stripe += 2) {
      const unsigned char* q = p + block * kBlock + stripe * kStripe + 16 * (thread % 4);
      const int key = KeyWord(thread, stripe);
      Accumulate(sum, {Read64(q), Read64(q + 8)}, SecretWord(key), SecretWord(key + 1));
    }
    if (block == blocks && thread < 4) {
      const unsigned char* q = p + n - kStripe + 16 * thread;
      const Words key = LastKey(thread);
      Accumulate(sum, {Read64(q), Read64(q + 8)}, key.w0, key.w1);
    }
    AddBlock(state, sum, mask);
    if (block < blocks) Scramble(state, thread);
  }
  return HalfOf(state, n, thread, mask);
}

// In canonical form: big-endian, the high half first.
__device__ __forceinline__ void Store(std::uint64_t* digest, std::uint64_t half, const Member& m) {
  if (m.thread % 4 == 0) digest[m.thread == 0 ? 1 : 0] = Swap64(half);
}

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
