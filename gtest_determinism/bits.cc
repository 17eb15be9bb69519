#include "gtest_determinism/bits.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace gtest_determinism {
namespace {

class Host final : public MemorySpace {
 public:
  std::string_view Name() const override { return "host"; }
  std::shared_ptr<void> Allocate(std::size_t bytes) const override {
    // 64: no computation of the user's sees the result, but memcmp of whole cache lines is fastest.
    constexpr std::align_val_t kAlignment{64};
    return {::operator new(bytes == 0 ? 1 : bytes, kAlignment), [](void* p) { ::operator delete(p, kAlignment); }};
  }
  void Copy(void* to, const void* from, std::size_t bytes) const override {
    if (bytes != 0) std::memcpy(to, from, bytes);
  }
  void CopyToHost(void* to, const void* from, std::size_t bytes) const override { Copy(to, from, bytes); }
  void Fill(void* to, std::uint8_t value, std::size_t bytes) const override {
    if (bytes != 0) std::memset(to, value, bytes);
  }
  bool Equal(const void* a, const void* b, std::size_t bytes) const override {
    return bytes == 0 || std::memcmp(a, b, bytes) == 0;
  }
  void Synchronize() const override {}
};

}  // namespace

const MemorySpace& HostMemory() {
  // Never destroyed: views may outlive main().
  static const Host* const host = new Host;
  return *host;
}

std::vector<bool> MemorySpace::EqualEach(std::span<const BytePair> pairs) const {
  std::vector<bool> equal(pairs.size());
  std::transform(pairs.begin(), pairs.end(), equal.begin(),
                 [&](const BytePair& pair) { return Equal(pair.a, pair.b, pair.bytes); });
  return equal;
}

std::vector<std::int64_t> MemorySpace::ElementsHolding(const void* data, std::size_t elements, std::size_t size,
                                                       std::uint8_t value,
                                                       const std::vector<std::int64_t>* among) const {
  const auto* begin = static_cast<const unsigned char*>(data);
  const auto holds = [&](const unsigned char* p) {
    return std::all_of(p, p + size, [&](unsigned char byte) { return byte == value; });
  };
  std::vector<std::int64_t> found;
  if (among != nullptr) {
    std::vector<unsigned char> element(size);
    for (const std::int64_t index : *among) {
      CopyToHost(element.data(), begin + static_cast<std::size_t>(index) * size, size);
      if (holds(element.data())) found.push_back(index);
    }
    return found;
  }
  const std::size_t each = std::max<std::size_t>((std::size_t{1} << 20) / size, 1);
  std::vector<unsigned char> piece(std::min(each, elements) * size);
  for (std::size_t at = 0; at < elements; at += each) {
    const std::size_t count = std::min(each, elements - at);
    CopyToHost(piece.data(), begin + at * size, count * size);
    for (std::size_t i = 0; i < count; ++i) {
      if (holds(piece.data() + i * size)) found.push_back(static_cast<std::int64_t>(at + i));
    }
  }
  return found;
}

std::size_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kBytes:
    case DType::kBool:
    case DType::kInt8:
    case DType::kUInt8:
      return 1;
    case DType::kInt16:
    case DType::kUInt16:
    case DType::kFloat16:
    case DType::kBFloat16:
      return 2;
    case DType::kInt32:
    case DType::kUInt32:
    case DType::kFloat32:
      return 4;
    case DType::kInt64:
    case DType::kUInt64:
    case DType::kFloat64:
      return 8;
  }
  return 1;
}

std::string_view NameOf(DType dtype) {
  switch (dtype) {
    case DType::kBytes:
      return "bytes";
    case DType::kBool:
      return "bool";
    case DType::kInt8:
      return "int8";
    case DType::kUInt8:
      return "uint8";
    case DType::kInt16:
      return "int16";
    case DType::kUInt16:
      return "uint16";
    case DType::kInt32:
      return "int32";
    case DType::kUInt32:
      return "uint32";
    case DType::kInt64:
      return "int64";
    case DType::kUInt64:
      return "uint64";
    case DType::kFloat16:
      return "float16";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
  }
  return "unknown";
}

}  // namespace gtest_determinism
