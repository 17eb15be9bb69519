#include "gtest_determinism/diff.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "gtest_determinism/internal/element_differences.h"
#include "gtest_determinism/internal/float_formats.h"

namespace gtest_determinism {
namespace {

using internal::IsFloat;

std::string CoordinateText(const std::vector<std::int64_t>& coordinate) {
  std::string text = "[";
  for (std::size_t i = 0; i < coordinate.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(coordinate[i]);
  }
  return text + "]";
}

std::string ShapeText(const BitView& view) { return std::string(NameOf(view.dtype)) + CoordinateText(view.shape); }

std::vector<std::int64_t> CoordinateOf(std::int64_t element, const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> coordinate(shape.size());
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] <= 0) return {};
    coordinate[i] = element % shape[i];
    element /= shape[i];
  }
  return coordinate;
}

std::string ValueText(DType dtype, std::uint64_t word) {
  if (IsFloat(dtype)) return internal::FloatText(dtype, word);
  switch (dtype) {
    case DType::kInt8:
    case DType::kInt16:
    case DType::kInt32:
    case DType::kInt64: {
      const auto shift = static_cast<int>(64 - 8 * SizeOf(dtype));
      return std::to_string(static_cast<std::int64_t>(word << shift) >> shift);
    }
    case DType::kBool:
      return word == 0 ? "false" : word == 1 ? "true" : "invalid bool " + std::to_string(word);
    default:
      return std::to_string(word);
  }
}

constexpr std::size_t kPieceBytes = std::size_t{1} << 20;  // a multiple of every element size

// Reads memory of a space in pieces that lie on the host.
class HostReader {
 public:
  HostReader(const MemorySpace& space, const void* data, std::size_t bytes)
      : space_(space), data_(static_cast<const unsigned char*>(data)), on_host_(&space == &HostMemory()) {
    if (!on_host_) buffer_.resize(std::min(kPieceBytes, bytes));
  }
  const unsigned char* Read(std::size_t at, std::size_t bytes) {
    if (on_host_) return data_ + at;
    space_.CopyToHost(buffer_.data(), data_ + at, bytes);
    return buffer_.data();
  }

 private:
  const MemorySpace& space_;
  const unsigned char* data_;
  bool on_host_;
  std::vector<unsigned char> buffer_;
};

ElementDifferences CountInPieces(const MemorySpace& expected_space, const void* expected,
                                 const MemorySpace& actual_space, const void* actual, std::size_t elements,
                                 DType dtype) {
  const std::size_t size = SizeOf(dtype), all = elements * size;
  HostReader expected_reader(expected_space, expected, all), actual_reader(actual_space, actual, all);
  internal::DifferenceCount count{};
  for (std::size_t at = 0; at < all; at += kPieceBytes) {
    const std::size_t bytes = std::min(kPieceBytes, all - at);
    const unsigned char* e = expected_reader.Read(at, bytes);
    const unsigned char* a = actual_reader.Read(at, bytes);
    if (std::memcmp(e, a, bytes) == 0) continue;
    internal::CountOnHost(count, dtype, at / size, e, a, bytes / size);
  }
  return internal::ToElementDifferences(count);
}

void Explain(BitDiff& diff, const ElementDifferences& differences) {
  diff.different_elements = differences.different_elements;
  diff.different_bytes = differences.different_bytes;
  diff.element = differences.first;
  diff.coordinate = CoordinateOf(diff.element, diff.shape);
  diff.expected_word = differences.expected_word;
  diff.actual_word = differences.actual_word;
  diff.expected_value = ValueText(diff.dtype, diff.expected_word);
  diff.actual_value = ValueText(diff.dtype, diff.actual_word);
  if (IsFloat(diff.dtype)) diff.ulp = internal::UlpDistance(diff.dtype, diff.expected_word, diff.actual_word);
  diff.max_ulp = differences.max_ulp;
  diff.max_abs_difference = differences.max_abs_difference;
}

}  // namespace

