// XXH3-128 by teams of eight threads on a device: chunks of a TreeDigest().
#ifndef GTEST_DETERMINISM_INTERNAL_XXH3_TEAM_CUH_
#define GTEST_DETERMINISM_INTERNAL_XXH3_TEAM_CUH_

#include <cstddef>
#include <cstdint>

#include "gtest_determinism/digest.h"
#include "gtest_determinism/internal/xxh3.h"

namespace gtest_determinism::internal::xxh3 {

inline constexpr std::size_t kChunk = kDigestChunkBytes, kDigestBytes = 16, kTopDigests = kChunk / kDigestBytes;

// What a thread of a team of eight needs for each chunk, in registers.
struct Member {
  int thread;     // 0 .. 7
  unsigned mask;  // the team within the warp
  Words initial, scramble, last_key;
  std::uint64_t keys[16];
};

__device__ inline Member MemberOf() {
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

// The kThreads threads of a block copy at most a chunk into shared memory aligned
// to 16.
template <int kWidth, int kThreads>
__device__ __forceinline__ void CopyByBlock(unsigned char* to, const unsigned char* from, int bytes) {
  for (int i = 16 * static_cast<int>(threadIdx.x); i + 16 <= bytes; i += 16 * kThreads) {
    *reinterpret_cast<Words*>(to + i) = Load16<kWidth>(from + i);
  }
  const int rest = bytes % 16;
  if (static_cast<int>(threadIdx.x) < rest) {
    const int at = bytes - rest + static_cast<int>(threadIdx.x);
    to[at] = from[at];
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
static __device__ __noinline__ std::uint64_t HashAny(const unsigned char* p, std::size_t n, int thread, unsigned mask) {
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

}  // namespace gtest_determinism::internal::xxh3

#endif  // GTEST_DETERMINISM_INTERNAL_XXH3_TEAM_CUH_
