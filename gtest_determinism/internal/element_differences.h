// Counting in what two arrays of elements differ: the same code on the host and on
// a device. All of it is sums and largest values of integers, so that the order in
// which elements and parts are added is of no account.
#ifndef GTEST_DETERMINISM_INTERNAL_ELEMENT_DIFFERENCES_H_
#define GTEST_DETERMINISM_INTERNAL_ELEMENT_DIFFERENCES_H_

#include <cstddef>
#include <cstdint>

#include "gtest_determinism/bits.h"
#include "gtest_determinism/internal/float_formats.h"
#include "gtest_determinism/internal/host_device.h"

namespace gtest_determinism::internal {

// DifferenceCount{} is that of no elements.
struct DifferenceCount {
  std::uint64_t elements, bytes;          // that differ
  std::uint64_t first, expected, actual;  // index and words of the first that does, if one does
  std::uint64_t ulp;                      // 1 + the largest distance, 0 where there is none
  std::uint64_t difference;               // 1 + the bits of the largest |difference|, a double; 0 where there is none
};

// A DType as a type; opaque bytes and bools are one.
template <DType kDType, class WordType>
struct ElementKind {
  static constexpr DType kType = kDType;
  using Word = WordType;
};

template <class F>
decltype(auto) WithElementKind(DType dtype, const F& f) {
  switch (dtype) {
    case DType::kInt8:
      return f(ElementKind<DType::kInt8, std::uint8_t>());
    case DType::kUInt8:
      return f(ElementKind<DType::kUInt8, std::uint8_t>());
    case DType::kInt16:
      return f(ElementKind<DType::kInt16, std::uint16_t>());
    case DType::kUInt16:
      return f(ElementKind<DType::kUInt16, std::uint16_t>());
    case DType::kInt32:
      return f(ElementKind<DType::kInt32, std::uint32_t>());
    case DType::kUInt32:
      return f(ElementKind<DType::kUInt32, std::uint32_t>());
    case DType::kInt64:
      return f(ElementKind<DType::kInt64, std::uint64_t>());
    case DType::kUInt64:
      return f(ElementKind<DType::kUInt64, std::uint64_t>());
    case DType::kFloat16:
      return f(ElementKind<DType::kFloat16, std::uint16_t>());
    case DType::kBFloat16:
      return f(ElementKind<DType::kBFloat16, std::uint16_t>());
    case DType::kFloat32:
      return f(ElementKind<DType::kFloat32, std::uint32_t>());
    case DType::kFloat64:
      return f(ElementKind<DType::kFloat64, std::uint64_t>());
    // No default, so that the compiler names a DType that is missing here.
    case DType::kBytes:
    case DType::kBool:
      break;
  }
  return f(ElementKind<DType::kBytes, std::uint8_t>());
}

GTEST_DETERMINISM_HD_ constexpr std::uint64_t BytesThatAreNotZero(std::uint64_t word) {
  constexpr std::uint64_t kLow = 0x7f7f7f7f7f7f7f7f, kEach = 0x0101010101010101;
  return ((((word & kLow) + kLow) | word) >> 7 & kEach) * kEach >> 56;
}

// 1 + the bits of |a - b| as a double, which rise with it; 0 for opaque bytes and
// where it is not a number.
template <class Kind>
GTEST_DETERMINISM_HD_ constexpr std::uint64_t AbsDifferencePlusOne(std::uint64_t a, std::uint64_t b) {
  constexpr DType kType = Kind::kType;
  if constexpr (kType == DType::kBytes) {
    return 0;
  } else if constexpr (IsFloat(kType)) {
    const std::uint64_t difference = WordOf(ToDouble(kType, a) - ToDouble(kType, b)) & (SignBit(DType::kFloat64) - 1);
    return difference > InfinityBits(DType::kFloat64) ? 0 : difference + 1;
  } else {
    bool less = a < b;
    if constexpr (kType == DType::kInt8 || kType == DType::kInt16 || kType == DType::kInt32 || kType == DType::kInt64) {
      constexpr int kShift = 64 - 8 * static_cast<int>(sizeof(typename Kind::Word));
      const std::int64_t sa = static_cast<std::int64_t>(a << kShift) >> kShift;
      const std::int64_t sb = static_cast<std::int64_t>(b << kShift) >> kShift;
      less = sa < sb;
      a = static_cast<std::uint64_t>(sa);
      b = static_cast<std::uint64_t>(sb);
    }
    // Modulo 2^64: exact where doubles would cancel.
    return WordOf(static_cast<double>(less ? b - a : a - b)) + 1;
  }
}

// Two words that differ. Within one count indices rise.
template <class Kind>
GTEST_DETERMINISM_HD_ void AddElement(DifferenceCount& count, std::uint64_t index, std::uint64_t expected,
                                      std::uint64_t actual) {
  if (count.elements++ == 0) {
    count.first = index;
    count.expected = expected;
    count.actual = actual;
  }
  count.bytes += BytesThatAreNotZero(expected ^ actual);
  if constexpr (IsFloat(Kind::kType)) {
    const std::uint64_t ulp = UlpDistancePlusOne(Kind::kType, expected, actual);
    if (ulp > count.ulp) count.ulp = ulp;
  }
  const std::uint64_t difference = AbsDifferencePlusOne<Kind>(expected, actual);
  if (difference > count.difference) count.difference = difference;
}

// Of other elements of the same arrays.
GTEST_DETERMINISM_HD_ void AddCount(DifferenceCount& count, const DifferenceCount& other) {
  if (other.elements != 0 && (count.elements == 0 || other.first < count.first)) {
    count.first = other.first;
    count.expected = other.expected;
    count.actual = other.actual;
  }
  count.elements += other.elements;
  count.bytes += other.bytes;
  if (other.ulp > count.ulp) count.ulp = other.ulp;
  if (other.difference > count.difference) count.difference = other.difference;
}

// Elements in host memory, the first of which has the index `first`. Defined in diff.cc.
void CountOnHost(DifferenceCount& count, DType dtype, std::uint64_t first, const void* expected, const void* actual,
                 std::size_t elements);

ElementDifferences ToElementDifferences(const DifferenceCount& count);

}  // namespace gtest_determinism::internal

#endif  // GTEST_DETERMINISM_INTERNAL_ELEMENT_DIFFERENCES_H_
