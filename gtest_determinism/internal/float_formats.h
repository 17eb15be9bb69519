// The floating-point formats of DType, read from their raw bits.
#ifndef GTEST_DETERMINISM_INTERNAL_FLOAT_FORMATS_H_
#define GTEST_DETERMINISM_INTERNAL_FLOAT_FORMATS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "gtest_determinism/bits.h"

namespace gtest_determinism::internal {

bool IsFloat(DType dtype);

// Exact: a double holds every value of the other formats.
double ToDouble(DType dtype, std::uint64_t word);

// The number of steps between neighbouring values from a to b; -0 and +0 are
// the same value, so 0. Nothing for a NaN.
std::optional<std::uint64_t> UlpDistance(DType dtype, std::uint64_t a, std::uint64_t b);

// Shortest decimal that reads back as this value in this format; "-0", "inf",
// "-nan"; the payload of a NaN is in its raw bits only.
std::string FloatText(DType dtype, std::uint64_t word);

}  // namespace gtest_determinism::internal

#endif  // GTEST_DETERMINISM_INTERNAL_FLOAT_FORMATS_H_
