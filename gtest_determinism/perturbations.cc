#include "gtest_determinism/perturbations.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace gtest_determinism {
namespace {

class AllocatorPoisonImpl final : public Perturbation {
 public:
  std::string Name() const override { return "allocator_poison"; }

  void Apply(int run, std::uint64_t seed) override {
    // Never 0: that turns M_PERTURB off, and is what fresh pages hold anyway.
    const auto byte = static_cast<int>(1 + MixSeed(seed, run) % 255);
    SetPerturb(byte);
    FillFreeBlocks(byte);
  }

  void Undo() override {
    const char* variable = std::getenv("MALLOC_PERTURB_");
    SetPerturb(variable != nullptr ? std::atoi(variable) : 0);
  }

 private:
  static void SetPerturb([[maybe_unused]] int byte) {
#if defined(__GLIBC__)
    mallopt(M_PERTURB, byte);
#endif
  }

  // glibc's per-thread cache hands out blocks of up to 1,032 bytes, 7 of each
  // size, without M_PERTURB: put blocks there that hold the byte.
  static void FillFreeBlocks(int byte) {
    constexpr std::size_t kStep = 16, kLargest = 1032, kEach = 7;
    for (std::size_t bytes = 24; bytes <= kLargest; bytes += kStep) {
      void* blocks[kEach];
      for (void*& block : blocks) {
        block = std::malloc(bytes);
        if (block != nullptr) std::memset(block, byte, bytes);
        // The block is freed unread; do not let the compiler drop the fill.
        asm volatile("" : : "r"(block) : "memory");
      }
      for (void* block : blocks) std::free(block);
    }
  }
};

class CompetingLoadImpl final : public Perturbation {
 public:
  explicit CompetingLoadImpl(int threads)
      : threads_(threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()))) {}

  ~CompetingLoadImpl() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    active_ = 0;
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  std::string Name() const override { return "competing_load(threads=" + std::to_string(threads_) + ")"; }

  void Apply(int run, std::uint64_t seed) override {
    // A different load in each run gives the scheduler different orders to make.
    const auto active = static_cast<int>(MixSeed(seed ^ 0x6c6f6164, run) % (static_cast<unsigned>(threads_) + 1));
    {
      const std::lock_guard lock(mutex_);
      active_ = active;
    }
    while (static_cast<int>(workers_.size()) < active) {
      workers_.emplace_back([this, index = static_cast<int>(workers_.size())] { Work(index); });
    }
    wake_.notify_all();
  }

  void Undo() override {
    // The workers see it within one sweep, some 0.1 ms.
    active_ = 0;
  }

 private:
  void Work(int index) {
    // Twice a usual second-level cache, so that the sweeps also take bandwidth.
    std::vector<std::uint64_t> words(std::size_t{1} << 18);
    std::uint64_t mixed = static_cast<std::uint64_t>(index) + 1;
    std::unique_lock lock(mutex_);
    while (!stop_) {
      wake_.wait(lock, [&] { return stop_ || active_ > index; });
      lock.unlock();
      while (active_ > index) {
        for (std::size_t i = 0; i < words.size(); i += 8) {
          mixed = mixed * 6364136223846793005u + words[i] + 1442695040888963407u;
          words[i] = mixed;
        }
      }
      lock.lock();
    }
  }

  const int threads_;
  std::atomic<int> active_{0};  // written with mutex_ held where workers are to wake
  bool stop_ = false;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

}  // namespace

std::shared_ptr<Perturbation> AllocatorPoison() { return std::make_shared<AllocatorPoisonImpl>(); }

std::shared_ptr<Perturbation> CompetingLoad(int threads) { return std::make_shared<CompetingLoadImpl>(threads); }

std::vector<std::shared_ptr<Perturbation>> DefaultPerturbations() { return {AllocatorPoison(), CompetingLoad()}; }

std::uint64_t MixSeed(std::uint64_t seed, int run) {
  std::uint64_t z = seed + 0x9e3779b97f4a7c15u * (static_cast<std::uint64_t>(run) + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

}  // namespace gtest_determinism
