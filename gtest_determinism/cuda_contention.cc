#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/cuda_perturbations.h"
#include "gtest_determinism/internal/cuda_check.h"
#include "gtest_determinism/internal/cuda_kernels.h"

namespace gtest_determinism {
namespace {

using internal::CaptureScope;
using internal::CheckCuda;
using internal::DeviceScope;
using Clock = std::chrono::steady_clock;

class Contention;

// All that exist, for Synchronize() of a device.
struct Registry {
  std::mutex mutex;
  std::vector<Contention*> all;
};
Registry& AllContentions() {
  static auto* const registry = new Registry;
  return *registry;
}

class Contention final : public Perturbation {
 public:
  explicit Contention(const SmContentionOptions& options) : options_(options) {
    options_.largest_share = std::clamp(options_.largest_share, 0.0, 0.95);
    Registry& registry = AllContentions();
    const std::lock_guard lock(registry.mutex);
    registry.all.push_back(this);
    internal::SetCompetitionStopper([](int device) {
      Registry& every = AllContentions();
      const std::lock_guard guard(every.mutex);
      for (Contention* contention : every.all) {
        if (contention->options_.device == device) contention->Undo();
      }
    });
  }

  ~Contention() override {
    {
      Registry& registry = AllContentions();
      const std::lock_guard lock(registry.mutex);
      std::erase(registry.all, this);
    }
    Undo();
    {
      const std::lock_guard lock(mutex_);
      quit_ = true;
    }
    wake_.notify_all();
    if (worker_.joinable()) worker_.join();
    for (const cudaStream_t stream : streams_) {
      if (stream != nullptr) cudaStreamDestroy(stream);
    }
    if (stop_ != nullptr) cudaFreeHost(const_cast<unsigned*>(stop_));
  }

  std::string Name() const override {
    return "sm_contention(largest_share=" + std::to_string(options_.largest_share).substr(0, 4) + ")";
  }

  void Apply(int run, std::uint64_t seed) override {
    Prepare();
    const std::uint64_t mixed = MixSeed(seed ^ 0x736d, run);
    const int most = static_cast<int>(options_.largest_share * multiprocessors_);
    const int blocks = static_cast<int>(mixed % (static_cast<unsigned>(most) + 1));
    std::unique_lock lock(mutex_);
    if (!error_.empty()) throw std::runtime_error(std::exchange(error_, ""));
    if (blocks == 0) return;
    blocks_ = blocks;
    seed_ = mixed;
    *stop_ = 0;
    launched_ = false;
    active_ = true;
    wake_.notify_all();
    // The run begins beside it, not before it.
    wake_.wait(lock, [&] { return launched_ || !active_; });
  }

  // Waits until nothing competes any more.
  void Undo() override {
    std::unique_lock lock(mutex_);
    active_ = false;
    if (stop_ != nullptr) *stop_ = 1;
    wake_.notify_all();
    wake_.wait(lock, [&] { return !busy_; });
  }

 private:
  static constexpr std::size_t kWords = std::size_t{1} << 24;  // 64 MiB: more than an L2 cache

  void Prepare() {
    if (worker_.joinable()) return;
    buffer_ = CudaMemory(options_.device).Allocate(kWords * sizeof(std::uint32_t));
    const DeviceScope scope(options_.device);
    const CaptureScope capture;
    multiprocessors_ = internal::MultiprocessorCount();
    if (stop_ == nullptr) {
      void* memory = nullptr;
      CheckCuda(cudaHostAlloc(&memory, sizeof(unsigned), cudaHostAllocMapped), "cudaHostAlloc");
      stop_ = static_cast<unsigned*>(memory);
      int least = 0, greatest = 0;
      CheckCuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
      CheckCuda(cudaStreamCreateWithPriority(&streams_[0], cudaStreamNonBlocking, least), "a stream");
      CheckCuda(cudaStreamCreateWithPriority(&streams_[1], cudaStreamNonBlocking, greatest), "a stream");
    }
    // The kernel is loaded now, not beside a run: loading may wait for the device.
    *stop_ = 1;
    internal::LaunchCompete(1, const_cast<unsigned*>(stop_), 0, Buffer(), kWords, 0, streams_[0]);
    CheckCuda(cudaStreamSynchronize(streams_[0]), "a competing kernel");
    worker_ = std::thread([this] { Work(); });
  }

  void Work() {
    std::optional<DeviceScope> scope;
    std::optional<CaptureScope> capture;
    std::unique_lock lock(mutex_);
    while (!quit_) {
      wake_.wait(lock, [&] { return quit_ || active_; });
      if (quit_) return;
      busy_ = true;
      const int blocks = blocks_;
      const std::uint64_t seed = seed_;
      lock.unlock();
      std::string error;
      try {
        if (!scope) scope.emplace(options_.device);
        if (!capture) capture.emplace();
        Compete(blocks, seed);
      } catch (const std::exception& thrown) {
        error = thrown.what();
      }
      lock.lock();
      if (!error.empty()) error_ = error;
      active_ = busy_ = false;
      wake_.notify_all();
    }
  }

  // One burst after the other until it is stopped.
  void Compete(int blocks, std::uint64_t seed) {
    const Clock::time_point begin = Clock::now();
    const auto burst =
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(options_.burst).count());
    for (int n = 0; active_ && Clock::now() - begin < options_.limit; ++n) {
      const std::uint64_t mixed = MixSeed(seed, n);
      const cudaStream_t stream = streams_[mixed % 2];
      internal::LaunchCompete(blocks, const_cast<unsigned*>(stop_), burst / 2 + (mixed >> 8) % (burst / 2 + 1),
                              Buffer(), kWords, mixed, stream);
      if (n == 0) {
        const std::lock_guard lock(mutex_);
        launched_ = true;
        wake_.notify_all();
      }
      CheckCuda(cudaStreamSynchronize(stream), "a competing kernel");
    }
  }

  std::uint32_t* Buffer() const { return static_cast<std::uint32_t*>(buffer_.get()); }

  SmContentionOptions options_;
  int multiprocessors_ = 0;
  std::shared_ptr<void> buffer_;
  cudaStream_t streams_[2] = {nullptr, nullptr};
  volatile unsigned* stop_ = nullptr;  // mapped
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<bool> active_{false};
  bool launched_ = false, busy_ = false, quit_ = false;
  int blocks_ = 0;
  std::uint64_t seed_ = 0;
  std::string error_;  // of the worker, thrown by the next Apply()
  std::thread worker_;
};

}  // namespace

std::shared_ptr<Perturbation> SmContention(const SmContentionOptions& options) {
  return std::make_shared<Contention>(options);
}

}  // namespace gtest_determinism
