#include "gtest_determinism/diff.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "gtest_determinism/internal/float_formats.h"

namespace gtest_determinism {
namespace {

using internal::IsFloat;

std::uint64_t ReadWord(const unsigned char* p, std::size_t size) {
  static_assert(std::endian::native == std::endian::little);
  std::uint64_t word = 0;
  std::memcpy(&word, p, size);
  return word;
}

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

double SignedOf(std::uint64_t word, std::size_t size) {
  const auto shift = static_cast<int>(64 - 8 * size);
  return static_cast<double>(static_cast<std::int64_t>(word << shift) >> shift);
}

// |a - b|; nothing for opaque bytes and where it is not a number.
inline std::optional<double> AbsDifference(DType dtype, std::uint64_t a, std::uint64_t b) {
  const std::size_t size = SizeOf(dtype);
  switch (dtype) {
    case DType::kBytes:
    case DType::kBool:
      return std::nullopt;
    case DType::kInt64:
    case DType::kUInt64: {
      const bool less = dtype == DType::kInt64 ? static_cast<std::int64_t>(a) < static_cast<std::int64_t>(b) : a < b;
      return static_cast<double>(less ? b - a : a - b);  // modulo 2^64: exact where the doubles would cancel
    }
    case DType::kInt8:
    case DType::kInt16:
    case DType::kInt32:
      return std::abs(SignedOf(a, size) - SignedOf(b, size));
    case DType::kUInt8:
    case DType::kUInt16:
    case DType::kUInt32:
      return std::abs(static_cast<double>(a) - static_cast<double>(b));
    default: {
      const double difference = std::abs(internal::ToDouble(dtype, a) - internal::ToDouble(dtype, b));
      if (std::isnan(difference)) return std::nullopt;
      return difference;
    }
  }
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

template <class T>
void Raise(std::optional<T>& maximum, const std::optional<T>& value) {
  if (value && (!maximum || *value > *maximum)) maximum = value;
}

// Reads a view in pieces that lie on the host.
class HostReader {
 public:
  HostReader(const BitView& view, std::size_t piece) : view_(view), on_host_(view.space == &HostMemory()) {
    if (!on_host_) buffer_.resize(std::min(piece, view.bytes));
  }
  const unsigned char* Read(std::size_t at, std::size_t bytes) {
    const unsigned char* from = static_cast<const unsigned char*>(view_.data) + at;
    if (on_host_) return from;
    view_.space->CopyToHost(buffer_.data(), from, bytes);
    return buffer_.data();
  }

 private:
  const BitView& view_;
  bool on_host_;
  std::vector<unsigned char> buffer_;
};

void RecordElement(BitDiff& diff, DType dtype, std::int64_t element, std::uint64_t expected, std::uint64_t actual) {
  ++diff.different_elements;
  for (std::uint64_t other = expected ^ actual; other != 0; other >>= 8) diff.different_bytes += (other & 0xff) != 0;
  std::optional<std::uint64_t> ulp;
  if (IsFloat(dtype)) ulp = internal::UlpDistance(dtype, expected, actual);
  if (diff.different_elements == 1) {
    diff.element = element;
    diff.coordinate = CoordinateOf(element, diff.shape);
    diff.expected_word = expected;
    diff.actual_word = actual;
    diff.expected_value = ValueText(dtype, expected);
    diff.actual_value = ValueText(dtype, actual);
    diff.ulp = ulp;
  }
  Raise(diff.max_ulp, ulp);
  Raise(diff.max_abs_difference, AbsDifference(dtype, expected, actual));
}

// Those that differ in a piece that begins with element `first`. The compiler knows
// size and type: vectors of logits may differ in every element, in every run, and then
// this is what a comparison takes.
template <std::size_t kSize, DType... kType>
void RecordElements(BitDiff& diff, std::int64_t first, const unsigned char* e, const unsigned char* a,
                    std::size_t bytes) {
  DType dtype = diff.dtype;
  ((dtype = kType), ...);
  for (std::size_t i = 0; i < bytes; i += kSize) {
    const std::uint64_t expected = ReadWord(e + i, kSize), actual = ReadWord(a + i, kSize);
    if (expected != actual) {
      RecordElement(diff, dtype, first + static_cast<std::int64_t>(i / kSize), expected, actual);
    }
  }
}

void RecordPiece(BitDiff& diff, std::int64_t first, const unsigned char* e, const unsigned char* a, std::size_t bytes) {
  if (diff.dtype == DType::kFloat16) return RecordElements<2, DType::kFloat16>(diff, first, e, a, bytes);
  if (diff.dtype == DType::kBFloat16) return RecordElements<2, DType::kBFloat16>(diff, first, e, a, bytes);
  if (diff.dtype == DType::kFloat32) return RecordElements<4, DType::kFloat32>(diff, first, e, a, bytes);
  switch (SizeOf(diff.dtype)) {
    case 1:
      return RecordElements<1>(diff, first, e, a, bytes);
    case 2:
      return RecordElements<2>(diff, first, e, a, bytes);
    case 4:
      return RecordElements<4>(diff, first, e, a, bytes);
    default:
      return RecordElements<8>(diff, first, e, a, bytes);
  }
}

}  // namespace

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
  if (expected.space == actual.space && expected.space->Equal(expected.data, actual.data, expected.bytes)) return diff;

  constexpr std::size_t kPiece = std::size_t{1} << 20;  // a multiple of every element size
  HostReader expected_reader(expected, kPiece), actual_reader(actual, kPiece);
  for (std::size_t at = 0; at < expected.bytes; at += kPiece) {
    const std::size_t bytes = std::min(kPiece, expected.bytes - at);
    const unsigned char* e = expected_reader.Read(at, bytes);
    const unsigned char* a = actual_reader.Read(at, bytes);
    if (std::memcmp(e, a, bytes) == 0) continue;
    RecordPiece(diff, static_cast<std::int64_t>(at / size), e, a, bytes);
  }
  diff.equal = diff.different_elements == 0;
  if (diff.equal && expected.space == actual.space) {
    // Its Equal() said otherwise. Bytes that change while they are read are no result.
    diff.equal = false;
    diff.mismatch = "the bytes differ when compared in " + std::string(expected.space->Name()) +
                    " and agree when copied to the host: something still writes to them";
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
