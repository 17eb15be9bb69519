// Numbers of a precision on the host and on a device, for tests of kernels.
#ifndef TESTS_SUITES_MODEL_DEVICE_VALUES_H_
#define TESTS_SUITES_MODEL_DEVICE_VALUES_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "gtest_determinism/cuda.h"
#include "suites/model/row_ops.h"

namespace suites::internal {

inline std::size_t ElementBytes(Precision precision) { return precision == Precision::kFp32 ? 4 : 2; }
inline const char* NameOf(Precision precision) {
  return precision == Precision::kFp16 ? "fp16" : precision == Precision::kBf16 ? "bf16" : "fp32";
}
// Half a unit in the last place, relative.
inline double RoundingUnit(Precision precision) {
  return precision == Precision::kFp16 ? 0x1p-11 : precision == Precision::kBf16 ? 0x1p-8 : 0x1p-24;
}

using Bytes = std::vector<std::byte>;

inline Bytes Rounded(Precision precision, const std::vector<float>& values) {
  Bytes bytes(values.size() * ElementBytes(precision));
  RowOpsFor(precision).from_float(values.data(), bytes.data(), static_cast<std::int64_t>(values.size()));
  return bytes;
}
inline std::vector<float> Floats(Precision precision, const Bytes& bytes) {
  std::vector<float> values(bytes.size() / ElementBytes(precision));
  RowOpsFor(precision).to_float(bytes.data(), values.data(), static_cast<std::int64_t>(values.size()));
  return values;
}
// Uniform in [-scale, scale).
inline Bytes RandomValues(Precision precision, std::size_t count, unsigned seed, float scale = 1) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-scale, scale);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(generator);
  return Rounded(precision, values);
}

// Device memory that begins as a copy of the bytes.
class OnDevice {
 public:
  explicit OnDevice(const Bytes& bytes) : buffer_(gtest_determinism::DeviceBuffer<std::byte>::From(bytes)) {}
  OnDevice(std::size_t bytes, std::uint8_t fill) : buffer_({static_cast<std::int64_t>(bytes)}) {
    gtest_determinism::CudaMemory().Fill(buffer_.data(), fill, bytes);
  }
  void* data() const { return buffer_.data(); }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(buffer_.data());
  }
  Bytes Read() const { return buffer_.ToHost(); }

 private:
  gtest_determinism::DeviceBuffer<std::byte> buffer_;
};

template <class T>
Bytes BytesOf(const std::vector<T>& values) {
  const auto* first = reinterpret_cast<const std::byte*>(values.data());
  return Bytes(first, first + values.size() * sizeof(T));
}
template <class T>
std::vector<T> ValuesOf(const Bytes& bytes) {
  const auto* first = reinterpret_cast<const T*>(bytes.data());
  return std::vector<T>(first, first + bytes.size() / sizeof(T));
}

}  // namespace suites::internal

#endif  // TESTS_SUITES_MODEL_DEVICE_VALUES_H_
