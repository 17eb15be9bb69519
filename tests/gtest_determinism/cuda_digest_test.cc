// Digests and comparisons on the device, and their queues, against the host.
#include <gmock/gmock.h>

#include <algorithm>
#include <limits>

#include "cuda_test_device.h"
#include "cuda_test_kernels.h"
#include "gtest_determinism/digest.h"

namespace gtest_determinism {
namespace {

constexpr std::uint64_t kNone = std::numeric_limits<std::uint64_t>::max();

class CudaDigest : public DeviceTest {};
class CudaCompare : public DeviceTest {};

TEST_F(CudaDigest, EveryLengthUpToTwoChunks) {
  const std::vector<unsigned char> bytes = RandomBytes(8200);
  const auto device = DeviceBuffer<unsigned char>::From(bytes);
  CudaDigestQueue queue;
  for (std::size_t n = 0; n <= 8200; ++n) queue.Enqueue(device.data(), n, stream_);
  const std::vector<Digest> digests = queue.Take();
  ASSERT_EQ(digests.size(), 8201u);
  for (std::size_t n = 0; n <= 8200; ++n) {
    ASSERT_EQ(ToHex(digests[n]), ToHex(TreeDigest(bytes.data(), n))) << n << " bytes";
  }
}

TEST_F(CudaDigest, LengthsAroundEachLevelAtEveryAlignment) {
  // One block up to 32 chunks, one level up to 256, one launch up to 8,192.
  const std::size_t lengths[] = {1,       17,      241,     4097,    131071,   131072,   131073,   135168,   1048575,
                                 1048576, 1048577, 1048592, 5000001, 33554431, 33554432, 33554433, 33558537, 70000003};
  const std::vector<unsigned char> bytes = RandomBytes(70000003 + 16);
  const auto device = DeviceBuffer<unsigned char>::From(bytes);
  CudaDigestQueue queue;
  std::vector<std::pair<std::size_t, std::size_t>> asked;
  for (const std::size_t n : lengths) {
    for (std::size_t offset = 0; offset < 16; ++offset) {
      if (n > 6000000 && offset > 2 && offset != 4) continue;
      queue.Enqueue(device.data() + offset, n, stream_);
      asked.emplace_back(offset, n);
    }
  }
  const std::vector<Digest> digests = queue.Take();
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const auto [offset, n] = asked[i];
    ASSERT_EQ(ToHex(digests[i]), ToHex(TreeDigest(bytes.data() + offset, n))) << n << " bytes from " << offset;
  }
}

TEST_F(CudaDigest, OfTheSpaceIsThatOfTheHost) {
  const std::vector<unsigned char> bytes = RandomBytes(3000017);
  const auto device = DeviceBuffer<unsigned char>::From(bytes);
  const MemorySpace& space = CudaMemory();
  for (const std::size_t n : {std::size_t{0}, std::size_t{100}, std::size_t{3000017}, std::size_t{4096}}) {
    EXPECT_EQ(ToHex(space.DigestOf(device.data(), n)), ToHex(TreeDigest(bytes.data(), n))) << n;
  }
}

TEST_F(CudaDigest, SeesOneBit) {
  std::vector<unsigned char> bytes = RandomBytes(40000000);
  const auto device = DeviceBuffer<unsigned char>::From(bytes);
  const MemorySpace& space = CudaMemory();
  const Digest before = space.DigestOf(device.data(), bytes.size());
  for (const std::size_t at : {std::size_t{0}, std::size_t{20000001}, std::size_t{39999999}}) {
    space.Fill(device.data() + at, bytes[at] ^ 1, 1);
    EXPECT_NE(space.DigestOf(device.data(), bytes.size()), before) << at;
    space.Fill(device.data() + at, bytes[at], 1);
    EXPECT_EQ(space.DigestOf(device.data(), bytes.size()), before) << at;
  }
}

TEST_F(CudaDigest, QueueGrowsAndBeginsAnew) {
  const std::vector<unsigned char> bytes = RandomBytes(100000);
  const auto device = DeviceBuffer<unsigned char>::From(bytes);
  CudaDigestQueue queue;
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < 9000; ++i) EXPECT_EQ(queue.Enqueue(device.data() + i, 64 + i % 7, stream_), i);
    const std::vector<Digest> digests = queue.Take();
    ASSERT_EQ(digests.size(), 9000u);
    for (std::size_t i = 0; i < 9000; i += 97) {
      ASSERT_EQ(digests[i], TreeDigest(bytes.data() + i, 64 + i % 7)) << i;
    }
    EXPECT_TRUE(queue.Take().empty());
  }
}

