// Elements of every type whose differences are easily counted wrongly.
#ifndef TESTS_GTEST_DETERMINISM_ELEMENT_WORDS_H_
#define TESTS_GTEST_DETERMINISM_ELEMENT_WORDS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ostream>
#include <random>
#include <vector>

#include "gtest_determinism/bits.h"

namespace gtest_determinism {

inline constexpr DType kAllDTypes[] = {
    DType::kBytes,  DType::kBool,  DType::kInt8,   DType::kUInt8,   DType::kInt16,    DType::kUInt16,  DType::kInt32,
    DType::kUInt32, DType::kInt64, DType::kUInt64, DType::kFloat16, DType::kBFloat16, DType::kFloat32, DType::kFloat64};

// Of the floats: zeros, the least and the largest subnormal, the least normal, 1 and
// its neighbours, the largest number, infinity, NaNs of three kinds, of both signs. Of
// the integers: the ends of both ranges and what lies beside them.
inline std::vector<std::uint64_t> SpecialWords(DType dtype) {
  std::vector<std::uint64_t> words;
  const auto add_float = [&](int exponent_bits, int mantissa_bits) {
    const std::uint64_t one = (std::uint64_t{1} << (exponent_bits - 1)) - 1;
    const std::uint64_t infinity = ((std::uint64_t{1} << exponent_bits) - 1) << mantissa_bits;
    const std::uint64_t least_normal = std::uint64_t{1} << mantissa_bits;
    const std::uint64_t quiet = infinity | std::uint64_t{1} << (mantissa_bits - 1);
    for (const std::uint64_t word :
         {std::uint64_t{0}, std::uint64_t{1}, least_normal - 1, least_normal, (one << mantissa_bits) - 1,
          one << mantissa_bits, (one << mantissa_bits) + 1, infinity - 1, infinity, infinity + 1, quiet, quiet + 1}) {
      words.push_back(word);
      words.push_back(word | std::uint64_t{1} << (exponent_bits + mantissa_bits));
    }
  };
  switch (dtype) {
    case DType::kFloat16:
      add_float(5, 10);
      break;
    case DType::kBFloat16:
      add_float(8, 7);
      break;
    case DType::kFloat32:
      add_float(8, 23);
      break;
    case DType::kFloat64:
      add_float(11, 52);
      break;
    default: {
      const std::size_t bits = 8 * SizeOf(dtype);
      const std::uint64_t all = ~std::uint64_t{0} >> (64 - bits), top = std::uint64_t{1} << (bits - 1);
      words = {0, 1, 2, top - 1, top, top + 1, all - 1, all, 0x80 & all, 0xff & all};
    }
  }
  return words;
}

inline std::vector<unsigned char> BytesOf(DType dtype, const std::vector<std::uint64_t>& words) {
  const std::size_t size = SizeOf(dtype);
  std::vector<unsigned char> bytes(words.size() * size);
  for (std::size_t i = 0; i < words.size(); ++i) std::memcpy(bytes.data() + i * size, &words[i], size);
  return bytes;
}

// Each special word beside each, in an order without a pattern.
struct PairsOfWords {
  explicit PairsOfWords(DType dtype) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> pairs;
    for (const std::uint64_t e : SpecialWords(dtype)) {
      for (const std::uint64_t a : SpecialWords(dtype)) pairs.emplace_back(e, a);
    }
    std::shuffle(pairs.begin(), pairs.end(), std::minstd_rand(7));
    for (const auto& [e, a] : pairs) {
      expected.push_back(e);
      actual.push_back(a);
    }
  }
  std::vector<std::uint64_t> expected, actual;
};

inline bool operator==(const ElementDifferences& a, const ElementDifferences& b) {
  return a.different_elements == b.different_elements && a.different_bytes == b.different_bytes && a.first == b.first &&
         a.expected_word == b.expected_word && a.actual_word == b.actual_word && a.max_ulp == b.max_ulp &&
         a.max_abs_difference == b.max_abs_difference;
}

inline std::ostream& operator<<(std::ostream& out, const ElementDifferences& d) {
  out << d.different_elements << " elements, " << d.different_bytes << " bytes, first " << d.first << std::hex << ": 0x"
      << d.actual_word << " instead of 0x" << d.expected_word << std::dec;
  if (d.max_ulp) out << ", max " << *d.max_ulp << " ulp";
  if (d.max_abs_difference) out << ", max |difference| " << *d.max_abs_difference;
  return out;
}

}  // namespace gtest_determinism

#endif  // TESTS_GTEST_DETERMINISM_ELEMENT_WORDS_H_
