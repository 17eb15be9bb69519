// Things with bits: what RunRepeated() can keep, compare and name.
//
// Equality in this library is equality of bytes: -0.0 differs from +0.0 and
// two NaNs with different payloads differ.
#ifndef GTEST_DETERMINISM_BITS_H_
#define GTEST_DETERMINISM_BITS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gtest_determinism {

class MemorySpace;
// Ordinary host memory. Device memory is another MemorySpace, of an adapter.
const MemorySpace& HostMemory();

// How the bytes of an element are to be read when a difference is explained.
// It has no part in the decision whether two things are equal.
enum class DType : std::uint8_t {
  kBytes,  // opaque; an element is one byte
  kBool,
  kInt8,
  kUInt8,
  kInt16,
  kUInt16,
  kInt32,
  kUInt32,
  kInt64,
  kUInt64,
  kFloat16,   // IEEE 754 binary16
  kBFloat16,  // the upper half of a binary32
  kFloat32,
  kFloat64,
};

std::size_t SizeOf(DType dtype);       // bytes of one element
std::string_view NameOf(DType dtype);  // "float16", ...

// Names a pattern: a 128-bit tree digest, defined in digest.h.
using Digest = std::array<std::uint8_t, 16>;

// A typed view of contiguous bytes. `owner`, where set, keeps alive what
// `data` points into (a contiguous copy of a strided tensor, say).
struct BitView {
  const void* data = nullptr;
  std::size_t bytes = 0;
  DType dtype = DType::kBytes;
  std::vector<std::int64_t> shape = {};  // row-major; empty: a scalar
  const MemorySpace* space = &HostMemory();
  std::shared_ptr<const void> owner = nullptr;
};

// A part of a result.
struct NamedBits {
  std::string name;  // "" for the only part of a result; "logits[17]" in a trace
  BitView view;
};

// What one run produced: its parts in the order in which they were computed,
// so that the first part that differs is the first divergence.
using Trace = std::vector<NamedBits>;

// Customisation point, found by argument-dependent lookup: a type T has bits
// when `AppendBits(trace, name, value)` is well-formed for `const T&`. The
// views appended must stay valid while `value` lives. See has_bits.h for the
// types that are supported from the start.

// Two stretches of `bytes` bytes each, in one space.
struct BytePair {
  const void* a = nullptr;
  const void* b = nullptr;
  std::size_t bytes = 0;
};

// In what two arrays of elements differ, counted over all of them.
struct ElementDifferences {
  std::int64_t different_elements = 0;
  std::int64_t different_bytes = 0;
  std::int64_t first = -1;                           // index of the first element that differs, -1 for none
  std::uint64_t expected_word = 0, actual_word = 0;  // its raw bits, zero-extended
  std::optional<std::uint64_t> max_ulp;      // absent for non-floats, and where each pair that differs has a NaN
  std::optional<double> max_abs_difference;  // absent for opaque bytes and bools, and where it is no number
};

// Where bytes lie and how they are kept, compared, digested and poisoned
// there. The engine reads and writes memory only through its space, so that
// addresses of another space need not be valid on the host. An implementation
// must be usable from one thread at a time, and its methods must be complete on
// return; they throw std::exception where they fail. Those that are not pure have
// an implementation that goes by the others: a device does the same where the
// bytes lie, to save their way to the host.
class MemorySpace {
 public:
  virtual ~MemorySpace() = default;
  virtual std::string_view Name() const = 0;  // "host", "cuda:0"
  // Storage of `bytes` bytes in this space, aligned for any element. Throws std::bad_alloc.
  virtual std::shared_ptr<void> Allocate(std::size_t bytes) const = 0;
  virtual void Copy(void* to, const void* from, std::size_t bytes) const = 0;        // within this space
  virtual void CopyToHost(void* to, const void* from, std::size_t bytes) const = 0;  // from this space
  virtual void Fill(void* to, std::uint8_t value, std::size_t bytes) const = 0;      // each byte is `value`
  virtual bool Equal(const void* a, const void* b, std::size_t bytes) const = 0;     // byte by byte
  // All work that may still write to memory of this space is done on return.
  virtual void Synchronize() const = 0;
  // Equal() of each pair. This one calls it for one after the other.
  virtual std::vector<bool> EqualEach(std::span<const BytePair> pairs) const;
  // In what two arrays of `elements` elements at any addresses differ. The same
  // figures in every implementation: distances as BitDiff has them (diff.h). This
  // one copies both to the host piece by piece.
  virtual ElementDifferences DifferencesOf(const void* expected, const void* actual, std::size_t elements,
                                           DType dtype) const;
  // TreeDigest() of the bytes (digest.h). This one copies them to the host
  // piece by piece.
  virtual Digest DigestOf(const void* data, std::size_t bytes) const;
  // Indices, ascending, of the elements of `size` bytes all of which are `value`:
  // of all `elements` at `data`, or of those `among` names. This one copies them
  // to the host piece by piece.
  virtual std::vector<std::int64_t> ElementsHolding(const void* data, std::size_t elements, std::size_t size,
                                                    std::uint8_t value,
                                                    const std::vector<std::int64_t>* among = nullptr) const;
};

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_BITS_H_
