#include "gtest_determinism/diff.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "far_memory.h"
#include "gtest_determinism/has_bits.h"
#include "gtest_determinism/internal/float_formats.h"

namespace gtest_determinism {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <class T>
BitView View(const std::vector<T>& values, std::vector<std::int64_t> shape = {}, std::optional<DType> dtype = {}) {
  BitView view = TraceOf(values)[0].view;
  if (!shape.empty()) view.shape = std::move(shape);
  if (dtype) view.dtype = *dtype;
  return view;
}

TEST(Compare, EqualBits) {
  const std::vector<float> a = {1, 2, 3}, b = a;
  const BitDiff diff = Compare(View(a), View(b));
  EXPECT_TRUE(diff.equal);
  EXPECT_EQ(diff.elements, 3);
  EXPECT_EQ(Describe(diff), "all 3 elements have equal bits");
}

TEST(Compare, FirstDifferenceWithItsCoordinate) {
  std::vector<std::uint16_t> a(65536, 0x3c00), b = a;
  b[8197] = 0x3c01;
  b[10000] = 0x3c02;
  const BitDiff diff = Compare(View(a, {16, 4096}, DType::kFloat16), View(b, {16, 4096}, DType::kFloat16));
  EXPECT_FALSE(diff.equal);
  EXPECT_EQ(diff.different_elements, 2);
  EXPECT_EQ(diff.different_bytes, 2);
  EXPECT_EQ(diff.element, 8197);
  EXPECT_THAT(diff.coordinate, ElementsAre(2, 5));
  EXPECT_EQ(diff.ulp, 1u);
  EXPECT_EQ(diff.max_ulp, 2u);
  EXPECT_EQ(Describe(diff),
            "element 8197 = [2, 5]; 0x3c01 (1.001) instead of 0x3c00 (1), 1 ulp; 2 of 65536 elements differ, max "
            "|difference| 0.00195, max 2 ulp");
}

TEST(Compare, NegativeZeroIsNotZero) {
  const std::vector<float> a = {0.0f}, b = {-0.0f};
  const BitDiff diff = Compare(View(a), View(b));
  EXPECT_FALSE(diff.equal);
  EXPECT_EQ(diff.expected_value, "0");
  EXPECT_EQ(diff.actual_value, "-0");
  EXPECT_EQ(diff.ulp, 0u);
}

TEST(Compare, NanPayloadsCountAndANanEqualsItself) {
  const std::vector<std::uint32_t> a = {0x7fc00000}, b = {0x7fc00001};
  EXPECT_TRUE(Compare(View(a, {}, DType::kFloat32), View(a, {}, DType::kFloat32)).equal);
  const BitDiff diff = Compare(View(a, {}, DType::kFloat32), View(b, {}, DType::kFloat32));
  EXPECT_FALSE(diff.equal);
  EXPECT_EQ(diff.ulp, std::nullopt);
  EXPECT_EQ(diff.max_abs_difference, std::nullopt);
  EXPECT_EQ(Describe(diff), "element 0; 0x7fc00001 (nan) instead of 0x7fc00000 (nan); 1 of 1 elements differ");
}

TEST(Compare, NanElsewhereDoesNotHideTheLargestDifference) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> a = {1, 1, 1}, b = {nan, 3, 2};
  const BitDiff diff = Compare(View(a), View(b));
  EXPECT_EQ(diff.different_elements, 3);
  EXPECT_EQ(diff.ulp, std::nullopt);
  EXPECT_EQ(diff.max_abs_difference, 2.0);
}

TEST(Compare, ShapeAndDTypeAreCompared) {
  const std::vector<float> a(6), b(6), c(5);
  EXPECT_EQ(Compare(View(a, {2, 3}), View(b, {3, 2})).mismatch, "float32[3, 2] instead of float32[2, 3]");
  EXPECT_EQ(Compare(View(a), View(b, {}, DType::kInt32)).mismatch, "int32[6] instead of float32[6]");
  EXPECT_EQ(Compare(View(a), View(c)).mismatch, "float32[5] instead of float32[6]");
  EXPECT_FALSE(Compare(View(a), View(c)).equal);
}

