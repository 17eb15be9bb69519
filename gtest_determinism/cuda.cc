#include "gtest_determinism/cuda.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <mutex>
#include <new>
#include <stdexcept>

#include "gtest_determinism/internal/cuda_check.h"
#include "gtest_determinism/internal/cuda_kernels.h"
#include "gtest_determinism/internal/element_differences.h"

namespace gtest_determinism {
namespace {

using internal::CaptureScope;
using internal::CheckCuda;
using internal::DeviceScope;

std::atomic<void (*)(int)>& CompetitionStopper() {
  static std::atomic<void (*)(int)> stopper{nullptr};
  return stopper;
}

// The number of devices; where there is none, `reason` says why.
int CountDevices(std::string& reason) {
  int count = 0;
  if (const cudaError_t error = cudaGetDeviceCount(&count); error != cudaSuccess) {
    cudaGetLastError();
    reason = std::string("no CUDA device: ") + cudaGetErrorString(error);
    return 0;
  }
  if (count == 0) reason = "no CUDA device: the driver reports none";
  return count;
}

void* AllocateBytes(std::size_t bytes, int device) {
  const DeviceScope scope(device);
  const CaptureScope capture;
  void* memory = nullptr;
  const cudaError_t error = cudaMalloc(&memory, std::max<std::size_t>(bytes, 1));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw std::bad_alloc();
  }
  CheckCuda(error, "cudaMalloc of " + std::to_string(bytes) + " bytes on cuda:" + std::to_string(device));
  return memory;
}

void FreeBytes(void* memory, int device) {
  // Also at the end of the process, when the runtime may be gone: nothing to be told to anybody.
  int before = 0;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  if (cudaGetDevice(&before) != cudaSuccess) return;
  cudaThreadExchangeStreamCaptureMode(&mode);
  if (before != device) cudaSetDevice(device);
  cudaFree(memory);
  if (before != device) cudaSetDevice(before);
  cudaThreadExchangeStreamCaptureMode(&mode);
}

std::shared_ptr<void> Owned(std::size_t bytes, int device) {
  return {AllocateBytes(bytes, device), [device](void* memory) { FreeBytes(memory, device); }};
}

class CudaSpace final : public MemorySpace {
 public:
  explicit CudaSpace(int device) : device_(device), name_("cuda:" + std::to_string(device)) {
    const DeviceScope scope(device_);
    const CaptureScope capture;
    CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags on " + name_);
    CheckCuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreateWithFlags on " + name_);
    CheckCuda(cudaMallocHost(&host_words_, kWords * sizeof(std::uint64_t)), "cudaMallocHost");
    words_ = static_cast<std::uint64_t*>(AllocateBytes(kWords * sizeof(std::uint64_t), device_));
  }

  std::string_view Name() const override { return name_; }

  std::shared_ptr<void> Allocate(std::size_t bytes) const override { return Owned(bytes, device_); }

  void Copy(void* to, const void* from, std::size_t bytes) const override {
    CopyBytes(to, from, bytes, cudaMemcpyDeviceToDevice);
  }
  void CopyToHost(void* to, const void* from, std::size_t bytes) const override {
    CopyBytes(to, from, bytes, cudaMemcpyDeviceToHost);
  }
  void CopyFromHost(void* to, const void* from, std::size_t bytes) const {
    CopyBytes(to, from, bytes, cudaMemcpyHostToDevice);
  }

  void Fill(void* to, std::uint8_t value, std::size_t bytes) const override {
    if (bytes == 0) return;
    const DeviceScope scope(device_);
    const CaptureScope capture;
    CheckCuda(cudaMemsetAsync(to, value, bytes, stream_), "filling memory of " + name_);
    Wait();
  }

  bool Equal(const void* a, const void* b, std::size_t bytes) const override {
    if (bytes == 0) return true;
    const DeviceScope scope(device_);
    const CaptureScope capture;
    CheckCuda(cudaMemsetAsync(words_, 0xff, sizeof(std::uint64_t), stream_), "cudaMemsetAsync on " + name_);
    LaunchCompare(a, b, bytes, words_, stream_);
    return FetchWords(1)[0] == kNoByte;
  }

  // Waits once for up to 4,096 pairs.
  std::vector<bool> EqualEach(std::span<const BytePair> pairs) const override {
    const DeviceScope scope(device_);
    const CaptureScope capture;
    std::vector<bool> equal(pairs.size());
    for (std::size_t at = 0; at < pairs.size(); at += kWords) {
      const std::size_t count = std::min(kWords, pairs.size() - at);
      CheckCuda(cudaMemsetAsync(words_, 0xff, count * sizeof(std::uint64_t), stream_), "cudaMemsetAsync on " + name_);
      internal::LaunchCompareEach(pairs.subspan(at, count), words_, stream_);
      const std::uint64_t* first = FetchWords(count);
      for (std::size_t i = 0; i < count; ++i) equal[at + i] = first[i] == kNoByte;
    }
    return equal;
  }

