// Device memory has bits. Target gtest_determinism::cuda, which links the CUDA
// runtime and no driver: a program starts without one, and what needs a device
// throws where there is none.
//
//   TEST(MyKernel, RunToRun) {
//     if (const std::string why = NoCudaDevice(); !why.empty()) GTEST_SKIP() << why;
//     DeviceBuffer<float> x = ..., y({m, n});
//     EXPECT_DETERMINISTIC([&] { Launch(x.data(), y.data(), stream); return y.Span(stream); });
//     EXPECT_DETERMINISTIC([&](Outputs& out) {  // poisoned before each run, and fenced
//       Launch(x.data(), DeviceOutput<float>(out, "y", {m, n}).data, stream);
//     });
//   }
//
// An error that a launch of yours left behind, unchecked, is not taken for one of these
// functions': they look at what their own calls return. It stays for cudaGetLastError(),
// unless CUDA drops it, as some of its calls do (cudaFuncSetAttribute(), for one).
#ifndef GTEST_DETERMINISM_CUDA_H_
#define GTEST_DETERMINISM_CUDA_H_

#include <cuda_runtime_api.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest_determinism/bits.h"
#include "gtest_determinism/has_bits.h"
#include "gtest_determinism/outputs.h"

struct __half;
struct __nv_bfloat16;

namespace gtest_determinism {

// "" where device 0 can be used; else the reason, one line.
std::string NoCudaDevice();

// The memory of a device, "cuda:N": bytes are kept, compared, digested, searched
// and their differences counted there. Its methods wait for what they do, on a
// stream of their own; Synchronize() waits for the device. The same object each
// time. Throws std::invalid_argument where there is no such device.
const MemorySpace& CudaMemory(int device = 0);

// ---- Things with bits ----

// What may lie in device memory: numbers, enumerations, std::byte, __half,
// __nv_bfloat16.
template <class T>
concept DeviceElement = internal::PlainScalar<T> || std::same_as<T, __half> || std::same_as<T, __nv_bfloat16>;

namespace internal {

template <DeviceElement T>
constexpr DType DeviceDTypeOf() {
  if constexpr (std::same_as<T, __half>) {
    return DType::kFloat16;
  } else if constexpr (std::same_as<T, __nv_bfloat16>) {
    return DType::kBFloat16;
  } else {
    return DTypeOf<T>();
  }
}

void AppendDeviceBits(Trace& trace, std::string_view name, const void* data, DType dtype,
                      const std::vector<std::int64_t>& shape, cudaStream_t stream, int device,
                      std::shared_ptr<const void> owner);
std::shared_ptr<void> AllocateOnDevice(const std::vector<std::int64_t>& shape, DType dtype, int device);
std::size_t DeviceElements(const std::vector<std::int64_t>& shape, DType dtype);
void CopyToDevice(void* to, const void* from, std::size_t bytes, int device);

}  // namespace internal

// Elements that somebody else owns: contiguous, row-major, on `device`, written
// by work on `stream`. Taking its bits waits for that stream, and throws
// std::invalid_argument, one line, where the pointer is null, is not memory of
// that device, or an extent is negative.
template <DeviceElement T>
struct DeviceSpan {
  T* data = nullptr;
  std::vector<std::int64_t> shape = {};
  cudaStream_t stream = nullptr;
  int device = 0;
};

template <DeviceElement T>
void AppendBits(Trace& trace, std::string_view name, const DeviceSpan<T>& span) {
  internal::AppendDeviceBits(trace, name, span.data, internal::DeviceDTypeOf<std::remove_cv_t<T>>(), span.shape,
                             span.stream, span.device, nullptr);
}

// Elements of its own, uninitialised. A copy shares them.
template <DeviceElement T>
class DeviceBuffer {
 public:
  // Throws std::invalid_argument (no such device, a negative extent) and std::bad_alloc.
  explicit DeviceBuffer(std::vector<std::int64_t> shape, int device = 0)
      : memory_(internal::AllocateOnDevice(shape, internal::DeviceDTypeOf<T>(), device)),
        shape_(std::move(shape)),
        device_(device) {}
  // Of shape {values.size()}.
  static DeviceBuffer From(std::span<const T> values, int device = 0) {
    DeviceBuffer buffer({static_cast<std::int64_t>(values.size())}, device);
    internal::CopyToDevice(buffer.data(), values.data(), values.size_bytes(), device);
    return buffer;
  }

