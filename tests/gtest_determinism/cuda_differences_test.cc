// Differences counted on the device, and many pairs compared at once, against the
// host. Those named Small... are quick under compute-sanitizer too.
#include <gmock/gmock.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "cuda_test_device.h"
#include "element_words.h"
#include "gtest_determinism/compare.h"
#include "gtest_determinism/diff.h"

namespace gtest_determinism {
namespace {

class CudaDifferences : public DeviceTest {};
class CudaEqualEach : public DeviceTest {};

// Memory of the device that holds `bytes` from an offset on.
class At {
 public:
  At(const std::vector<unsigned char>& bytes, std::size_t offset)
      : offset_(offset), buffer_(DeviceBuffer<unsigned char>::From(Padded(bytes, offset))) {}
  unsigned char* data() const { return buffer_.data() + offset_; }

 private:
  static std::vector<unsigned char> Padded(const std::vector<unsigned char>& bytes, std::size_t offset) {
    std::vector<unsigned char> all(offset, 0xee);
    all.insert(all.end(), bytes.begin(), bytes.end());
    all.resize(all.size() + 16, 0xdd);
    return all;
  }
  std::size_t offset_;
  DeviceBuffer<unsigned char> buffer_;
};

void ExpectAsOnTheHost(DType dtype, const std::vector<unsigned char>& expected,
                       const std::vector<unsigned char>& actual) {
  const std::size_t size = SizeOf(dtype), elements = expected.size() / size;
  std::vector<std::pair<std::size_t, ElementDifferences>> on_the_host;
  for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{2}, 16 / size, 16 / size + 1, elements / 2,
                              elements - 1, elements}) {
    on_the_host.emplace_back(n, HostMemory().DifferencesOf(expected.data(), actual.data(), n, dtype));
  }
  const std::pair<std::size_t, std::size_t> offsets[] = {{0, 0}, {16, 16}, {size, size}, {1, 1}, {0, 3}, {8, 0}};
  for (const auto& [e, a] : offsets) {
    const At device_expected(expected, e), device_actual(actual, a);
    for (const auto& [n, host] : on_the_host) {
      EXPECT_EQ(CudaMemory().DifferencesOf(device_expected.data(), device_actual.data(), n, dtype), host)
          << NameOf(dtype) << ", " << n << " elements from " << e << " and " << a;
    }
  }
}

// A byte in so many.
std::vector<unsigned char> WithFewChanges(std::vector<unsigned char> bytes, std::size_t step) {
  for (std::size_t i = step / 2; i < bytes.size(); i += step) bytes[i] ^= static_cast<unsigned char>(1 + i % 255);
  return bytes;
}

TEST_F(CudaDifferences, SmallEachSpecialWordAgainstEach) {
  for (const DType dtype : kAllDTypes) {
    const PairsOfWords pairs(dtype);
    ExpectAsOnTheHost(dtype, BytesOf(dtype, pairs.expected), BytesOf(dtype, pairs.actual));
  }
}

TEST_F(CudaDifferences, SmallRandomWords) {
  for (const DType dtype : kAllDTypes) {
    const std::vector<unsigned char> bytes = RandomBytes(SizeOf(dtype) * 3001, 1);
    ExpectAsOnTheHost(dtype, bytes, RandomBytes(bytes.size(), 2));
    ExpectAsOnTheHost(dtype, bytes, WithFewChanges(bytes, 1000));
    ExpectAsOnTheHost(dtype, bytes, bytes);
  }
}

// All halves: against their neighbours, their negatives and others.
TEST_F(CudaDifferences, EveryHalf) {
  std::vector<std::uint64_t> all(1 << 16);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const std::uint64_t change : {0x0001, 0x8000, 0x00ff, 0x7c00, 0xffff}) {
      std::vector<std::uint64_t> other = all;
      for (std::uint64_t& word : other) word ^= change;
      ExpectAsOnTheHost(dtype, BytesOf(dtype, all), BytesOf(dtype, other));
    }
  }
}

// More than 1,024 blocks of 256 threads take at once, 16 bytes or an element each.
TEST_F(CudaDifferences, MoreThanOnePassOfAllBlocks) {
  for (const DType dtype : {DType::kBytes, DType::kFloat16, DType::kInt32, DType::kFloat64}) {
    const std::vector<unsigned char> bytes = RandomBytes(9000008, 1);
    ExpectAsOnTheHost(dtype, bytes, RandomBytes(bytes.size(), 2));
    ExpectAsOnTheHost(dtype, bytes, WithFewChanges(bytes, 4500001));
  }
}

