// Results lie in slabs of device memory that are never moved, so that a captured
// graph may keep their addresses.
#include <algorithm>
#include <cstring>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/internal/cuda_check.h"

namespace gtest_determinism {
namespace {

using internal::CaptureScope;
using internal::CheckCuda;
using internal::DeviceScope;

// `kWords` words of 64 bits for each result.
template <std::size_t kWords>
class ResultSlabs {
 public:
  // Fresh slabs hold `fill` in each byte, and so do all after Reset().
  ResultSlabs(int device, std::uint8_t fill) : space_(CudaMemory(device)), fill_(fill) {}

  std::uint64_t* Place(std::size_t index) {
    if (index / kEach == slabs_.size()) {
      slabs_.push_back(space_.Allocate(kBytes));
      space_.Fill(slabs_.back().get(), fill_, kBytes);
    }
    return static_cast<std::uint64_t*>(slabs_[index / kEach].get()) + index % kEach * kWords;
  }

  // The first `count` results; all work on them is done.
  std::vector<std::uint64_t> Fetch(std::size_t count) const {
    std::vector<std::uint64_t> words(count * kWords);
    for (std::size_t at = 0; at < count; at += kEach) {
      const std::size_t n = std::min(kEach, count - at);
      space_.CopyToHost(words.data() + at * kWords, slabs_[at / kEach].get(), n * kWords * sizeof(std::uint64_t));
    }
    return words;
  }

  void Reset(std::size_t count) {
    for (std::size_t at = 0; at < count; at += kEach) space_.Fill(slabs_[at / kEach].get(), fill_, kBytes);
  }

 private:
  static constexpr std::size_t kEach = 4096, kBytes = kEach * kWords * sizeof(std::uint64_t);
  const MemorySpace& space_;
  std::uint8_t fill_;
  std::vector<std::shared_ptr<void>> slabs_;
};

// The streams that were used, and how to wait for them.
class UsedStreams {
 public:
  // Whether it is being captured.
  bool Note(cudaStream_t stream) {
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    CheckCuda(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
    const bool captured = status != cudaStreamCaptureStatusNone;
    captured_ |= captured;
    if (!captured && std::find(streams_.begin(), streams_.end(), stream) == streams_.end()) streams_.push_back(stream);
    return captured;
  }
  void Wait() const {
    // The streams on which a graph is replayed are not known.
    if (captured_) return CheckCuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    for (const cudaStream_t stream : streams_) CheckCuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  }
  void Clear() {
    streams_.clear();
    captured_ = false;
  }

 private:
  std::vector<cudaStream_t> streams_;
  bool captured_ = false;
};

}  // namespace

class CudaDigestQueue::Impl {
 public:
  explicit Impl(int device) : device_(device), space_(CudaMemory(device)), results_(device, 0) {}

  std::size_t Enqueue(const void* data, std::size_t bytes, cudaStream_t stream) {
    const DeviceScope scope(device_);
    const bool captured = streams_.Note(stream);
    LaunchTreeDigest(data, bytes, results_.Place(count_), ScratchFor(bytes, stream, captured), stream);
    return count_++;
  }

  std::vector<Digest> Read() const {
    const DeviceScope scope(device_);
    streams_.Wait();
    const std::vector<std::uint64_t> words = results_.Fetch(count_);
    std::vector<Digest> digests(count_);
    if (count_ != 0) std::memcpy(digests.data(), words.data(), count_ * sizeof(Digest));
    return digests;
  }

  void Clear() {
    count_ = 0;
    streams_.Clear();
    outgrown_.clear();
  }

  std::size_t size() const { return count_; }

 private:
  // Digests on one stream follow each other and may share it; those of a graph
  // have their own, since it is not known where they will run.
  struct Scratch {
    cudaStream_t stream;
    bool captured;
    std::size_t bytes;
    std::shared_ptr<void> memory;
  };