  T* data() const { return static_cast<T*>(memory_.get()); }
  std::size_t elements() const { return internal::DeviceElements(shape_, internal::DeviceDTypeOf<T>()); }
  const std::vector<std::int64_t>& shape() const { return shape_; }
  int device() const { return device_; }
  DeviceSpan<T> Span(cudaStream_t stream = nullptr) const { return {data(), shape_, stream, device_}; }
  // A copy on the host, of what is there when all work on the device is done.
  std::vector<T> ToHost() const {
    std::vector<T> values(elements());
    const MemorySpace& space = CudaMemory(device_);
    space.Synchronize();
    space.CopyToHost(values.data(), data(), values.size() * sizeof(T));
    return values;
  }

 private:
  friend void AppendBits(Trace& trace, std::string_view name, const DeviceBuffer& buffer) {
    internal::AppendDeviceBits(trace, name, buffer.data(), internal::DeviceDTypeOf<T>(), buffer.shape_, nullptr,
                               buffer.device_, buffer.memory_);
  }

  std::shared_ptr<void> memory_;
  std::vector<std::int64_t> shape_;
  int device_;
};

// Outputs::Buffer() on a device. The poison is there on return, so that any
// stream may write.
template <DeviceElement T>
DeviceSpan<T> DeviceOutput(Outputs& outputs, std::string_view name, std::vector<std::int64_t> shape,
                           cudaStream_t stream = nullptr, int device = 0) {
  void* data = outputs.Buffer(name, internal::DeviceDTypeOf<T>(), shape, CudaMemory(device));
  return {static_cast<T*>(data), std::move(shape), stream, device};
}

// ---- Digests and comparisons, asynchronous ----

// Puts TreeDigest() of `bytes` bytes at `data` (any alignment) on the stream: one
// kernel up to 32 MiB, two up to 8 GiB (and for what is not aligned to 16). `digest`:
// 16 bytes of device memory, aligned to 8. `scratch`: DigestScratchBytes(bytes) bytes
// of device memory, aligned to 16, whose first 16 are zero before the first launch
// and after each; not to be used by two launches at a time. May be captured. On the
// current device. Throws std::runtime_error.
void LaunchTreeDigest(const void* data, std::size_t bytes, void* digest, void* scratch, cudaStream_t stream);
std::size_t DigestScratchBytes(std::size_t bytes);

// Lowers *first, in device memory, to the offset of the first byte that differs
// between a and b, if that is less than what *first holds: set it to UINT64_MAX
// before, and it still is where none differs. One kernel, none for 0 bytes; a and
// b need no alignment, it is quickest where both are multiples of 16. May be
// captured. On the current device. Throws std::runtime_error.
void LaunchCompare(const void* a, const void* b, std::size_t bytes, std::uint64_t* first, cudaStream_t stream);

// Digests of many things, each on its stream, kept on the device until they are
// asked for. No allocation once it has grown. From one thread at a time. Memory
// must stay valid and unchanged until its stream is past the digest; streams
// must live until the next Take().
//
// Where the stream is being captured, each replay writes the digest's place
// anew: Read() after a replay gives what that replay saw. Such a queue is good
// for that graph alone until Take(), after which the graph must not be replayed;
// its replays must not overlap.
class CudaDigestQueue {
 public:
  explicit CudaDigestQueue(int device = 0);
  ~CudaDigestQueue();
  CudaDigestQueue(CudaDigestQueue&&) noexcept;
  CudaDigestQueue& operator=(CudaDigestQueue&&) noexcept;
  // The index of the digest in what Read() and Take() give.
  std::size_t Enqueue(const void* data, std::size_t bytes, cudaStream_t stream);
  std::size_t size() const;  // enqueued since the last Take()
  // Waits for the streams. All digests since the last Take(), in order.
  std::vector<Digest> Read();
  std::vector<Digest> Take();  // Read(), and begins anew

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Comparisons of many pairs of equal size, under the terms of CudaDigestQueue: of
// each the offset of the first byte that differs between a and b, UINT64_MAX where
// none does. In a captured graph Read() gives the smallest offset of all replays
// so far, where a digest is that of the last one.
class CudaCompareQueue {
 public:
  explicit CudaCompareQueue(int device = 0);
  ~CudaCompareQueue();
  CudaCompareQueue(CudaCompareQueue&&) noexcept;
  CudaCompareQueue& operator=(CudaCompareQueue&&) noexcept;
  std::size_t Enqueue(const void* a, const void* b, std::size_t bytes, cudaStream_t stream);
  std::size_t size() const;
  std::vector<std::uint64_t> Read();
  std::vector<std::uint64_t> Take();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_CUDA_H_
