// A MemorySpace whose addresses may not be read by the host, as those of a
// device: each is a host address moved out of the canonical range, so that a
// stray dereference is a fault.
#ifndef TESTS_GTEST_DETERMINISM_FAR_MEMORY_H_
#define TESTS_GTEST_DETERMINISM_FAR_MEMORY_H_

#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "gtest_determinism/bits.h"

namespace gtest_determinism {

class FarMemory final : public MemorySpace {
 public:
  static void* Far(void* host) { return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(host) ^ kMoved); }
  static void* Near(const void* far) { return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(far) ^ kMoved); }

  std::string_view Name() const override { return "far"; }
  std::shared_ptr<void> Allocate(std::size_t bytes) const override {
    return {Far(::operator new(bytes + 1)), [](void* far) { ::operator delete(Near(far)); }};
  }
  void Copy(void* to, const void* from, std::size_t bytes) const override { std::memcpy(Near(to), Near(from), bytes); }
  void CopyToHost(void* to, const void* from, std::size_t bytes) const override {
    ++copies_to_host;
    std::memcpy(to, Near(from), bytes);
  }
  void Fill(void* to, std::uint8_t value, std::size_t bytes) const override { std::memset(Near(to), value, bytes); }
  bool Equal(const void* a, const void* b, std::size_t bytes) const override {
    ++comparisons;
    return std::memcmp(Near(a), Near(b), bytes) == 0;
  }
  void Synchronize() const override { ++synchronizations; }

  mutable int comparisons = 0;
  mutable int copies_to_host = 0;
  mutable int synchronizations = 0;

 private:
  static constexpr std::uintptr_t kMoved = std::uintptr_t{1} << 62;
};

}  // namespace gtest_determinism

#endif  // TESTS_GTEST_DETERMINISM_FAR_MEMORY_H_