TEST_F(CudaDifferences, TheSameEachTime) {
  const std::vector<unsigned char> a = RandomBytes(303872, 1), b = RandomBytes(303872, 2);
  const auto da = DeviceBuffer<unsigned char>::From(a), db = DeviceBuffer<unsigned char>::From(b);
  const ElementDifferences host = HostMemory().DifferencesOf(a.data(), b.data(), 151936, DType::kFloat16);
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(CudaMemory().DifferencesOf(da.data(), db.data(), 151936, DType::kFloat16), host) << i;
  }
}

// The negative control: a bit of any element, first or last, whole words or not.
TEST_F(CudaDifferences, SmallSeesOneBit) {
  for (const DType dtype : {DType::kInt8, DType::kBFloat16, DType::kFloat32, DType::kUInt64}) {
    const std::size_t size = SizeOf(dtype), elements = 2051;
    const std::vector<unsigned char> bytes = RandomBytes(elements * size);
    for (const std::size_t offset : {0, 1}) {
      const At a(bytes, offset), b(bytes, offset);
      const auto count = [&] { return CudaMemory().DifferencesOf(a.data(), b.data(), elements, dtype); };
      EXPECT_EQ(count(), ElementDifferences());
      for (const std::size_t element : {std::size_t{0}, std::size_t{1027}, elements - 1}) {
        const std::size_t byte = element * size + size - 1;
        CudaMemory().Fill(b.data() + byte, bytes[byte] ^ 0x10, 1);
        const ElementDifferences one = count();
        EXPECT_EQ(one.different_elements, 1) << NameOf(dtype);
        EXPECT_EQ(one.different_bytes, 1);
        EXPECT_EQ(one.first, static_cast<std::int64_t>(element));
        EXPECT_EQ(one.expected_word ^ one.actual_word, std::uint64_t{0x10} << 8 * (size - 1));
        CudaMemory().Fill(b.data() + byte, bytes[byte], 1);
      }
      EXPECT_EQ(count(), ElementDifferences());
    }
  }
}

Trace OnTheDevice(const Trace& trace, std::vector<DeviceBuffer<unsigned char>>& memory) {
  Trace moved = trace;
  for (NamedBits& part : moved) {
    const auto* begin = static_cast<const unsigned char*>(part.view.data);
    memory.push_back(DeviceBuffer<unsigned char>::From({begin, part.view.bytes}));
    part.view.data = memory.back().data();
    part.view.space = &CudaMemory();
  }
  return moved;
}

// Whole comparisons: each field, in words.
TEST_F(CudaDifferences, SmallTracesAreDescribedAsOnTheHost) {
  Trace expected, actual;
  std::vector<std::vector<unsigned char>> bytes;
  bytes.reserve(2 * std::size(kAllDTypes));
  for (const DType dtype : kAllDTypes) {
    const PairsOfWords pairs(dtype);
    const auto elements = static_cast<std::int64_t>(pairs.expected.size());
    for (Trace* trace : {&expected, &actual}) {
      bytes.push_back(BytesOf(dtype, trace == &expected ? pairs.expected : pairs.actual));
      NamedBits part{std::string(NameOf(dtype)), {}};
      part.view.data = bytes.back().data();
      part.view.bytes = bytes.back().size();
      part.view.dtype = dtype;
      part.view.shape = {elements / 2, 2};
      trace->push_back(part);
    }
  }
  std::vector<DeviceBuffer<unsigned char>> memory;
  const Trace device_expected = OnTheDevice(expected, memory), device_actual = OnTheDevice(actual, memory);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const BitDiff host = Compare(expected[i].view, actual[i].view);
    const BitDiff device = Compare(device_expected[i].view, device_actual[i].view);
    const BitDiff both = Compare(expected[i].view, device_actual[i].view);
    for (const BitDiff* other : {&device, &both}) {
      EXPECT_FALSE(other->equal);
      EXPECT_EQ(Describe(*other), Describe(host));
      EXPECT_EQ(other->elements, host.elements);
      EXPECT_EQ(other->different_elements, host.different_elements);
      EXPECT_EQ(other->different_bytes, host.different_bytes);
      EXPECT_EQ(other->coordinate, host.coordinate);
      EXPECT_EQ(other->expected_word, host.expected_word);
      EXPECT_EQ(other->actual_word, host.actual_word);
      EXPECT_EQ(other->expected_value, host.expected_value);
      EXPECT_EQ(other->actual_value, host.actual_value);
      EXPECT_EQ(other->ulp, host.ulp);
      EXPECT_EQ(other->max_ulp, host.max_ulp);
      EXPECT_EQ(other->max_abs_difference, host.max_abs_difference);
    }
    EXPECT_TRUE(Compare(device_actual[i].view, device_actual[i].view).equal);
  }
  for (std::size_t equal = 0; equal < expected.size(); ++equal) {
    const std::optional<Divergence> host = CompareTraces(expected, actual);
    const std::optional<Divergence> device = CompareTraces(device_expected, device_actual);
    ASSERT_TRUE(device.has_value());
    EXPECT_EQ(device->part, host->part);
    EXPECT_EQ(device->part_index, static_cast<int>(equal));
    EXPECT_EQ(device->different_parts, static_cast<int>(expected.size() - equal));
    EXPECT_EQ(Describe(device->diff), Describe(host->diff));
    EXPECT_FALSE(internal::HaveSameBits(device_expected, device_actual));
    std::memcpy(bytes[2 * equal + 1].data(), bytes[2 * equal].data(), bytes[2 * equal].size());
    CudaMemory().Copy(const_cast<void*>(device_actual[equal].view.data), device_expected[equal].view.data,
                      device_expected[equal].view.bytes);
  }
  EXPECT_FALSE(CompareTraces(device_expected, device_actual).has_value());
  EXPECT_TRUE(internal::HaveSameBits(device_expected, device_actual));
}