namespace internal {

// The compiler knows size and type: vectors of logits may differ in every element, in
// every run, and then this is what a comparison takes.
void CountOnHost(DifferenceCount& count, DType dtype, std::uint64_t first, const void* expected, const void* actual,
                 std::size_t elements) {
  static_assert(std::endian::native == std::endian::little);
  WithElementKind(dtype, [&]<class Kind>(Kind) {
    using Word = typename Kind::Word;
    const auto *e = static_cast<const unsigned char*>(expected), *a = static_cast<const unsigned char*>(actual);
    DifferenceCount sum = count;
    for (std::size_t i = 0; i < elements; ++i) {
      Word x, y;
      std::memcpy(&x, e + i * sizeof(Word), sizeof(Word));
      std::memcpy(&y, a + i * sizeof(Word), sizeof(Word));
      if (x != y) AddElement<Kind>(sum, first + i, x, y);
    }
    count = sum;
  });
}

ElementDifferences ToElementDifferences(const DifferenceCount& count) {
  ElementDifferences differences;
  if (count.elements == 0) return differences;
  differences.different_elements = static_cast<std::int64_t>(count.elements);
  differences.different_bytes = static_cast<std::int64_t>(count.bytes);
  differences.first = static_cast<std::int64_t>(count.first);
  differences.expected_word = count.expected;
  differences.actual_word = count.actual;
  if (count.ulp != 0) differences.max_ulp = count.ulp - 1;
  if (count.difference != 0) differences.max_abs_difference = DoubleOf(count.difference - 1);
  return differences;
}

}  // namespace internal

ElementDifferences MemorySpace::DifferencesOf(const void* expected, const void* actual, std::size_t elements,
                                              DType dtype) const {
  return CountInPieces(*this, expected, *this, actual, elements, dtype);
}

BitDiff Compare(const BitView& expected, const BitView& actual) {
  BitDiff diff;
  diff.dtype = expected.dtype;
  diff.shape = expected.shape;
  const std::size_t size = SizeOf(expected.dtype);
  diff.elements = static_cast<std::int64_t>(expected.bytes / size);
  if (expected.dtype != actual.dtype || expected.shape != actual.shape) {
    diff.mismatch = ShapeText(actual) + " instead of " + ShapeText(expected);
  } else if (expected.bytes != actual.bytes) {
    diff.mismatch = std::to_string(actual.bytes) + " bytes instead of " + std::to_string(expected.bytes);
  } else if (expected.bytes % size != 0) {
    diff.mismatch = std::to_string(expected.bytes) + " bytes are no whole number of elements of " +
                    std::string(NameOf(expected.dtype));
  }
  diff.equal = diff.mismatch.empty();
  if (!diff.equal || expected.bytes == 0) return diff;
  const auto elements = static_cast<std::size_t>(diff.elements);
  const bool one_space = expected.space == actual.space;
  if (one_space && expected.space->Equal(expected.data, actual.data, expected.bytes)) return diff;
  const ElementDifferences differences =
      one_space ? expected.space->DifferencesOf(expected.data, actual.data, elements, diff.dtype)
                : CountInPieces(*expected.space, expected.data, *actual.space, actual.data, elements, diff.dtype);
  diff.equal = differences.different_elements == 0;
  if (!diff.equal) {
    Explain(diff, differences);
  } else if (one_space) {
    // Its Equal() said otherwise. Bytes that change while they are read are no result.
    diff.equal = false;
    diff.mismatch = "the bytes differ when compared in " + std::string(expected.space->Name()) +
                    " and agree when their differences are counted: something still writes to them";
  }
  return diff;
}

std::string Describe(const BitDiff& diff) {
  if (diff.equal) return "all " + std::to_string(diff.elements) + " elements have equal bits";
  if (!diff.mismatch.empty()) return diff.mismatch;
  char number[64];
  std::string text = "element " + std::to_string(diff.element);
  if (diff.coordinate.size() > 1) text += " = " + CoordinateText(diff.coordinate);
  const auto hex = [&](std::uint64_t word) {
    std::snprintf(number, sizeof(number), "0x%0*llx", static_cast<int>(2 * SizeOf(diff.dtype)),
                  static_cast<unsigned long long>(word));
    return std::string(number);
  };
  text += "; " + hex(diff.actual_word) + " (" + diff.actual_value + ") instead of " + hex(diff.expected_word) + " (" +
          diff.expected_value + ")";
  if (diff.ulp) text += ", " + std::to_string(*diff.ulp) + " ulp";
  text += "; " + std::to_string(diff.different_elements) + " of " + std::to_string(diff.elements) + " elements differ";
  if (diff.max_abs_difference) {
    std::snprintf(number, sizeof(number), ", max |difference| %.3g", *diff.max_abs_difference);
    text += number;
  }
  if (diff.max_ulp) text += ", max " + std::to_string(*diff.max_ulp) + " ulp";
  return text;
}

}  // namespace gtest_determinism
