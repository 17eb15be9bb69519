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
// caller. They begin together: each waits a moment for the others, since otherwise a
// short job is over on the first before the second has woken. A thread may be given
// several workers, one after the other. Where PyTorch has one thread, or the caller is
// one of several, the threads are those of ArrivalPool. `body` must not throw.
void RunSideBySide(const std::function<void(int worker)>& body);
int SideBySideThreads();

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
