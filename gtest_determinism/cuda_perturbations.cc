#include "gtest_determinism/cuda_perturbations.h"

#include <algorithm>
#include <atomic>
#include <new>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/internal/cuda_check.h"
#include "gtest_determinism/internal/cuda_kernels.h"

namespace gtest_determinism {
namespace {

using internal::CheckCuda;
using internal::DeviceScope;

class CacheStateImpl final : public Perturbation {
 public:
  explicit CacheStateImpl(int device) : device_(device) {}

  std::string Name() const override { return "cache_state"; }

  void Apply(int run, std::uint64_t seed) override {
    const MemorySpace& space = CudaMemory(device_);
    const std::uint64_t mixed = MixSeed(seed ^ 0x6c32, run);
    const DeviceScope scope(device_);
    if (buffer_ == nullptr) {
      int l2 = 0;
      CheckCuda(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, device_), "cudaDeviceGetAttribute");
      bytes_ = 2 * static_cast<std::size_t>(std::max(l2, 1 << 20));
      buffer_ = space.Allocate(bytes_ + 16);
      space.Fill(buffer_.get(), 0, bytes_ + 16);
    }
    switch (mixed % 3) {
      case 0:
        internal::LaunchPlainRead(buffer_.get(), bytes_,
                                  reinterpret_cast<std::uint32_t*>(static_cast<char*>(buffer_.get()) + bytes_),
                                  nullptr);
        CheckCuda(cudaStreamSynchronize(nullptr), "cudaStreamSynchronize");
        break;
      case 1:
        space.Fill(buffer_.get(), static_cast<std::uint8_t>(mixed >> 8), bytes_);
        break;
      default:
        break;
    }
  }

  void Undo() override {}

 private:
  const int device_;
  std::size_t bytes_ = 0;
  std::shared_ptr<void> buffer_;
};

std::vector<std::size_t> PowersOfTwo() {
  constexpr std::size_t kLargest = std::size_t{32} << 20, kSmallest = 512, kEach = std::size_t{15} << 20, kMost = 16;
  std::vector<std::size_t> sizes;
  for (std::size_t size = kLargest; size >= kSmallest; size /= 2) {
    sizes.insert(sizes.end(), std::clamp<std::size_t>(kEach / size, 1, kMost), size);
  }
  return sizes;
}

class WorkspacePoisonImpl final : public Perturbation {
 public:
  explicit WorkspacePoisonImpl(WorkspacePoisonOptions options) : options_(std::move(options)) {
    if (!options_.allocator.allocate || !options_.allocator.free) {
      throw std::invalid_argument("WorkspacePoison: an allocator has both functions");
    }
  }

  std::string Name() const override { return "workspace_poison"; }

  void Apply(int run, std::uint64_t seed) override {
    CudaMemory(options_.device);  // a clear error where there is no such device
    const DeviceScope scope(options_.device);
    // Never 0: that is what fresh memory holds.
    const auto byte = static_cast<int>(1 + MixSeed(seed ^ 0x7770, run) % 255);
    const DeviceAllocator& from = options_.allocator;
    struct Blocks {
      const DeviceAllocator& from;
      std::vector<void*> taken = {};
      ~Blocks() {
        for (void* block : taken) from.free(block);
      }
    } blocks{from};
    for (const std::size_t size : options_.sizes ? options_.sizes() : PowersOfTwo()) {
      void* block = nullptr;
      try {
        block = from.allocate(size);
      } catch (const std::exception&) {
        // None left of that size: what there is has been taken, or is in use.
      }
      if (block == nullptr) continue;
      blocks.taken.push_back(block);
      CheckCuda(cudaMemsetAsync(block, byte, size, from.stream), "filling free memory");
    }
    CheckCuda(cudaStreamSynchronize(from.stream), "filling free memory");
  }

  void Undo() override {}

 private:
  const WorkspacePoisonOptions options_;
};

class LaunchDelayImpl final : public LaunchDelayPerturbation {
 public:
  LaunchDelayImpl(std::vector<cudaStream_t> streams, std::chrono::microseconds longest, int device)
      : streams_(std::move(streams)), longest_(std::max<std::int64_t>(longest.count(), 0) * 1000), device_(device) {}

  std::string Name() const override {
    return "launch_delay(longest=" + std::to_string(longest_ / 1000) +
           "us, streams=" + std::to_string(streams_.size()) + ")";
  }

  void Apply(int run, std::uint64_t seed) override {
    seed_ = MixSeed(seed ^ 0x6c64, run);
    if (!streams_.empty()) {
      CudaMemory(device_);  // a clear error where there is no such device
      const DeviceScope scope(device_);
      for (std::size_t i = 0; i < streams_.size(); ++i) {
        internal::LaunchHoldStream(Nanoseconds(static_cast<int>(i)), streams_[i]);
      }
    }
    points_ = 1 << 20;  // apart from the numbers of streams
    applied_ = true;
    Point();
  }

  void Undo() override { applied_ = false; }

  void Point() override {
    if (!applied_) return;
    const auto until = std::chrono::steady_clock::now() + std::chrono::nanoseconds(Nanoseconds(points_++));
    while (std::chrono::steady_clock::now() < until) {
    }
  }

 private:
  std::uint64_t Nanoseconds(int n) const { return MixSeed(seed_, n) % (static_cast<std::uint64_t>(longest_) + 1); }

  const std::vector<cudaStream_t> streams_;
  const std::int64_t longest_;  // ns
  const int device_;
  std::uint64_t seed_ = 0;
  int points_ = 0;
  bool applied_ = false;
};

}  // namespace

std::shared_ptr<Perturbation> CacheState(int device) { return std::make_shared<CacheStateImpl>(device); }

DeviceAllocator CudaMallocAllocator() {
  return {[](std::size_t bytes) {
            void* memory = nullptr;
            if (cudaMalloc(&memory, bytes) == cudaSuccess) return memory;
            cudaGetLastError();
            return static_cast<void*>(nullptr);
          },
          [](void* memory) { cudaFree(memory); }, nullptr};
}

DeviceAllocator CudaMallocAsyncAllocator(cudaStream_t stream) {
  return {[stream](std::size_t bytes) {
            void* memory = nullptr;
            if (cudaMallocAsync(&memory, bytes, stream) == cudaSuccess) return memory;
            cudaGetLastError();
            return static_cast<void*>(nullptr);
          },
          [stream](void* memory) { cudaFreeAsync(memory, stream); }, stream};
}

std::shared_ptr<Perturbation> WorkspacePoison(WorkspacePoisonOptions options) {
  return std::make_shared<WorkspacePoisonImpl>(std::move(options));
}

std::shared_ptr<LaunchDelayPerturbation> LaunchDelay(std::vector<cudaStream_t> streams,
                                                     std::chrono::microseconds longest, int device) {
  return std::make_shared<LaunchDelayImpl>(std::move(streams), longest, device);
}

}  // namespace gtest_determinism
