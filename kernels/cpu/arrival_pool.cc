#include "kernels/cpu/arrival_pool.h"

#include <algorithm>

namespace int4::cpu {

ArrivalPool& ArrivalPool::Instance() {
  constexpr int kLeastWorkers = 4;
  static ArrivalPool* const pool =
      new ArrivalPool(std::max(kLeastWorkers, static_cast<int>(std::thread::hardware_concurrency())));
  return *pool;
}

ArrivalPool::ArrivalPool(int workers) {
  threads_.reserve(workers);
  for (int worker = 0; worker < workers; ++worker) threads_.emplace_back([this, worker] { Loop(worker); });
}

void ArrivalPool::RunOnAll(const std::function<void(int)>& body) {
  const std::lock_guard lock(one_caller_);
  body_ = &body;
  running_.store(workers(), std::memory_order_relaxed);
  // Publishes body_ and running_ to the workers.
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (int left = running_.load(std::memory_order_acquire); left != 0;
       left = running_.load(std::memory_order_acquire)) {
    running_.wait(left, std::memory_order_acquire);
  }
}

void ArrivalPool::Loop(int worker) {
  std::uint32_t seen = 0;
  while (true) {
    generation_.wait(seen, std::memory_order_acquire);
    const std::uint32_t now = generation_.load(std::memory_order_acquire);
    if (now == seen) continue;
    seen = now;
    (*body_)(worker);
    // The last one out wakes the caller.
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

}  // namespace int4::cpu