// `count` pairs of many sizes and alignments, of which each third differs, in its
// first byte, its last, or one between.
void ExpectEachThirdDifferent(std::size_t count, std::size_t longest) {
  struct Place {
    std::size_t at, bytes;
    bool equal;
  };
  std::vector<Place> places;
  std::minstd_rand random(11);
  std::size_t end = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t bytes = i % 19 == 18 ? 0 : 1 + random() % longest, misaligned = std::array{0, 4, 2, 1}[i % 4];
    const std::size_t at = (end + 16) / 16 * 16 + misaligned;
    places.push_back({at, bytes, bytes == 0 || i % 3 != 0});
    end = at + bytes;
  }
  const std::vector<unsigned char> a = RandomBytes(end + 1);
  // What lies between them differs always.
  std::vector<unsigned char> b(a.size());
  std::transform(a.begin(), a.end(), b.begin(), [](unsigned char byte) { return byte ^ 1; });
  for (std::size_t i = 0; i < count; ++i) {
    const auto& [at, bytes, equal] = places[i];
    std::copy_n(a.begin() + static_cast<std::ptrdiff_t>(at), bytes, b.begin() + static_cast<std::ptrdiff_t>(at));
    if (!equal) b[at + std::array{std::size_t{0}, bytes - 1, bytes / 2}[i / 3 % 3]] ^= 0x40;
  }
  const auto da = DeviceBuffer<unsigned char>::From(a), db = DeviceBuffer<unsigned char>::From(b);
  std::vector<BytePair> pairs;
  for (const auto& [at, bytes, equal] : places) {
    pairs.push_back(bytes == 0 ? BytePair() : BytePair{da.data() + at, db.data() + at, bytes});
  }
  const std::vector<bool> found = CudaMemory().EqualEach(pairs);
  ASSERT_EQ(found.size(), count);
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_EQ(found[i], places[i].equal) << "pair " << i << " of " << pairs[i].bytes << " bytes";
    if (i % 97 == 0) {
      EXPECT_EQ(CudaMemory().Equal(pairs[i].a, pairs[i].b, pairs[i].bytes), places[i].equal) << i;
    }
  }
}

TEST_F(CudaEqualEach, SmallPairsOfManySizes) { ExpectEachThirdDifferent(300, 3000); }
// More than are waited for at once.
TEST_F(CudaEqualEach, ThousandsOfPairs) { ExpectEachThirdDifferent(9001, 900); }
TEST_F(CudaEqualEach, PiecesOfAPairGoToManyBlocks) { ExpectEachThirdDifferent(64, 400000); }
// Some above the size that has a launch of its own.
TEST_F(CudaEqualEach, LargeOnesAmongSmallOnes) { ExpectEachThirdDifferent(20, 12 << 20); }

TEST_F(CudaEqualEach, SmallNone) {
  EXPECT_TRUE(CudaMemory().EqualEach({}).empty());
  const BytePair empty[] = {{}, {}};
  EXPECT_THAT(CudaMemory().EqualEach(empty), testing::ElementsAre(true, true));
}

}  // namespace
}  // namespace gtest_determinism
