#include "gtest_determinism/digest.h"

#include <gtest/gtest.h>

#include <vector>

#include "far_memory.h"
#include "gtest_determinism/has_bits.h"

namespace gtest_determinism {
namespace {

std::vector<unsigned char> Bytes(std::size_t n) {
  std::vector<unsigned char> bytes(n);
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<unsigned char>(i * 131 + 7);
  return bytes;
}

// From the definition in digest.h, by the Python package xxhash 3.
struct Golden {
  std::size_t bytes;
  const char* digest;
};
constexpr Golden kGolden[] = {
    {0, "2c0a8a99dc147d5445c3b49d035665b2"},       {1, "d3b6983ee1dd0b134b046b561ed7d8b7"},
    {16, "7d6733e089803832da859513b73fae52"},      {240, "c89362f7e86a1c74028380a39f8d1dd0"},
    {241, "58f96e39da04a9b6a26aa646276ed066"},     {4095, "1a4a1efe1816bc98b880394bb7a00746"},
    {4096, "37f67321bee31fea61f00f70afce07dd"},    {4097, "64792fb2c16f1cefe98ce679e7b8fc21"},
    {8192, "160c9707b2ee9b444e89c4419de5986b"},    {10000, "2c7bea01a33f25db4a9840edee6e48e1"},
    {1048576, "98306e886cb637756371ba04f0c06ca6"}, {1048577, "3acb69128e2fa514e06d72f30f46fae4"},
    {1048581, "2029ae7006dd53dc7286c81b25a529fb"}, {5000001, "c562e1080dab4968036f1c169c0c227f"},
};

TEST(TreeDigestTest, GoldenValues) {
  for (const Golden& golden : kGolden) {
    const std::vector<unsigned char> bytes = Bytes(golden.bytes);
    EXPECT_EQ(ToHex(TreeDigest(bytes.data(), bytes.size())), golden.digest) << golden.bytes;
  }
}

TEST(TreeDigestTest, SameInEverySpace) {
  const FarMemory far;
  for (const Golden& golden : kGolden) {
    std::vector<unsigned char> bytes = Bytes(golden.bytes);
    EXPECT_EQ(ToHex(far.DigestOf(FarMemory::Far(bytes.data()), bytes.size())), golden.digest) << golden.bytes;
    EXPECT_EQ(ToHex(HostMemory().DigestOf(bytes.data(), bytes.size())), golden.digest) << golden.bytes;
  }
}

TEST(TreeDigestTest, SeesOneBitAndTheOrderOfChunks) {
  std::vector<unsigned char> bytes = Bytes(3 * kDigestChunkBytes);
  const Digest before = TreeDigest(bytes.data(), bytes.size());
  bytes[2 * kDigestChunkBytes + 5] ^= 1;
  EXPECT_NE(TreeDigest(bytes.data(), bytes.size()), before);
  bytes[2 * kDigestChunkBytes + 5] ^= 1;
  EXPECT_EQ(TreeDigest(bytes.data(), bytes.size()), before);

  std::vector<unsigned char> chunks(2 * kDigestChunkBytes, 1);
  std::fill(chunks.begin() + kDigestChunkBytes, chunks.end(), 2);
  const Digest ordered = TreeDigest(chunks.data(), chunks.size());
  std::rotate(chunks.begin(), chunks.begin() + kDigestChunkBytes, chunks.end());
  EXPECT_NE(TreeDigest(chunks.data(), chunks.size()), ordered);
}

TEST(TraceDigestTest, GoldenValue) {
  const std::vector<float> logits = {1, 2, 3, 4, 5, 6};
  const std::vector<std::int64_t> tokens = {7, 9};
  Trace trace;
  AppendPart(trace, "logits", logits);
  trace[0].view.shape = {2, 3};
  AppendPart(trace, "tokens", tokens);
  EXPECT_EQ(ToHex(DigestOf(trace)), "472636ddb0f8b192f94459ec640d2eb4");
}

TEST(TraceDigestTest, NameDTypeAndShapeCount) {
  const std::vector<float> values = {1, 2, 3, 4};
  const Trace trace = TraceOf(values);
  Trace other = trace;
  EXPECT_EQ(DigestOf(other), DigestOf(trace));
  other[0].name = "x";
  EXPECT_NE(DigestOf(other), DigestOf(trace));
  other = trace;
  other[0].view.dtype = DType::kInt32;
  EXPECT_NE(DigestOf(other), DigestOf(trace));
  other = trace;
  other[0].view.shape = {2, 2};
  EXPECT_NE(DigestOf(other), DigestOf(trace));
  other = trace;
  other.push_back(trace[0]);
  EXPECT_NE(DigestOf(other), DigestOf(trace));
}

}  // namespace
}  // namespace gtest_determinism
