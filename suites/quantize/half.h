// Conversions between float and its 16-bit forms in integer arithmetic, so that
// the bits do not depend on the CPU or on a library. Round to nearest, ties to
// even (IEEE 754).
#ifndef SUITES_QUANTIZE_HALF_H_
#define SUITES_QUANTIZE_HALF_H_

#include <bit>
#include <cstdint>

namespace suites::quantize {

inline float FloatFromBFloat16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

inline std::uint16_t BFloat16FromFloat(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return static_cast<std::uint16_t>((bits >> 16) | 0x40);  // NaN stays NaN
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float FloatFromHalf(std::uint16_t half) {
  const std::uint32_t sign = std::uint32_t{half & 0x8000u} << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1f;
  const std::uint32_t mantissa = half & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000 | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;  // exact
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
}

// Values beyond 65504 become infinity.
inline std::uint16_t HalfFromFloat(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000;
  const std::uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude >= 0x47800000) {  // 2^16 and above, infinity, NaN
    return static_cast<std::uint16_t>(sign | (magnitude > 0x7f800000 ? 0x7e00 : 0x7c00));
  }
  if (magnitude >= 0x38800000) {  // a normal half: 2^-14 and above
    const std::uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000) >> 13));
  }
  // A subnormal half counts units of 2^-24. Half of a unit or less is zero.
  if (magnitude <= 0x33000000) return static_cast<std::uint16_t>(sign);
  const std::uint32_t shift = 126 - (magnitude >> 23);
  const std::uint32_t significand = (magnitude & 0x7fffff) | 0x800000;
  const std::uint32_t units = significand >> shift;
  const std::uint32_t rest = significand & ((1u << shift) - 1);
  const std::uint32_t middle = 1u << (shift - 1);
  return static_cast<std::uint16_t>(sign | (units + (rest > middle || (rest == middle && (units & 1)) ? 1 : 0)));
}

}  // namespace suites::quantize

#endif  // SUITES_QUANTIZE_HALF_H_
