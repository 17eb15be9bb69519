// Threads for kernels whose result depends on which of them arrives first.
#ifndef KERNELS_CPU_ARRIVAL_POOL_H_
#define KERNELS_CPU_ARRIVAL_POOL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace kernels::cpu {

// Calls body(worker), worker = 0 ... SideBySideThreads() - 1, on so many threads of
// PyTorch's and returns when all have returned; what they wrote is then visible to the
// caller. A thread may be given several workers, one after the other. Nobody waits for
// the others to begin: where other work wants the CPUs, too, that costs the turn in
// which threads would have met. Where PyTorch has one thread to give, or the caller is
// one of several, the threads are those of ArrivalPool, and an exception of `body` ends
// the program.
void RunSideBySide(const std::function<void(int worker)>& body);
// Both as RunSideBySide() has it when called next, if at::set_num_threads() is not.
int SideBySideThreads();
bool SideBySideUsesPool();

// Tasks 0 ... tasks - 1, dealt out in turn to the workers of RunSideBySide(). One of
// PyTorch's that has done its own does those of others: which one began first shows
// even where they do not run at the same time, and nobody waits for one that is late.
// The pool's, which take turns on a CPU, do their own only: the first would do all.
class SharedTasks {
 public:
  explicit SharedTasks(std::int64_t tasks)
      : tasks_(tasks),
        workers_(SideBySideThreads()),
        turns_(SideBySideUsesPool() ? 1 : workers_),
        shares_(static_cast<std::size_t>(workers_)) {}
  // do_task(task), each task by one of the workers that call this.
  template <class DoTask>
  void Run(int worker, const DoTask& do_task) {
    for (int turn = 0; turn < turns_; ++turn) {
      const int of = (worker + turn) % workers_;
      std::atomic<std::int64_t>& taken = shares_[static_cast<std::size_t>(of)].taken;
      for (std::int64_t task = of + workers_ * taken++; task < tasks_; task = of + workers_ * taken++) do_task(task);
    }
  }

 private:
  struct alignas(64) Share {  // a cache line
    std::atomic<std::int64_t> taken{0};
  };
  const std::int64_t tasks_;
  const int workers_, turns_;
  std::vector<Share> shares_;
};

// At least four threads whatever the number of cores and of PyTorch's threads. They
// are slow to start, more so on a loaded machine, and stand for the thread blocks that
// a GPU runs side by side:
// - each is pinned to a CPU of the process's affinity mask, in turn, since the
//   scheduler otherwise leaves all of them for a while on the CPU that woke them;
// - one for each CPU starts only when the others have woken, since otherwise a
//   short job is over on the first before the second begins.
// What is left to chance is which thread is how far when: caches, interrupts and
// whatever else runs. On a single CPU the threads mostly run one after the other.
class ArrivalPool {
 public:
  // Made at first use and never destroyed: its threads sleep until the process ends.
  static ArrivalPool& Instance();

  int workers() const { return static_cast<int>(threads_.size()); }

  // Calls body(worker) once on each worker and returns when all have returned;
  // what they wrote is then visible to the caller. `body` must not throw. Calls
  // from several threads run one after the other.
  void RunOnAll(const std::function<void(int worker)>& body);

 private:
  explicit ArrivalPool(int workers);
  void Loop(int worker);

  const std::vector<int> cpus_;
  const int starters_;  // threads that wait for each other before they begin
  std::mutex one_caller_;
  const std::function<void(int)>* body_ = nullptr;
  std::atomic<std::uint32_t> generation_{0};
  std::atomic<int> arrived_{0};
  std::atomic<int> running_{0};
  std::vector<std::thread> threads_;
};

}  // namespace kernels::cpu

#endif  // KERNELS_CPU_ARRIVAL_POOL_H_