  ElementDifferences DifferencesOf(const void* expected, const void* actual, std::size_t elements,
                                   DType dtype) const override {
    if (elements == 0) return {};
    const DeviceScope scope(device_);
    const CaptureScope capture;
    if (differences_scratch_ == nullptr) {
      const std::size_t bytes = internal::DifferencesScratchBytes();
      std::shared_ptr<void> scratch = Owned(bytes, device_);
      CheckCuda(cudaMemsetAsync(scratch.get(), 0, bytes, stream_), "cudaMemsetAsync on " + name_);
      differences_scratch_ = std::move(scratch);
    }
    internal::DifferenceCount count;
    internal::LaunchCountDifferences(expected, actual, elements, dtype,
                                     reinterpret_cast<internal::DifferenceCount*>(words_), differences_scratch_.get(),
                                     stream_);
    std::memcpy(&count, FetchWords(sizeof(count) / sizeof(std::uint64_t)), sizeof(count));
    return internal::ToElementDifferences(count);
  }

  void Synchronize() const override {
    const DeviceScope scope(device_);
    if (void (*stop)(int) = CompetitionStopper().load(); stop != nullptr) {
      // What competes shall do so until the work is done: as far as streams that
      // order themselves with the legacy stream show it.
      CheckCuda(cudaEventRecord(event_, cudaStreamLegacy), "cudaEventRecord on " + name_);
      CheckCuda(cudaEventSynchronize(event_), "waiting for " + name_);
      stop(device_);
    }
    CheckCuda(cudaDeviceSynchronize(), "waiting for " + name_);
  }

  Digest DigestOf(const void* data, std::size_t bytes) const override {
    const DeviceScope scope(device_);
    const CaptureScope capture;
    const std::size_t scratch = DigestScratchBytes(bytes);
    if (scratch > scratch_bytes_) {
      scratch_ = nullptr;
      scratch_bytes_ = 0;
      scratch_ = Owned(scratch, device_);
      CheckCuda(cudaMemsetAsync(scratch_.get(), 0, 16, stream_), "cudaMemsetAsync on " + name_);
      scratch_bytes_ = scratch;
    }
    LaunchTreeDigest(data, bytes, words_, scratch_.get(), stream_);
    Digest digest;
    const auto* words = reinterpret_cast<const unsigned char*>(FetchWords(2));
    std::copy_n(words, digest.size(), digest.begin());
    return digest;
  }

  std::vector<std::int64_t> ElementsHolding(const void* data, std::size_t elements, std::size_t size,
                                            std::uint8_t value, const std::vector<std::int64_t>* among) const override {
    if (size != 1 && size != 2 && size != 4 && size != 8) {
      return MemorySpace::ElementsHolding(data, elements, size, value, among);
    }
    const DeviceScope scope(device_);
    const CaptureScope capture;
    std::shared_ptr<void> candidates;
    if (among != nullptr) {
      elements = among->size();
      candidates = Owned(elements * sizeof(std::int64_t), device_);
      CopyFromHost(candidates.get(), among->data(), elements * sizeof(std::int64_t));
    }
    const auto* candidate = static_cast<const std::int64_t*>(candidates.get());
    auto* count = reinterpret_cast<unsigned long long*>(words_);
    // Most often there are none; memory for them is taken when their number is known.
    CheckCuda(cudaMemsetAsync(count, 0, sizeof(*count), stream_), "cudaMemsetAsync on " + name_);
    internal::LaunchFindHolding(data, elements, size, value, candidate, nullptr, 0, count, stream_);
    const std::uint64_t found = FetchWords(1)[0];
    std::vector<std::int64_t> indices(found);
    if (found == 0) return indices;
    const std::shared_ptr<void> listed = Owned(found * sizeof(std::int64_t), device_);
    CheckCuda(cudaMemsetAsync(count, 0, sizeof(*count), stream_), "cudaMemsetAsync on " + name_);
    internal::LaunchFindHolding(data, elements, size, value, candidate, static_cast<std::int64_t*>(listed.get()), found,
                                count, stream_);
    if (FetchWords(1)[0] != found) throw std::runtime_error("memory of " + name_ + " changes while it is read");
    CopyToHost(indices.data(), listed.get(), found * sizeof(std::int64_t));
    std::sort(indices.begin(), indices.end());
    return indices;
  }

 private:
  void CopyBytes(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) const {
    if (bytes == 0) return;
    const DeviceScope scope(device_);
    const CaptureScope capture;
    CheckCuda(cudaMemcpyAsync(to, from, bytes, kind, stream_),
              "copying " + std::to_string(bytes) + " bytes of " + name_);
    Wait();
  }
  void Wait() const { CheckCuda(cudaStreamSynchronize(stream_), "waiting for a stream of " + name_); }
  // The first words of words_, when all before it is done.
  const std::uint64_t* FetchWords(std::size_t count) const {
    CheckCuda(cudaMemcpyAsync(host_words_, words_, count * sizeof(std::uint64_t), cudaMemcpyDeviceToHost, stream_),
              "reading from " + name_);
    Wait();
    return static_cast<const std::uint64_t*>(host_words_);
  }