TEST(Compare, IntegersOfFullRange) {
  const std::vector<std::int64_t> a = {std::numeric_limits<std::int64_t>::min()},
                                  b = {std::numeric_limits<std::int64_t>::max()};
  const BitDiff diff = Compare(View(a), View(b));
  EXPECT_EQ(diff.actual_value, "9223372036854775807");
  EXPECT_EQ(diff.expected_value, "-9223372036854775808");
  EXPECT_EQ(diff.max_abs_difference, 18446744073709551615.0);
  EXPECT_EQ(diff.ulp, std::nullopt);
  const std::vector<std::int8_t> c = {-1}, d = {1};
  EXPECT_EQ(Compare(View(c), View(d)).max_abs_difference, 2.0);
  EXPECT_EQ(Compare(View(c), View(d)).expected_value, "-1");
}

TEST(Compare, SpacesThatTheHostCannotRead) {
  const FarMemory far;
  std::vector<float> a(1 << 19, 1.0f), b = a;
  b[400000] = 2.0f;
  BitView fa = View(a), fb = View(b);
  fa.data = FarMemory::Far(a.data());
  fb.data = FarMemory::Far(b.data());
  fa.space = fb.space = &far;
  EXPECT_EQ(Compare(fa, fb).element, 400000);
  EXPECT_TRUE(Compare(fa, fa).equal);
  // One on the host, one not.
  EXPECT_TRUE(Compare(View(a), fa).equal);
  EXPECT_EQ(Compare(View(a), fb).element, 400000);
}

// A space that compares and counts for itself, whatever the bytes are.
class SaysItself final : public MemorySpace {
 public:
  std::string_view Name() const override { return "itself"; }
  std::shared_ptr<void> Allocate(std::size_t bytes) const override { return HostMemory().Allocate(bytes); }
  void Copy(void* to, const void* from, std::size_t n) const override { HostMemory().Copy(to, from, n); }
  void CopyToHost(void* to, const void* from, std::size_t n) const override {
    ++copies_to_host;
    HostMemory().Copy(to, from, n);
  }
  void Fill(void* to, std::uint8_t value, std::size_t n) const override { HostMemory().Fill(to, value, n); }
  bool Equal(const void*, const void*, std::size_t) const override { return equal; }
  void Synchronize() const override {}
  ElementDifferences DifferencesOf(const void* e, const void* a, std::size_t elements, DType dtype) const override {
    return differences ? *differences : MemorySpace::DifferencesOf(e, a, elements, dtype);
  }

  bool equal = false;
  std::optional<ElementDifferences> differences;
  mutable int copies_to_host = 0;
};

TEST(Compare, TheSpaceCountsWhatDiffers) {
  SaysItself space;
  space.differences = {.different_elements = 3,
                       .different_bytes = 5,
                       .first = 4,
                       .expected_word = 0x3c00,
                       .actual_word = 0x3c02,
                       .max_ulp = 7,
                       .max_abs_difference = 0.5};
  const std::vector<std::uint16_t> a(6), b(6);
  BitView va = View(a, {2, 3}, DType::kFloat16), vb = View(b, {2, 3}, DType::kFloat16);
  va.space = vb.space = &space;
  const BitDiff diff = Compare(va, vb);
  EXPECT_EQ(Describe(diff),
            "element 4 = [1, 1]; 0x3c02 (1.002) instead of 0x3c00 (1), 2 ulp; 3 of 6 elements differ, max "
            "|difference| 0.5, max 7 ulp");
  EXPECT_EQ(diff.different_bytes, 5);
  EXPECT_EQ(space.copies_to_host, 0);
  // Of two spaces neither can count: the bytes agree.
  vb.space = &HostMemory();
  EXPECT_TRUE(Compare(va, vb).equal);
  EXPECT_EQ(space.copies_to_host, 1);
}

