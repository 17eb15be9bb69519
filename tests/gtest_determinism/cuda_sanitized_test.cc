// Every kernel of gtest_determinism::cuda, each instance of its template and each way through it
// once, on little memory: what compute-sanitizer runs (tests/kernels/sanitize_cuda.sh), whose
// racecheck takes minutes for the thousands of launches of cuda_digest_test.cc.
#include <gmock/gmock.h>

#include <algorithm>
#include <limits>

#include "cuda_test_device.h"
#include "element_words.h"
#include "gtest_determinism/digest.h"
#include "gtest_determinism/internal/cuda_kernels.h"

namespace gtest_determinism {
namespace {

constexpr std::uint64_t kNone = std::numeric_limits<std::uint64_t>::max();

class CudaSanitized : public DeviceTest {
 protected:
  void CheckDigests(const std::vector<std::size_t>& lengths, const std::vector<std::size_t>& offsets) {
    const std::vector<unsigned char> bytes = RandomBytes(lengths.back() + 16);
    const auto device = DeviceBuffer<unsigned char>::From(bytes);
    CudaDigestQueue queue;
    for (const std::size_t n : lengths) {
      for (const std::size_t offset : offsets) queue.Enqueue(device.data() + offset, n, stream_);
    }
    const std::vector<Digest> digests = queue.Take();
    ASSERT_EQ(digests.size(), lengths.size() * offsets.size());
    std::size_t i = 0;
    for (const std::size_t n : lengths) {
      for (const std::size_t offset : offsets) {
        EXPECT_EQ(ToHex(digests[i]), ToHex(TreeDigest(bytes.data() + offset, n))) << n << " bytes from " << offset;
        // The control: one byte more is something else.
        EXPECT_NE(ToHex(digests[i]), ToHex(TreeDigest(bytes.data() + offset, n + 1))) << n << " bytes from " << offset;
        ++i;
      }
    }
  }
};

// Chunks of 4,096 bytes. Up to 32: one block. Up to 256: where the address is aligned to 16 the
// last block does the rest, else a launch of its own. More: one level more. Whole chunks, and a
// tail of each kind: words alone, up to 240 bytes, more.
TEST_F(CudaSanitized, DigestsOfOneBlock) { CheckDigests({0, 1, 17, 200, 241, 4096, 4097, 131072}, {0, 1, 2, 4}); }
TEST_F(CudaSanitized, DigestsOfSeveralBlocks) { CheckDigests({131073, 139264, 1048576}, {0, 1, 2, 4}); }
TEST_F(CudaSanitized, DigestsOfSeveralLevels) { CheckDigests({1048577, 1100000}, {0, 1, 2, 4}); }
// More than 8,192 chunks: a launch for each level, also where it is aligned.
TEST_F(CudaSanitized, DigestsOfSeveralLaunches) { CheckDigests({33558529}, {0}); }

// Of several blocks, and of less than one: 16 bytes at a time, elements, and elements byte by byte.
TEST_F(CudaSanitized, DifferencesOfEveryType) {
  for (const DType dtype : kAllDTypes) {
    const std::size_t size = SizeOf(dtype);
    const std::vector<unsigned char> x = RandomBytes(20000 + 24, 1), y = RandomBytes(20000 + 24, 2);
    const auto a = DeviceBuffer<unsigned char>::From(x), b = DeviceBuffer<unsigned char>::From(y);
    for (const std::size_t offset : {std::size_t{0}, size, std::size_t{1}}) {
      for (const std::size_t elements : {20000 / size, std::size_t{3}}) {
        EXPECT_EQ(CudaMemory().DifferencesOf(a.data() + offset, b.data() + offset, elements, dtype),
                  HostMemory().DifferencesOf(x.data() + offset, y.data() + offset, elements, dtype))
            << NameOf(dtype) << " from " << offset;
      }
    }
  }
}

// More than one launch of them, and one with a launch of its own.
TEST_F(CudaSanitized, PairsAtOnce) {
  constexpr std::size_t kPairs = 130, kBytes = 1000, kLarge = (std::size_t{4} << 20) + 1;
  const std::vector<unsigned char> bytes = RandomBytes(kLarge);
  const auto a = DeviceBuffer<unsigned char>::From(bytes), b = DeviceBuffer<unsigned char>::From(bytes);
  CudaMemory().Fill(b.data() + 20 * kBytes, bytes[20 * kBytes] ^ 1, 1);
  std::vector<BytePair> pairs;
  for (std::size_t i = 0; i < kPairs; ++i)
    pairs.push_back({a.data() + i * kBytes + i % 8, b.data() + i * kBytes + i % 8, 990});
  pairs.push_back({a.data(), b.data(), kLarge});
  std::vector<bool> expected(kPairs + 1, true);
  expected[kPairs] = false;
  EXPECT_EQ(CudaMemory().EqualEach(pairs), expected);  // pair 20 begins behind the byte
  CudaMemory().Fill(b.data() + 20 * kBytes + 500, bytes[20 * kBytes + 500] ^ 1, 1);
  expected[20] = false;
  EXPECT_EQ(CudaMemory().EqualEach(pairs), expected);
}

TEST_F(CudaSanitized, Comparisons) {
  for (const std::size_t n : {std::size_t{1}, std::size_t{17}, std::size_t{4099}, std::size_t{70003}}) {
    const std::vector<unsigned char> bytes = RandomBytes(n + 4);
    const auto a = DeviceBuffer<unsigned char>::From(bytes), b = DeviceBuffer<unsigned char>::From(bytes);
    for (const std::size_t offset : {0, 1, 2, 4}) {
      CudaCompareQueue queue;
      queue.Enqueue(a.data() + offset, b.data() + offset, n, stream_);
      EXPECT_EQ(queue.Take().at(0), kNone) << n << " from " << offset;
      CudaMemory().Fill(b.data() + offset + n / 2, bytes[offset + n / 2] ^ 1, 1);
      queue.Enqueue(a.data() + offset, b.data() + offset, n, stream_);
      EXPECT_EQ(queue.Take().at(0), n / 2) << n << " from " << offset;
      CudaMemory().Fill(b.data() + offset + n / 2, bytes[offset + n / 2], 1);
    }
  }
}

TEST_F(CudaSanitized, ElementsHoldingAByte) {
  std::vector<unsigned char> bytes = RandomBytes(8000);
  for (std::size_t i = 0; i < bytes.size(); i += 1000) std::fill_n(bytes.begin() + static_cast<long>(i), 8, 0xa5);
  const auto device = DeviceBuffer<unsigned char>::From(bytes);
  for (const std::size_t size : {1, 2, 4, 8}) {
    const std::vector<std::int64_t> expected =
        HostMemory().ElementsHolding(bytes.data(), bytes.size() / size, size, 0xa5);
    EXPECT_GE(expected.size(), 8u);
    EXPECT_EQ(CudaMemory().ElementsHolding(device.data(), bytes.size() / size, size, 0xa5), expected) << size;
    EXPECT_EQ(CudaMemory().ElementsHolding(device.data(), bytes.size() / size, size, 0xa5, &expected), expected);
  }
}

// What perturbations launch.
TEST_F(CudaSanitized, Perturbations) {
  constexpr std::size_t kWords = 1 << 16;
  const DeviceBuffer<std::uint32_t> buffer({kWords}), sink({1});
  const DeviceBuffer<unsigned> stop({1});
  CudaMemory().Fill(buffer.data(), 1, kWords * 4);
  CudaMemory().Fill(sink.data(), 0, 4);
  CudaMemory().Fill(stop.data(), 0, 4);
  CudaMemory().Synchronize();
  internal::LaunchPlainRead(buffer.data(), kWords * 4, sink.data(), stream_);
  internal::LaunchCompete(2, stop.data(), 200000, buffer.data(), kWords, 1, stream_);
  internal::LaunchHoldStream(1000, stream_);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_EQ(sink.ToHost()[0], 0u);
}

}  // namespace
}  // namespace gtest_determinism
