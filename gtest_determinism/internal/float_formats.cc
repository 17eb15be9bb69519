#include "gtest_determinism/internal/float_formats.h"

#include <bit>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace gtest_determinism::internal {
namespace {

struct Format {
  int exponent_bits;
  int mantissa_bits;
};

Format FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return {5, 10};
    case DType::kBFloat16:
      return {8, 7};
    case DType::kFloat32:
      return {8, 23};
    default:
      return {11, 52};
  }
}

std::uint64_t Mask(int bits) { return (std::uint64_t{1} << bits) - 1; }

}  // namespace

std::string FloatText(DType dtype, std::uint64_t word) {
  const double value = ToDouble(dtype, word);
  const Format format = FormatOf(dtype);
  const bool negative = ((word >> (format.exponent_bits + format.mantissa_bits)) & 1) != 0;
  if (std::isnan(value)) return negative ? "-nan" : "nan";
  char buffer[64];
  if (dtype == DType::kFloat32 || dtype == DType::kFloat64) {
    const std::to_chars_result end = dtype == DType::kFloat32
                                         ? std::to_chars(buffer, buffer + sizeof(buffer), static_cast<float>(value))
                                         : std::to_chars(buffer, buffer + sizeof(buffer), value);
    return {buffer, end.ptr};
  }
  if (std::isinf(value)) return negative ? "-inf" : "inf";
  // A decimal reads back as `value` where it is nearer to it than to either
  // neighbour. Half a step below a power of two is half as wide as above it;
  // taking the narrower of the two is safe and costs at most one digit.
  double exponent_step;
  const auto exponent = static_cast<int>((word >> format.mantissa_bits) & Mask(format.exponent_bits));
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  exponent_step = std::ldexp(1.0, (exponent == 0 ? 1 : exponent) - bias - format.mantissa_bits);
  const bool power_of_two = (word & Mask(format.mantissa_bits)) == 0 && exponent > 1;
  const double reach = exponent_step / (power_of_two ? 4 : 2);
  for (int digits = 1; digits <= 9; ++digits) {
    std::snprintf(buffer, sizeof(buffer), "%.*g", digits, value);
    if (std::abs(std::strtod(buffer, nullptr) - value) < reach) break;
  }
  return buffer;
}

}  // namespace gtest_determinism::internal
