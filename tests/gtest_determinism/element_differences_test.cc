// The one function that counts differences on the host and on a device, against
// readings of the formats that share nothing with it.
#include "gtest_determinism/internal/element_differences.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "element_words.h"
#include "far_memory.h"

namespace gtest_determinism {
namespace {

using Wide = __int128;

double HalfValue(std::uint64_t word) {
  const int exponent = static_cast<int>(word >> 10 & 31), mantissa = static_cast<int>(word & 1023);
  const double magnitude = exponent == 31  ? mantissa == 0 ? std::numeric_limits<double>::infinity()
                                                           : std::numeric_limits<double>::quiet_NaN()
                            : exponent == 0 ? std::ldexp(mantissa, -24)
                                           : std::ldexp(1024 + mantissa, exponent - 25);
  return (word >> 15 & 1) != 0 ? -magnitude : magnitude;
}

bool ReadFloat(DType dtype, std::uint64_t word, double& value) {
  switch (dtype) {
    case DType::kFloat16:
      value = HalfValue(word);
      return true;
    case DType::kBFloat16:
      value = std::bit_cast<float>(static_cast<std::uint32_t>(word << 16));
      return true;
    case DType::kFloat32:
      value = std::bit_cast<float>(static_cast<std::uint32_t>(word));
      return true;
    case DType::kFloat64:
      value = std::bit_cast<double>(word);
      return true;
    default:
      return false;
  }
}

Wide ReadInteger(DType dtype, std::uint64_t word) {
  switch (dtype) {
    case DType::kInt8:
      return static_cast<std::int8_t>(word);
    case DType::kInt16:
      return static_cast<std::int16_t>(word);
    case DType::kInt32:
      return static_cast<std::int32_t>(word);
    case DType::kInt64:
      return static_cast<std::int64_t>(word);
    default:
      return word;
  }
}

// Numbers of one format in their order, -0 and +0 in one place.
Wide Place(DType dtype, std::uint64_t word) {
  const std::size_t sign = 8 * SizeOf(dtype) - 1;
  const Wide magnitude = word & ((std::uint64_t{1} << sign) - 1);
  return (word >> sign & 1) != 0 ? -magnitude : magnitude;
}

Wide Magnitude(Wide x) { return x < 0 ? -x : x; }

ElementDifferences Reference(DType dtype, const std::vector<std::uint64_t>& expected,
                             const std::vector<std::uint64_t>& actual) {
  ElementDifferences sum;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const std::uint64_t e = expected[i], a = actual[i];
    if (e == a) continue;
    if (sum.different_elements++ == 0) {
      sum.first = static_cast<std::int64_t>(i);
      sum.expected_word = e;
      sum.actual_word = a;
    }
    for (int byte = 0; byte < 8; ++byte) sum.different_bytes += (e >> 8 * byte & 255) != (a >> 8 * byte & 255);
    double x = 0, y = 0, difference = 0;
    if (ReadFloat(dtype, e, x) && ReadFloat(dtype, a, y)) {
      if (!std::isnan(x) && !std::isnan(y)) {
        const auto ulp = static_cast<std::uint64_t>(Magnitude(Place(dtype, e) - Place(dtype, a)));
        sum.max_ulp = std::max(sum.max_ulp.value_or(0), ulp);
      }
      difference = std::abs(x - y);
      if (std::isnan(difference)) continue;
    } else if (dtype == DType::kBytes || dtype == DType::kBool) {
      continue;
    } else {
      difference = static_cast<double>(Magnitude(ReadInteger(dtype, e) - ReadInteger(dtype, a)));
    }
    sum.max_abs_difference = std::max(sum.max_abs_difference.value_or(0), difference);
  }
  return sum;
}

class ElementDifferencesTest : public testing::TestWithParam<DType> {};

ElementDifferences OnTheHost(DType dtype, const std::vector<std::uint64_t>& expected,
                             const std::vector<std::uint64_t>& actual) {
  return HostMemory().DifferencesOf(BytesOf(dtype, expected).data(), BytesOf(dtype, actual).data(), expected.size(),
                                    dtype);
}

TEST_P(ElementDifferencesTest, EachSpecialWordAgainstEach) {
  for (const std::uint64_t e : SpecialWords(GetParam())) {
    for (const std::uint64_t a : SpecialWords(GetParam())) {
      EXPECT_EQ(OnTheHost(GetParam(), {e}, {a}), Reference(GetParam(), {e}, {a})) << std::hex << e << " " << a;
    }
  }
  const PairsOfWords pairs(GetParam());
  EXPECT_EQ(OnTheHost(GetParam(), pairs.expected, pairs.actual), Reference(GetParam(), pairs.expected, pairs.actual));
}

TEST_P(ElementDifferencesTest, RandomWordsInPiecesOfAnySpace) {
  const std::size_t size = SizeOf(GetParam()), elements = (std::size_t{1} << 20) / size + 1003;  // two pieces
  std::vector<std::uint64_t> expected(elements), actual(elements);
  std::mt19937_64 random(3);
  for (std::size_t i = 0; i < elements; ++i) {
    expected[i] = random() >> (64 - 8 * size);
    // Some of the first piece, all of the second.
    actual[i] = i < 300 || (i < elements - 1003 && random() % 4 != 0) ? expected[i] : random() >> (64 - 8 * size);
  }
  std::vector<unsigned char> e = BytesOf(GetParam(), expected), a = BytesOf(GetParam(), actual);
  const ElementDifferences reference = Reference(GetParam(), expected, actual);
  EXPECT_EQ(HostMemory().DifferencesOf(e.data(), a.data(), elements, GetParam()), reference);
  const FarMemory far;
  EXPECT_EQ(far.DifferencesOf(FarMemory::Far(e.data()), FarMemory::Far(a.data()), elements, GetParam()), reference);
  EXPECT_EQ(far.copies_to_host, 4);
  EXPECT_EQ(far.DifferencesOf(FarMemory::Far(e.data()), FarMemory::Far(e.data()), elements, GetParam()),
            ElementDifferences());
}

// As blocks of a device do: the same whichever way parts are put together.
TEST_P(ElementDifferencesTest, PartsInAnyOrder) {
  const PairsOfWords pairs(GetParam());
  const std::size_t elements = pairs.expected.size(), size = SizeOf(GetParam());
  const std::vector<unsigned char> e = BytesOf(GetParam(), pairs.expected), a = BytesOf(GetParam(), pairs.actual);
  std::vector<internal::DifferenceCount> counts;
  for (std::size_t at = 0; at < elements; at += 7) {
    internal::DifferenceCount count{};
    internal::CountOnHost(count, GetParam(), at, e.data() + at * size, a.data() + at * size,
                          std::min<std::size_t>(7, elements - at));
    counts.push_back(count);
  }
  counts.push_back({});
  std::minstd_rand random(5);
  for (int round = 0; round < 5; ++round) {
    std::shuffle(counts.begin(), counts.end(), random);
    internal::DifferenceCount sum{};
    for (const internal::DifferenceCount& count : counts) internal::AddCount(sum, count);
    EXPECT_EQ(internal::ToElementDifferences(sum), Reference(GetParam(), pairs.expected, pairs.actual));
  }
}

TEST_P(ElementDifferencesTest, TheKindHasTheSizeOfItsType) {
  EXPECT_EQ(internal::WithElementKind(GetParam(), []<class Kind>(Kind) { return sizeof(typename Kind::Word); }),
            SizeOf(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Of, ElementDifferencesTest, testing::ValuesIn(kAllDTypes),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

TEST(BytesThatAreNotZero, EachByte) {
  for (unsigned places = 0; places < 256; ++places) {
    for (const std::uint64_t value : {0x01, 0x7f, 0x80, 0xff}) {
      std::uint64_t word = 0;
      for (int byte = 0; byte < 8; ++byte) word |= (places >> byte & 1) * value << 8 * byte;
      EXPECT_EQ(internal::BytesThatAreNotZero(word), static_cast<unsigned>(std::popcount(places))) << std::hex << word;
    }
  }
}

}  // namespace
}  // namespace gtest_determinism