  void* ScratchFor(std::size_t bytes, cudaStream_t stream, bool captured) {
    const std::size_t needed = DigestScratchBytes(bytes);
    const auto at = std::find_if(scratches_.begin(), scratches_.end(), [&](const Scratch& scratch) {
      return scratch.stream == stream && scratch.captured == captured;
    });
    if (at != scratches_.end() && at->bytes >= needed) return at->memory.get();
    // Some room, so that it is not outgrown by the next.
    const std::size_t room = std::max<std::size_t>(needed + needed / 2, std::size_t{1} << 16);
    Scratch grown{stream, captured, room, space_.Allocate(room)};
    space_.Fill(grown.memory.get(), 0, 16);
    void* const memory = grown.memory.get();
    if (at == scratches_.end()) {
      scratches_.push_back(std::move(grown));
    } else {
      outgrown_.push_back(std::exchange(*at, std::move(grown)).memory);  // it may be in use
    }
    return memory;
  }

  const int device_;
  const MemorySpace& space_;
  ResultSlabs<2> results_;
  UsedStreams streams_;
  std::size_t count_ = 0;
  std::vector<Scratch> scratches_;
  std::vector<std::shared_ptr<void>> outgrown_;
};

CudaDigestQueue::CudaDigestQueue(int device) : impl_(std::make_unique<Impl>(device)) {}
CudaDigestQueue::~CudaDigestQueue() = default;
CudaDigestQueue::CudaDigestQueue(CudaDigestQueue&&) noexcept = default;
CudaDigestQueue& CudaDigestQueue::operator=(CudaDigestQueue&&) noexcept = default;
std::size_t CudaDigestQueue::Enqueue(const void* data, std::size_t bytes, cudaStream_t stream) {
  return impl_->Enqueue(data, bytes, stream);
}
std::size_t CudaDigestQueue::size() const { return impl_->size(); }
std::vector<Digest> CudaDigestQueue::Read() { return impl_->Read(); }
std::vector<Digest> CudaDigestQueue::Take() {
  std::vector<Digest> digests = impl_->Read();
  impl_->Clear();
  return digests;
}

class CudaCompareQueue::Impl {
 public:
  explicit Impl(int device) : device_(device), results_(device, 0xff) {}

  std::size_t Enqueue(const void* a, const void* b, std::size_t bytes, cudaStream_t stream) {
    const DeviceScope scope(device_);
    streams_.Note(stream);
    LaunchCompare(a, b, bytes, results_.Place(count_), stream);
    return count_++;
  }

  std::vector<std::uint64_t> Read() const {
    const DeviceScope scope(device_);
    streams_.Wait();
    return results_.Fetch(count_);
  }

  void Clear() {
    results_.Reset(count_);
    count_ = 0;
    streams_.Clear();
  }

  std::size_t size() const { return count_; }

 private:
  const int device_;
  ResultSlabs<1> results_;
  UsedStreams streams_;
  std::size_t count_ = 0;
};

CudaCompareQueue::CudaCompareQueue(int device) : impl_(std::make_unique<Impl>(device)) {}
CudaCompareQueue::~CudaCompareQueue() = default;
CudaCompareQueue::CudaCompareQueue(CudaCompareQueue&&) noexcept = default;
CudaCompareQueue& CudaCompareQueue::operator=(CudaCompareQueue&&) noexcept = default;
std::size_t CudaCompareQueue::Enqueue(const void* a, const void* b, std::size_t bytes, cudaStream_t stream) {
  return impl_->Enqueue(a, b, bytes, stream);
}
std::size_t CudaCompareQueue::size() const { return impl_->size(); }
std::vector<std::uint64_t> CudaCompareQueue::Read() { return impl_->Read(); }
std::vector<std::uint64_t> CudaCompareQueue::Take() {
  std::vector<std::uint64_t> offsets = impl_->Read();
  impl_->Clear();
  return offsets;
}

}  // namespace gtest_determinism
