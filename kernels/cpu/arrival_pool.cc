#include "kernels/cpu/arrival_pool.h"

#include <ATen/Parallel.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>

namespace kernels::cpu {
namespace {

// CPUs that this process may use; Linux only, as the whole project is.
std::vector<int> AllowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
    }
  }
  return cpus;
}

// Best effort: without it the threads still run, only less often side by side.
void PinTo(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

// The threads that at::parallel_for runs on when it could use `threads`: an OpenMP
// limit may leave fewer.
int TeamOf(int threads) {
  thread_local int asked = 0, team = 0;
  if (asked != threads) {
    std::atomic<int> calls{0};
    at::parallel_for(0, threads, 1, [&](std::int64_t, std::int64_t) { ++calls; });
    asked = threads;
    team = calls;
  }
  return team;
}

// Of PyTorch's; 1: use the pool.
int Threads() { return at::in_parallel_region() ? 1 : TeamOf(at::get_num_threads()); }

}  // namespace

bool SideBySideUsesPool() { return Threads() == 1; }

int SideBySideThreads() { return SideBySideUsesPool() ? ArrivalPool::Instance().workers() : Threads(); }

void RunSideBySide(const std::function<void(int)>& body) {
  const int threads = Threads();
  if (threads == 1) return ArrivalPool::Instance().RunOnAll(body);
  at::parallel_for(0, threads, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t worker = begin; worker < end; ++worker) body(static_cast<int>(worker));
  });
}

ArrivalPool& ArrivalPool::Instance() {
  constexpr int kLeastWorkers = 4;
  static ArrivalPool* const pool =
      new ArrivalPool(std::max(kLeastWorkers, static_cast<int>(std::thread::hardware_concurrency())));
  return *pool;
}

ArrivalPool::ArrivalPool(int workers)
    : cpus_(AllowedCpus()), starters_(std::clamp(static_cast<int>(cpus_.size()), 1, workers)) {
  threads_.reserve(workers);
  for (int worker = 0; worker < workers; ++worker) threads_.emplace_back([this, worker] { Loop(worker); });
}

void ArrivalPool::RunOnAll(const std::function<void(int)>& body) {
  const std::lock_guard lock(one_caller_);
  body_ = &body;
  arrived_.store(0, std::memory_order_relaxed);
  running_.store(workers(), std::memory_order_relaxed);
  // Publishes the three to the workers.
  generation_.fetch_add(1, std::memory_order_release);
  generation_.notify_all();
  for (int left = running_.load(std::memory_order_acquire); left != 0;
       left = running_.load(std::memory_order_acquire)) {
    running_.wait(left, std::memory_order_acquire);
  }
}

void ArrivalPool::Loop(int worker) {
  if (!cpus_.empty()) PinTo(cpus_[worker % cpus_.size()]);
  std::uint32_t seen = 0;
  while (true) {
    generation_.wait(seen, std::memory_order_acquire);
    const std::uint32_t now = generation_.load(std::memory_order_acquire);
    if (now == seen) continue;
    seen = now;
    if (worker < starters_) {
      arrived_.fetch_add(1, std::memory_order_relaxed);
      while (arrived_.load(std::memory_order_relaxed) < starters_) std::this_thread::yield();
    }
    (*body_)(worker);
    // The last one out wakes the caller.
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

}  // namespace kernels::cpu
