// The difference between two things with bits, in words a kernel engineer uses.
#ifndef GTEST_DETERMINISM_DIFF_H_
#define GTEST_DETERMINISM_DIFF_H_

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "gtest_determinism/bits.h"

namespace gtest_determinism {

// Elements are counted in row-major order, from 0.
struct BitDiff {
  bool equal = true;
  std::string mismatch;  // non-empty: dtype, shape or size differ, and nothing else was compared
  DType dtype = DType::kBytes;
  std::vector<std::int64_t> shape;
  std::int64_t elements = 0;
  std::int64_t different_elements = 0;
  std::int64_t different_bytes = 0;
  // The first differing element.
  std::int64_t element = -1;
  std::vector<std::int64_t> coordinate;
  std::uint64_t expected_word = 0, actual_word = 0;  // raw bits, zero-extended
  std::string expected_value, actual_value;          // shortest text that reads back, "nan", "-0"
  std::optional<std::uint64_t> ulp;  // distance in units in the last place; absent for non-floats and NaN
  // Over all elements; absent where not a number.
  std::optional<double> max_abs_difference;
  std::optional<std::uint64_t> max_ulp;
};

// Compares by bytes, then explains: what differs is counted by the space of the
// views; those of different spaces are copied to the host first. Throws what their
// spaces throw, and std::bad_alloc.
BitDiff Compare(const BitView& expected, const BitView& actual);

// "element 8197 = [2, 5]; 0x3c01 (1.00098) instead of 0x3c00 (1), 1 ulp; 12 of
// 65536 elements differ, max |difference| 9.77e-04, max 1 ulp"
std::string Describe(const BitDiff& diff);

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_DIFF_H_