  static constexpr std::size_t kWords = 4096;
  static constexpr std::uint64_t kNoByte = std::numeric_limits<std::uint64_t>::max();
  const int device_;
  const std::string name_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t event_ = nullptr;
  std::uint64_t* words_ = nullptr;  // kWords on the device: a digest, counts, the first byte of each pair that differs
  void* host_words_ = nullptr;      // as many, pinned
  mutable std::shared_ptr<void> differences_scratch_;
  mutable std::shared_ptr<void> scratch_;
  mutable std::size_t scratch_bytes_ = 0;
};

const CudaSpace& SpaceOf(int device) {
  // Never destroyed: views may outlive main().
  static std::mutex mutex;
  static auto* const spaces = new std::vector<const CudaSpace*>;
  const std::lock_guard lock(mutex);
  if (device >= 0 && static_cast<std::size_t>(device) < spaces->size() && (*spaces)[device] != nullptr) {
    return *(*spaces)[device];
  }
  std::string reason;
  const int devices = CountDevices(reason);
  if (device < 0 || device >= devices) {
    throw std::invalid_argument("device cuda:" + std::to_string(device) + ": " +
                                (devices == 0 ? reason : "there are " + std::to_string(devices) + ", counted from 0"));
  }
  spaces->resize(static_cast<std::size_t>(devices), nullptr);
  const auto* space = new CudaSpace(device);
  (*spaces)[device] = space;
  return *space;
}

[[noreturn]] void Refuse(std::string_view name, const std::string& what) {
  throw std::invalid_argument("device memory" + (name.empty() ? "" : " '" + std::string(name) + "'") + " " + what);
}

std::string Rejection(const void* data, int device) {
  cudaPointerAttributes attributes{};
  if (const cudaError_t error = cudaPointerGetAttributes(&attributes, data); error != cudaSuccess) {
    cudaGetLastError();
    return std::string("has an address that CUDA does not know: ") + cudaGetErrorString(error);
  }
  switch (attributes.type) {
    case cudaMemoryTypeManaged:
      return "";
    case cudaMemoryTypeDevice:
      if (attributes.device == device) return "";
      return "lies on cuda:" + std::to_string(attributes.device) + ", not on cuda:" + std::to_string(device);
    default:
      return "is memory of the host: compare a std::span of it";
  }
}

}  // namespace

std::string NoCudaDevice() {
  std::string reason;
  CountDevices(reason);
  return reason;
}

const MemorySpace& CudaMemory(int device) { return SpaceOf(device); }

namespace internal {

int MultiprocessorCount() {
  constexpr int kDevices = 64;
  static std::atomic<int> counts[kDevices];
  int device = 0, count = 0;
  CheckCuda(cudaGetDevice(&device), "cudaGetDevice");
  if (device < kDevices) count = counts[device].load(std::memory_order_relaxed);
  if (count != 0) return count;
  CheckCuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  if (device < kDevices) counts[device].store(count, std::memory_order_relaxed);
  return count;
}

void SetCompetitionStopper(void (*stop)(int)) { CompetitionStopper().store(stop); }

std::size_t DeviceElements(const std::vector<std::int64_t>& shape, DType dtype) {
  std::size_t elements = 1;
  for (const std::int64_t extent : shape) {
    if (extent < 0) throw std::invalid_argument("device memory has a negative extent");
    if (extent != 0 &&
        elements > std::numeric_limits<std::ptrdiff_t>::max() / SizeOf(dtype) / static_cast<std::size_t>(extent)) {
      throw std::invalid_argument("device memory is larger than the address space");
    }
    elements *= static_cast<std::size_t>(extent);
  }
  return elements;
}

std::shared_ptr<void> AllocateOnDevice(const std::vector<std::int64_t>& shape, DType dtype, int device) {
  const std::size_t bytes = DeviceElements(shape, dtype) * SizeOf(dtype);
  return SpaceOf(device).Allocate(bytes);
}

void CopyToDevice(void* to, const void* from, std::size_t bytes, int device) {
  SpaceOf(device).CopyFromHost(to, from, bytes);
}

void AppendDeviceBits(Trace& trace, std::string_view name, const void* data, DType dtype,
                      const std::vector<std::int64_t>& shape, cudaStream_t stream, int device,
                      std::shared_ptr<const void> owner) {
  for (const std::int64_t extent : shape) {
    if (extent < 0) Refuse(name, "has a negative extent");
  }
  BitView view;
  view.data = data;
  view.dtype = dtype;
  view.shape = shape;
  view.bytes = DeviceElements(shape, dtype) * SizeOf(dtype);
  view.space = &CudaMemory(device);
  view.owner = std::move(owner);
  if (view.bytes != 0) {
    if (data == nullptr) Refuse(name, "has no address");
    if (const std::string why = Rejection(data, device); !why.empty()) Refuse(name, why);
  }
  const DeviceScope scope(device);
  CheckCuda(cudaStreamSynchronize(stream), "waiting for the stream of " + std::string(name.empty() ? "a span" : name));
  trace.push_back({std::string(name), std::move(view)});
}

}  // namespace internal
}  // namespace gtest_determinism
