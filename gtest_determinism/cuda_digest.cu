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

// 16 bytes, by words of kWidth. The widest from the L2 cache: they may be what
// other blocks of the same launch wrote, and L1 is not coherent.
template <int kWidth>
__device__ __forceinline__ Words Load16(const unsigned char* p) {
  if constexpr (kWidth == 16) {
    const ulonglong2 v = __ldcg(reinterpret_cast<const ulonglong2*>(p));
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
    Words w = {0, 0};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      w.w0 |= static_cast<std::uint64_t>(p[i]) << (8 * i);
      w.w1 |= static_cast<std::uint64_t>(p[8 + i]) << (8 * i);
    }
    return w;
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

// Any length, of bytes in shared memory that may be read up to the next aligned
// word. Not inlined: it is long, and seldom what takes the time.
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
#pragma unroll 2
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

// All threads of a block copy what is less than a chunk.
template <int kWidth>
__device__ void CopyTail(unsigned char* to, const unsigned char* from, int bytes) {
  for (int i = 16 * static_cast<int>(threadIdx.x); i + 16 <= bytes; i += 16 * kThreads) {
    *reinterpret_cast<Words*>(to + i) = Load16<kWidth>(from + i);
  }
  const int rest = bytes % 16;
  if (static_cast<int>(threadIdx.x) < rest) {
    const int at = bytes - rest + static_cast<int>(threadIdx.x);
    to[at] = from[at];
  }
}

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
      CopyTail<kWidth>(tail, data + whole * kChunk, rest);
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
    kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(level, level_bytes, bytes, digests, done, task,
                                                                   static_cast<std::uint64_t*>(digest));
    internal::CheckCuda(cudaGetLastError(), "launch of tree_digest");
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
