#include "suites/quantize/half.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

namespace suites::quantize {
namespace {

// The value of a half by its definition (IEEE 754, binary16).
double ValueOfHalf(std::uint16_t bits) {
  const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

TEST(Half, EveryHalfHasItsValueAndComesBack) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = FloatFromHalf(half);
    if ((half & 0x7c00) == 0x7c00) {
      EXPECT_EQ(std::isnan(value), (half & 0x3ff) != 0) << bits;
      EXPECT_EQ(std::isinf(value), (half & 0x3ff) == 0) << bits;
      if (std::isinf(value)) {
        EXPECT_EQ(HalfFromFloat(value), half);
      }
      continue;
    }
    ASSERT_EQ(value, ValueOfHalf(half)) << bits;
    ASSERT_EQ(HalfFromFloat(value), half) << bits;
  }
}

// Between two neighbours the nearer wins, in the middle the even one.
TEST(Half, RoundsToNearestTiesToEven) {
  for (std::uint16_t low = 0; low < 0x7bff; ++low) {
    const double below = ValueOfHalf(low), above = ValueOfHalf(low + 1);
    const auto middle = static_cast<float>((below + above) / 2);  // exact: one bit more than a half
    const std::uint16_t even = low % 2 == 0 ? low : low + 1;
    ASSERT_EQ(HalfFromFloat(middle), even) << low;
    ASSERT_EQ(HalfFromFloat(-middle), even | 0x8000) << low;
    ASSERT_EQ(HalfFromFloat(std::nextafter(middle, 0.0f)), low);
    ASSERT_EQ(HalfFromFloat(std::nextafter(middle, 1e9f)), low + 1);
  }
}

TEST(Half, BeyondTheLargestIsInfinity) {
  EXPECT_EQ(HalfFromFloat(65504.0f), 0x7bff);
  EXPECT_EQ(HalfFromFloat(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(HalfFromFloat(65520.0f), 0x7c00);
  EXPECT_EQ(HalfFromFloat(-1e30f), 0xfc00);
  EXPECT_TRUE(std::isnan(FloatFromHalf(HalfFromFloat(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(BFloat16, RoundsToNearestTiesToEven) {
  for (std::uint32_t low = 0; low < 0x7f7f; ++low) {
    const auto half = static_cast<std::uint16_t>(low);
    ASSERT_EQ(BFloat16FromFloat(FloatFromBFloat16(half)), half);
    const float middle = std::bit_cast<float>((low << 16) | 0x8000);
    ASSERT_EQ(BFloat16FromFloat(middle), low % 2 == 0 ? low : low + 1);
    ASSERT_EQ(BFloat16FromFloat(std::nextafter(middle, 0.0f)), low);
    ASSERT_EQ(BFloat16FromFloat(-std::nextafter(middle, std::numeric_limits<float>::infinity())), (low + 1) | 0x8000);
  }
  EXPECT_TRUE(std::isnan(FloatFromBFloat16(BFloat16FromFloat(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_EQ(BFloat16FromFloat(std::numeric_limits<float>::max()), 0x7f80);
}

}  // namespace
}  // namespace suites::quantize
