// The floating-point formats of DType, read from their raw bits: on the host, and
// on a device where a function is marked.
#ifndef GTEST_DETERMINISM_INTERNAL_FLOAT_FORMATS_H_
#define GTEST_DETERMINISM_INTERNAL_FLOAT_FORMATS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "gtest_determinism/bits.h"
#include "gtest_determinism/internal/host_device.h"

namespace gtest_determinism::internal {

GTEST_DETERMINISM_HD_ constexpr bool IsFloat(DType dtype) {
  return dtype == DType::kFloat16 || dtype == DType::kBFloat16 || dtype == DType::kFloat32 || dtype == DType::kFloat64;
}

// std::bit_cast may not be called on a device.
GTEST_DETERMINISM_HD_ constexpr double DoubleOf(std::uint64_t word) { return __builtin_bit_cast(double, word); }
GTEST_DETERMINISM_HD_ constexpr std::uint64_t WordOf(double value) { return __builtin_bit_cast(std::uint64_t, value); }

// The number that an IEEE word of these widths holds; a NaN keeps its payload.
template <int kExponentBits, int kMantissaBits>
GTEST_DETERMINISM_HD_ constexpr double WidenBits(std::uint64_t word) {
  constexpr std::uint64_t kBias = (std::uint64_t{1} << (kExponentBits - 1)) - 1;
  constexpr std::uint64_t kLargest = (std::uint64_t{1} << kExponentBits) - 1;
  constexpr double kLeast = __builtin_bit_cast(double, (1023 + 1 - kBias - kMantissaBits) << 52);
  const std::uint64_t mantissa = word & ((std::uint64_t{1} << kMantissaBits) - 1);
  const std::uint64_t exponent = word >> kMantissaBits & kLargest;
  const std::uint64_t wider = exponent == kLargest ? 2047 : exponent + 1023 - kBias;
  const double below_normal = static_cast<double>(static_cast<std::int64_t>(mantissa)) * kLeast;
  const std::uint64_t magnitude = exponent == 0 ? WordOf(below_normal) : wider << 52 | mantissa << (52 - kMantissaBits);
  return DoubleOf(magnitude | (word >> (kExponentBits + kMantissaBits) & 1) << 63);
}

// Exact: a double holds every value of the other formats. Inline, as what follows:
// where all of two vectors differs, comparing them takes as long as these do.
GTEST_DETERMINISM_HD_ constexpr double ToDouble(DType dtype, std::uint64_t word) {
  switch (dtype) {
    case DType::kFloat16:
      return WidenBits<5, 10>(word);
    case DType::kBFloat16:
      return WidenBits<8, 7>(word);
    case DType::kFloat32:
      return WidenBits<8, 23>(word);
    default:
      return DoubleOf(word);
  }
}

GTEST_DETERMINISM_HD_ constexpr std::uint64_t InfinityBits(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return 0x7c00;
    case DType::kBFloat16:
      return 0x7f80;
    case DType::kFloat32:
      return 0x7f800000;
    default:
      return 0x7ff0000000000000;
  }
}

GTEST_DETERMINISM_HD_ constexpr std::uint64_t SignBit(DType dtype) {
  return dtype == DType::kFloat64   ? std::uint64_t{1} << 63
         : dtype == DType::kFloat32 ? std::uint64_t{1} << 31
                                    : std::uint64_t{1} << 15;
}

// 1 + the number of steps between neighbouring values from a to b; -0 and +0 are
// the same value, no step apart. 0 where one is NaN.
GTEST_DETERMINISM_HD_ constexpr std::uint64_t UlpDistancePlusOne(DType dtype, std::uint64_t a, std::uint64_t b) {
  const std::uint64_t infinity = InfinityBits(dtype), sign = SignBit(dtype);
  // Magnitudes of equal sign count up with the bits, up to and past infinity.
  const std::uint64_t ma = a & (sign - 1), mb = b & (sign - 1);
  if (ma > infinity || mb > infinity) return 0;
  if (((a ^ b) & sign) != 0) return ma + mb + 1;
  return (ma > mb ? ma - mb : mb - ma) + 1;
}

inline std::optional<std::uint64_t> UlpDistance(DType dtype, std::uint64_t a, std::uint64_t b) {
  const std::uint64_t distance = UlpDistancePlusOne(dtype, a, b);
  if (distance == 0) return std::nullopt;
  return distance - 1;
}

// Shortest decimal that reads back as this value in this format; "-0", "inf",
// "-nan"; the payload of a NaN is in its raw bits only.
std::string FloatText(DType dtype, std::uint64_t word);

}  // namespace gtest_determinism::internal

#endif  // GTEST_DETERMINISM_INTERNAL_FLOAT_FORMATS_H_
