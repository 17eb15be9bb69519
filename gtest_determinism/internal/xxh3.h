// XXH3-128 with seed 0, written from its specification (xxHash, doc/xxhash_spec.md)
// so that the host and a device compute it by the same code. What is longer than
// 240 bytes is cut into pieces that eight threads share. The host's own digest is
// xxHash itself (digest.cc); tests hold this one to it.
#ifndef GTEST_DETERMINISM_INTERNAL_XXH3_H_
#define GTEST_DETERMINISM_INTERNAL_XXH3_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "gtest_determinism/internal/host_device.h"

// Before a loop: code that runs once is fetched once, so that it had better be short.
#if defined(__CUDA_ARCH__)
#define GTEST_DETERMINISM_ROLLED_ _Pragma("unroll 1")
#else
#define GTEST_DETERMINISM_ROLLED_
#endif

namespace gtest_determinism::internal::xxh3 {

// The default secret of 192 bytes, as little-endian words.
#define GTEST_DETERMINISM_XXH3_SECRET_                                                                         \
  0xbe4ba423396cfeb8u, 0x1cad21f72c81017cu, 0xdb979083e96dd4deu, 0x1f67b3b7a4a44072u, 0x78e5c0cc4ee679cbu,     \
      0x2172ffcc7dd05a82u, 0x8e2443f7744608b8u, 0x4c263a81e69035e0u, 0xcb00c391bb52283cu, 0xa32e531b8b65d088u, \
      0x4ef90da297486471u, 0xd8acdea946ef1938u, 0x3f349ce33f76faa8u, 0x1d4f0bc7c7bbdcf9u, 0x3159b4cd4be0518au, \
      0x647378d9c97e9fc8u, 0xc3ebd33483acc5eau, 0xeb6313faffa081c5u, 0x49daf0b751dd0d17u, 0x9e68d429265516d3u, \
      0xfca1477d58be162bu, 0xce31d07ad1b8f88fu, 0x280416958f3acb45u, 0x7e404bbbcafbd7afu,

inline constexpr std::uint64_t kSecret[24] = {GTEST_DETERMINISM_XXH3_SECRET_};
#if defined(__CUDACC__)
__constant__ const std::uint64_t kDeviceSecret[24] = {GTEST_DETERMINISM_XXH3_SECRET_};
#endif
#undef GTEST_DETERMINISM_XXH3_SECRET_

GTEST_DETERMINISM_HD_ std::uint64_t SecretWord(int i) {
#if defined(__CUDA_ARCH__)
  return kDeviceSecret[i];
#else
  return kSecret[i];
#endif
}

// The word that begins at any byte of the secret.
GTEST_DETERMINISM_HD_ std::uint64_t SecretAt(int byte) {
  const int word = byte / 8, shift = byte % 8 * 8;
  const std::uint64_t low = SecretWord(word);
  return shift == 0 ? low : low >> shift | SecretWord(word + 1) << (64 - shift);
}

inline constexpr std::uint64_t kPrime32_1 = 0x9e3779b1u, kPrime32_2 = 0x85ebca77u, kPrime32_3 = 0xc2b2ae3du;
inline constexpr std::uint64_t kPrime64_1 = 0x9e3779b185ebca87u, kPrime64_2 = 0xc2b2ae3d27d4eb4fu,
                               kPrime64_3 = 0x165667b19e3779f9u, kPrime64_4 = 0x85ebca77c2b2ae63u,
                               kPrime64_5 = 0x27d4eb2f165667c5u;
inline constexpr std::uint64_t kMixPrime = 0x9fb21c651e98df25u;

struct Hash128 {
  std::uint64_t low, high;
};

GTEST_DETERMINISM_HD_ std::uint64_t ReadBytes(const unsigned char* p, int count) {
  std::uint64_t word = 0;
  GTEST_DETERMINISM_ROLLED_
  for (int i = 0; i < count; ++i) word |= static_cast<std::uint64_t>(p[i]) << (8 * i);
  return word;
}

// On a device the aligned words that hold any of the 8 bytes are read: the bytes
// must lie where those can be.
GTEST_DETERMINISM_HD_ std::uint64_t Read64(const unsigned char* p) {
#if defined(__CUDA_ARCH__)
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  const auto* words = reinterpret_cast<const std::uint64_t*>(address & ~std::uintptr_t{7});
  const int shift = static_cast<int>(address & 7) * 8;
  return shift == 0 ? words[0] : words[0] >> shift | words[1] << (64 - shift);
#else
  std::uint64_t word;
  std::memcpy(&word, p, sizeof(word));
  return word;
#endif
}

GTEST_DETERMINISM_HD_ std::uint64_t HighProduct(std::uint64_t a, std::uint64_t b) {
#if defined(__CUDA_ARCH__)
  return __umul64hi(a, b);
#else
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::uint64_t>(static_cast<Wide>(a) * b >> 64);
#endif
}

GTEST_DETERMINISM_HD_ std::uint64_t Swap64(std::uint64_t x) {
#if defined(__CUDA_ARCH__)
  const auto low = static_cast<std::uint32_t>(x), high = static_cast<std::uint32_t>(x >> 32);
  return static_cast<std::uint64_t>(__byte_perm(low, 0, 0x0123)) << 32 | __byte_perm(high, 0, 0x0123);
#else
  return __builtin_bswap64(x);
#endif
}

GTEST_DETERMINISM_HD_ std::uint64_t Fold(std::uint64_t a, std::uint64_t b) { return a * b ^ HighProduct(a, b); }

GTEST_DETERMINISM_HD_ std::uint64_t Avalanche64(std::uint64_t h) {
  h = (h ^ h >> 33) * kPrime64_2;
  h = (h ^ h >> 29) * kPrime64_3;
  return h ^ h >> 32;
}

GTEST_DETERMINISM_HD_ std::uint64_t Avalanche(std::uint64_t h) {
  h = (h ^ h >> 37) * 0x165667919e3779f9u;
  return h ^ h >> 32;
}

// ---- Up to 240 bytes, by one thread ----

GTEST_DETERMINISM_HD_ Hash128 HashUpTo16(const unsigned char* p, unsigned n) {
  if (n > 8) {
    const std::uint64_t first = Read64(p), last = Read64(p + n - 8);
    const std::uint64_t a = first ^ last ^ SecretWord(4) ^ SecretWord(5);
    const std::uint64_t b = last ^ SecretWord(6) ^ SecretWord(7);
    std::uint64_t low = a * kPrime64_1 + (static_cast<std::uint64_t>(n - 1) << 54);
    const std::uint64_t high = HighProduct(a, kPrime64_1) + b + (b & 0xffffffffu) * (kPrime32_2 - 1);
    low ^= Swap64(high);
    return {Avalanche(low * kPrime64_2), Avalanche(HighProduct(low, kPrime64_2) + high * kPrime64_2)};
  }
  if (n >= 4) {
    const std::uint64_t word = ReadBytes(p, 4) | ReadBytes(p + n - 4, 4) << 32;
    const std::uint64_t keyed = word ^ SecretWord(2) ^ SecretWord(3);
    const std::uint64_t factor = kPrime64_1 + (static_cast<std::uint64_t>(n) << 2);
    std::uint64_t low = keyed * factor;
    const std::uint64_t high = HighProduct(keyed, factor) + (low << 1);
    low ^= high >> 3;
    low = (low ^ low >> 35) * kMixPrime;
    return {low ^ low >> 28, Avalanche(high)};
  }
  if (n > 0) {
    const std::uint32_t word =
        static_cast<std::uint32_t>(p[0]) << 16 | static_cast<std::uint32_t>(p[n >> 1]) << 24 | p[n - 1] | n << 8;
    const std::uint32_t swapped = word >> 24 | (word >> 8 & 0xff00u) | (word & 0xff00u) << 8 | word << 24;
    const std::uint32_t turned = swapped << 13 | swapped >> 19;
    const std::uint64_t s0 = SecretWord(0), s1 = SecretWord(1);
    return {Avalanche64(word ^ ((s0 ^ s0 >> 32) & 0xffffffffu)), Avalanche64(turned ^ ((s1 ^ s1 >> 32) & 0xffffffffu))};
  }
  return {Avalanche64(SecretWord(8) ^ SecretWord(9)), Avalanche64(SecretWord(10) ^ SecretWord(11))};
}

// Two words of 16 bytes each into the two halves of the state.
GTEST_DETERMINISM_HD_ void Mix32(Hash128& state, const unsigned char* a, const unsigned char* b, int secret) {
  const std::uint64_t a0 = Read64(a), a1 = Read64(a + 8), b0 = Read64(b), b1 = Read64(b + 8);
  state.low += Fold(a0 ^ SecretAt(secret), a1 ^ SecretAt(secret + 8));
  state.low ^= b0 + b1;
  state.high += Fold(b0 ^ SecretAt(secret + 16), b1 ^ SecretAt(secret + 24));
  state.high ^= a0 + a1;
}

GTEST_DETERMINISM_HD_ Hash128 HashUpTo240(const unsigned char* p, unsigned n) {
  if (n <= 16) return HashUpTo16(p, n);
  Hash128 state = {n * kPrime64_1, 0};
  if (n <= 128) {
    // From the middle to the ends.
    GTEST_DETERMINISM_ROLLED_
    for (int i = (static_cast<int>(n) - 1) / 32; i >= 0; --i) Mix32(state, p + 16 * i, p + n - 16 * (i + 1), 32 * i);
  } else {
    const int rounds = static_cast<int>(n) / 32;
    GTEST_DETERMINISM_ROLLED_
    for (int i = 0; i < rounds; ++i) {
      Mix32(state, p + 32 * i, p + 32 * i + 16, i < 4 ? 32 * i : 3 + 32 * (i - 4));
      if (i == 3) state = {Avalanche(state.low), Avalanche(state.high)};
    }
    Mix32(state, p + n - 16, p + n - 32, 103);
  }
  const std::uint64_t high = state.low * kPrime64_1 + state.high * kPrime64_4 + n * kPrime64_2;
  return {Avalanche(state.low + state.high), 0 - Avalanche(high)};
}

// ---- More than 240 bytes, by eight threads ----
//
// The bytes are stripes of 64, the state is eight words, and within a block of 16
// stripes the state is a sum over stripes: threads may share a block. Thread t
// of 8 keeps the words 2 (t % 4) and 2 (t % 4) + 1 and takes the stripes of t / 4's
// parity, so that the eight read 128 contiguous bytes at a time. Each block the
// sums of threads t and t ^ 4 are added to the state, and the state is scrambled.

inline constexpr std::size_t kStripe = 64, kBlock = 1024;

struct Words {
  std::uint64_t w0, w1;
};

GTEST_DETERMINISM_HD_ Words InitialState(int thread) {
  switch (thread % 4) {
    case 0:
      return {kPrime32_3, kPrime64_1};
    case 1:
      return {kPrime64_2, kPrime64_3};
    case 2:
      return {kPrime64_4, kPrime32_2};
    default:
      return {kPrime64_5, kPrime32_1};
  }
}

GTEST_DETERMINISM_HD_ void Accumulate(Words& sum, const Words& data, std::uint64_t key0, std::uint64_t key1) {
  const std::uint64_t x0 = data.w0 ^ key0, x1 = data.w1 ^ key1;
  sum.w0 += data.w1 + (x0 & 0xffffffffu) * (x0 >> 32);
  sum.w1 += data.w0 + (x1 & 0xffffffffu) * (x1 >> 32);
}

// The first word of a stripe's key for this thread; the second is the next.
GTEST_DETERMINISM_HD_ int KeyWord(int thread, int stripe) { return stripe + 2 * (thread % 4); }
// The key of the last stripe of all.
GTEST_DETERMINISM_HD_ Words LastKey(int thread) {
  return {SecretAt(121 + 16 * (thread % 4)), SecretAt(129 + 16 * (thread % 4))};
}

GTEST_DETERMINISM_HD_ std::uint64_t ScrambleWord(std::uint64_t w, std::uint64_t key) {
  return (w ^ w >> 47 ^ key) * kPrime32_1;
}
GTEST_DETERMINISM_HD_ void Scramble(Words& state, int thread) {
  state.w0 = ScrambleWord(state.w0, SecretWord(16 + 2 * (thread % 4)));
  state.w1 = ScrambleWord(state.w1, SecretWord(17 + 2 * (thread % 4)));
}

// A quarter of the low (threads 0 to 3) or of the high half of the hash: the four
// are added up, then Finish()ed.
GTEST_DETERMINISM_HD_ std::uint64_t Quarter(const Words& state, int thread) {
  const int secret = (thread < 4 ? 11 : 192 - 64 - 11) + 16 * (thread % 4);
  return Fold(state.w0 ^ SecretAt(secret), state.w1 ^ SecretAt(secret + 8));
}
GTEST_DETERMINISM_HD_ std::uint64_t Finish(std::uint64_t quarters, std::size_t n, int thread) {
  return Avalanche(quarters + (thread < 4 ? n * kPrime64_1 : ~(n * kPrime64_2)));
}

}  // namespace gtest_determinism::internal::xxh3

#endif  // GTEST_DETERMINISM_INTERNAL_XXH3_H_