// Scratch memory is not shared between streams: large digests on four at a time.
TEST_F(CudaDigest, StreamsDoNotDisturbEachOther) {
  const std::vector<unsigned char> bytes = RandomBytes(12000000);
  const auto device = DeviceBuffer<unsigned char>::From(bytes);
  cudaStream_t streams[4];
  for (cudaStream_t& stream : streams) ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  CudaDigestQueue queue;
  for (std::size_t i = 0; i < 200; ++i) queue.Enqueue(device.data() + 16 * i, 11000000 + i, streams[i % 4]);
  const std::vector<Digest> digests = queue.Take();
  for (std::size_t i = 0; i < 200; i += 3) {
    ASSERT_EQ(digests[i], TreeDigest(bytes.data() + 16 * i, 11000000 + i)) << i;
  }
  for (const cudaStream_t stream : streams) EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(CudaDigest, DigestIsOrderedAfterWorkOnItsStream) {
  const std::int64_t n = 300000;
  std::vector<float> expected(n);
  for (std::int64_t i = 0; i < n; ++i) expected[static_cast<std::size_t>(i)] = 6.0f + static_cast<float>(i);
  const DeviceBuffer<float> x({n}), y({n});
  LaunchIota(x.data(), n, 5, stream_);
  LaunchSlowIncrement(x.data(), y.data(), n, 200000, stream_);
  CudaDigestQueue queue;
  queue.Enqueue(y.data(), n * sizeof(float), stream_);
  EXPECT_EQ(queue.Take().at(0), TreeDigest(expected.data(), expected.size() * sizeof(float)));
}

TEST_F(CudaDigest, InACapturedGraph) {
  const std::int64_t n = 1000000;
  const DeviceBuffer<float> x({n}), y({n});
  LaunchIota(x.data(), n, 0, stream_);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  CudaDigestQueue queue;
  CudaCompareQueue compare;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  // Nothing has been allocated yet: it is, though the stream is being captured.
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeGlobal), cudaSuccess);
  queue.Enqueue(x.data(), 5000, stream_);
  LaunchSlowIncrement(x.data(), y.data(), n, 0, stream_);
  queue.Enqueue(y.data(), n * sizeof(float), stream_);
  compare.Enqueue(x.data(), y.data(), n * sizeof(float), stream_);
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  for (int replay = 0; replay < 3; ++replay) {
    LaunchIota(x.data(), n, static_cast<float>(replay), stream_);
    ASSERT_EQ(cudaGraphLaunch(executable, stream_), cudaSuccess);
    const std::vector<Digest> digests = queue.Read();
    const std::vector<float> sx = x.ToHost(), sy = y.ToHost();
    ASSERT_EQ(digests.size(), 2u);
    EXPECT_EQ(digests[0], TreeDigest(sx.data(), 5000)) << replay;
    EXPECT_EQ(digests[1], TreeDigest(sy.data(), sy.size() * sizeof(float))) << replay;
    EXPECT_EQ(sy[17], static_cast<float>(replay) + 18);
  }
  // 0 becomes 1, whose third byte is the first that is another.
  EXPECT_EQ(compare.Take().at(0), 2u);
  EXPECT_EQ(queue.Take().size(), 2u);
  EXPECT_EQ(cudaGraphExecDestroy(executable), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

TEST_F(CudaCompare, FindsTheFirstByteAtEachAlignment) {
  const MemorySpace& space = CudaMemory();
  for (const std::size_t n : {std::size_t{1}, std::size_t{15}, std::size_t{16}, std::size_t{17}, std::size_t{4095},
                              std::size_t{65536}, std::size_t{1000003}}) {
    const std::vector<unsigned char> bytes = RandomBytes(n + 8);
    const auto a = DeviceBuffer<unsigned char>::From(bytes);
    const auto b = DeviceBuffer<unsigned char>::From(bytes);
    CudaCompareQueue queue;
    for (const std::size_t offset : {0, 1, 2, 4}) {
      const unsigned char *pa = a.data() + offset, *pb = b.data() + offset;
      EXPECT_TRUE(space.Equal(pa, pb, n)) << n << " from " << offset;
      for (const std::size_t at : {std::size_t{0}, n / 3, n / 2, n - 1}) {
        space.Fill(b.data() + offset + at, bytes[offset + at] ^ 0x80, 1);
        EXPECT_FALSE(space.Equal(pa, pb, n)) << n << " from " << offset << " at " << at;
        // What lies before and behind is not compared.
        EXPECT_TRUE(space.Equal(pa, pb, at));
        EXPECT_TRUE(space.Equal(pa + at + 1, pb + at + 1, n - at - 1));
        queue.Enqueue(pa, pb, n, stream_);
        // A second difference behind it changes nothing.
        const unsigned char behind = bytes[offset + n - 1];
        space.Fill(b.data() + offset + n - 1, behind ^ 1, 1);
        queue.Enqueue(pa, pb, n, stream_);
        const std::vector<std::uint64_t> first = queue.Take();
        EXPECT_EQ(first.at(0), at) << n << " from " << offset;
        EXPECT_EQ(first.at(1), at) << n << " from " << offset;
        space.Fill(b.data() + offset + n - 1, behind, 1);
        space.Fill(b.data() + offset + at, bytes[offset + at], 1);
      }
      queue.Enqueue(pa, pb, n, stream_);
      EXPECT_EQ(queue.Take().at(0), kNone);
    }
  }
}

TEST_F(CudaCompare, PointersOfDifferentAlignment) {
  std::vector<unsigned char> bytes = RandomBytes(100003);
  const auto a = DeviceBuffer<unsigned char>::From(bytes);
  bytes.insert(bytes.begin(), 7);
  const auto b = DeviceBuffer<unsigned char>::From(bytes);
  EXPECT_TRUE(CudaMemory().Equal(a.data(), b.data() + 1, 100003));
  EXPECT_FALSE(CudaMemory().Equal(a.data(), b.data(), 100003));
}

TEST_F(CudaCompare, EverythingDiffers) {
  const DeviceBuffer<float> a({5000000}), b({5000000});
  CudaMemory().Fill(a.data(), 1, 20000000);
  CudaMemory().Fill(b.data(), 2, 20000000);
  CudaCompareQueue queue;
  queue.Enqueue(a.data(), b.data(), 20000000, stream_);
  queue.Enqueue(a.data(), a.data(), 20000000, stream_);
  queue.Enqueue(a.data(), b.data(), 0, stream_);
  EXPECT_THAT(queue.Take(), testing::ElementsAre(0u, kNone, kNone));
}

TEST_F(CudaCompare, ElementsHoldingAByte) {
  std::vector<unsigned char> bytes = RandomBytes(800000);
  for (std::size_t i = 0; i < bytes.size(); i += 1000) std::fill_n(bytes.begin() + i, 8, 0xa5);
  const auto device = DeviceBuffer<unsigned char>::From(bytes);
  const MemorySpace& space = CudaMemory();
  for (const std::size_t size : {1, 2, 4, 8}) {
    const std::vector<std::int64_t> expected =
        HostMemory().ElementsHolding(bytes.data(), bytes.size() / size, size, 0xa5);
    EXPECT_GE(expected.size(), 800u);
    EXPECT_EQ(space.ElementsHolding(device.data(), bytes.size() / size, size, 0xa5), expected) << size;
    std::vector<std::int64_t> among(expected.begin(), expected.begin() + 100);
    among.insert(among.begin() + 1, among[0] + 3);
    std::sort(among.begin(), among.end());
    EXPECT_EQ(space.ElementsHolding(device.data(), bytes.size() / size, size, 0xa5, &among),
              HostMemory().ElementsHolding(bytes.data(), bytes.size() / size, size, 0xa5, &among));
    EXPECT_TRUE(space.ElementsHolding(device.data(), 0, size, 0xa5).empty());
  }
}

}  // namespace
}  // namespace gtest_determinism