TEST(Compare, BytesThatAgreeWhenTheyAreLookedAtAgainAreStillWrittenTo) {
  SaysItself space;
  const std::vector<float> a(6), b(6);
  BitView va = View(a), vb = View(b);
  va.space = vb.space = &space;
  for (const std::optional<ElementDifferences>& none : {std::optional<ElementDifferences>(), {ElementDifferences()}}) {
    space.differences = none;
    const BitDiff diff = Compare(va, vb);
    EXPECT_FALSE(diff.equal);
    EXPECT_EQ(Describe(diff),
              "the bytes differ when compared in itself and agree when their differences are counted: something still "
              "writes to them");
  }
  space.equal = true;
  EXPECT_TRUE(Compare(va, vb).equal);
}

TEST(Compare, EmptyIsEqualAndHasNoElements) {
  const std::vector<float> none;
  const BitDiff diff = Compare(View(none), View(none));
  EXPECT_TRUE(diff.equal);
  EXPECT_EQ(diff.elements, 0);
}

TEST(FloatFormats, EveryHalfReadsBack) {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    const int mantissa_bits = dtype == DType::kFloat16 ? 10 : 7;
    for (std::uint32_t word = 0; word < 0x8000; ++word) {
      const double value = internal::ToDouble(dtype, word);
      EXPECT_EQ(std::signbit(internal::ToDouble(dtype, word | 0x8000)), true);
      if (!std::isfinite(value)) continue;
      // bfloat16 is the upper half of a float: an independent reading.
      if (dtype == DType::kBFloat16) {
        ASSERT_EQ(value, std::bit_cast<float>(word << 16));
      }
      const double text = std::strtod(internal::FloatText(dtype, word).c_str(), nullptr);
      const double next = internal::ToDouble(dtype, word + 1);
      const double step = std::isfinite(next) ? next - value : value / (1 << mantissa_bits);
      ASSERT_LT(std::abs(text - value), step / 2) << std::hex << word;
      if (word > 0) {
        ASSERT_GT(text, (value + internal::ToDouble(dtype, word - 1)) / 2) << std::hex << word;
      }
    }
  }
}

TEST(FloatFormats, KnownValues) {
  EXPECT_EQ(internal::FloatText(DType::kFloat16, 0x3c01), "1.001");
  EXPECT_EQ(internal::FloatText(DType::kFloat16, 0x7bff), "6.55e+04");
  EXPECT_EQ(internal::FloatText(DType::kFloat16, 0x0001), "6e-08");
  EXPECT_EQ(internal::FloatText(DType::kFloat16, 0xfc00), "-inf");
  EXPECT_EQ(internal::FloatText(DType::kFloat16, 0x8000), "-0");
  EXPECT_EQ(internal::FloatText(DType::kBFloat16, 0x3f81), "1.01");
  EXPECT_EQ(internal::FloatText(DType::kFloat32, 0x3dcccccd), "0.1");
  EXPECT_EQ(internal::FloatText(DType::kFloat64, std::bit_cast<std::uint64_t>(0.1)), "0.1");
  EXPECT_EQ(internal::FloatText(DType::kFloat32, 0xffc00000), "-nan");
}

TEST(FloatFormats, UlpCrossesZeroAndInfinity) {
  EXPECT_EQ(internal::UlpDistance(DType::kFloat32, 0x00000001, 0x80000001), 2u);
  EXPECT_EQ(internal::UlpDistance(DType::kFloat32, 0x7f7fffff, 0x7f800000), 1u);
  EXPECT_EQ(internal::UlpDistance(DType::kFloat64, std::bit_cast<std::uint64_t>(1.0),
                                  std::bit_cast<std::uint64_t>(std::nextafter(1.0, 2.0))),
            1u);
}

}  // namespace
}  // namespace gtest_determinism
