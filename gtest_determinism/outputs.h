// Buffers that a callable fills instead of returning a value. They are poisoned
// before each run and fenced, so that an element that is never written, and a
// write outside, are found and named.
#ifndef GTEST_DETERMINISM_OUTPUTS_H_
#define GTEST_DETERMINISM_OUTPUTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "gtest_determinism/bits.h"
#include "gtest_determinism/has_bits.h"

namespace gtest_determinism {

// A fence was broken, or an element was written in no run.
class OutputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Given to a callable of the form (Outputs&) -> void. A buffer is made where it
// is first asked for and is the same memory in every run:
//
//   RunRepeated([&](Outputs& out) { Gemm(x, w, out.Buffer<float>("y", {m, n}).data()); });
//
// Each request in a run poisons the buffer once: with 0xa5, 0x5a, 0xff, 0x00,
// ... by run, so that what is not written differs between runs. What was asked
// for in a run is its result, in that order.
class Outputs {
 public:
  // Bytes of fence before and behind each buffer.
  static constexpr std::size_t kFenceBytes = 4096;

  // Memory for `shape` (row-major, extents >= 0) in `space`. Throws
  // std::invalid_argument where the same run asked for the same name with
  // another dtype, shape or space, and std::bad_alloc.
  void* Buffer(std::string_view name, DType dtype, std::vector<std::int64_t> shape,
               const MemorySpace& space = HostMemory());

  template <internal::PlainScalar T>
  std::span<T> Buffer(std::string_view name, std::vector<std::int64_t> shape) {
    void* data = Buffer(name, internal::DTypeOf<T>(), std::move(shape));
    return {static_cast<T*>(data), LastElements()};
  }

  // For the engine: a run begins; it has ended, with what it produced. Collect()
  // throws OutputError.
  void BeginRun(int run);
  Trace Collect();
  // "not written in run 3: it still holds the poison 0x5a", or "".
  std::string ExplainElement(std::size_t part, std::int64_t element, const BitView& kept_of_run0) const;

 private:
  struct Buffered {
    std::string name;
    BitView view;
    std::shared_ptr<void> memory;  // fence, view.bytes, fence
    int run = -1;                  // the last that asked for it
    int collected_runs = 0;
    std::vector<std::int64_t> unwritten;  // elements that held the poison in every run so far
  };
  std::size_t LastElements() const { return last_elements_; }
  void Poison(Buffered& buffer) const;
  void CheckFences(const Buffered& buffer) const;
  void CheckWritten(Buffered& buffer) const;

  int run_ = 0;
  std::size_t last_elements_ = 0;
  std::vector<std::unique_ptr<Buffered>> buffers_;
  std::vector<Buffered*> asked_;  // in this run, in order
};

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_OUTPUTS_H_
