// The hash core that the device uses, against xxHash itself, as its eight threads
// would go through it.
#include "gtest_determinism/internal/xxh3.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#define XXH_INLINE_ALL
#include "xxhash/xxhash.h"

namespace gtest_determinism::internal::xxh3 {
namespace {

Hash128 LongByEightThreads(const unsigned char* p, std::size_t n) {
  Words state[8];
  for (int t = 0; t < 8; ++t) state[t] = InitialState(t);
  const std::size_t blocks = (n - 1) / kBlock;
  for (std::size_t block = 0; block <= blocks; ++block) {
    const int stripes = block < blocks ? 16 : static_cast<int>((n - 1 - blocks * kBlock) / kStripe);
    Words sum[8] = {};
    for (int t = 0; t < 8; ++t) {
      const unsigned char* mine = p + block * kBlock + 16 * (t % 4);
      for (int stripe = t / 4; stripe < stripes; stripe += 2) {
        const unsigned char* q = mine + static_cast<std::size_t>(stripe) * kStripe;
        const int key = KeyWord(t, stripe);
        Accumulate(sum[t], {Read64(q), Read64(q + 8)}, SecretWord(key), SecretWord(key + 1));
      }
      if (block == blocks && t < 4) {
        const unsigned char* q = p + n - kStripe + 16 * t;
        Accumulate(sum[t], {Read64(q), Read64(q + 8)}, LastKey(t).w0, LastKey(t).w1);
      }
    }
    for (int t = 0; t < 8; ++t) {
      state[t].w0 += sum[t].w0 + sum[t ^ 4].w0;
      state[t].w1 += sum[t].w1 + sum[t ^ 4].w1;
      if (block < blocks) Scramble(state[t], t);
    }
  }
  std::uint64_t low = 0, high = 0;
  for (int t = 0; t < 4; ++t) {
    low += Quarter(state[t], t);
    high += Quarter(state[t + 4], t + 4);
  }
  return {Finish(low, n, 0), Finish(high, n, 4)};
}

Hash128 Hash(const unsigned char* p, std::size_t n) {
  return n <= 240 ? HashUpTo240(p, static_cast<unsigned>(n)) : LongByEightThreads(p, n);
}

TEST(Xxh3Test, EveryLengthAtSomeAlignments) {
  std::mt19937 random(1);
  std::vector<unsigned char> bytes(8200);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random());
  for (std::size_t offset = 0; offset < 4; ++offset) {
    for (std::size_t n = 0; n + offset <= 8196; ++n) {
      const XXH128_hash_t expected = XXH3_128bits(bytes.data() + offset, n);
      const Hash128 actual = Hash(bytes.data() + offset, n);
      ASSERT_EQ(actual.low, expected.low64) << n << " bytes from " << offset;
      ASSERT_EQ(actual.high, expected.high64) << n << " bytes from " << offset;
    }
  }
}

TEST(Xxh3Test, CanonicalFormIsBigEndian) {
  const Hash128 hash = Hash(nullptr, 0);
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(nullptr, 0));
  const std::uint64_t words[2] = {Swap64(hash.high), Swap64(hash.low)};
  EXPECT_EQ(std::memcmp(words, canonical.digest, 16), 0);
}

}  // namespace
}  // namespace gtest_determinism::internal::xxh3
