// Perturbations of what surrounds a computation on a GPU, and runs that change
// how it is launched. Target gtest_determinism::cuda.
//
//   EXPECT_DETERMINISTIC_WITH(
//       (Options{.runs = 300, .perturbations = {{WorkspacePoison(), CacheState(), SmContention()}}}),
//       [&] { Launch(x, y, stream); return y.Span(stream); });
//
//   EXPECT_DETERMINISTIC_WITH((Options{.property = kGraphAgainstEager}),
//       GraphAgainstEager([&](cudaStream_t s) { Launch(x, y, s); return y.Span(s); }));
//
// All that varies follows from the run and the seed. Making one needs no device;
// Apply() throws std::runtime_error or std::invalid_argument where there is none.
// perturbations.h says how to write one of your own.
#ifndef GTEST_DETERMINISM_CUDA_PERTURBATIONS_H_
#define GTEST_DETERMINISM_CUDA_PERTURBATIONS_H_

#include <cuda_runtime_api.h>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest_determinism/outputs.h"
#include "gtest_determinism/perturbations.h"

namespace gtest_determinism {

// ---- Competing kernels ----

struct SmContentionOptions {
  // Of the multiprocessors, from none to this share are occupied, by run. Below
  // 1, so that the computation always goes on.
  double largest_share = 0.75;
  // How long a competing kernel lasts; then come others, with all multiprocessors
  // free in between, so that a kernel that needs all of them at a time can start.
  std::chrono::microseconds burst{400};
  // What competes in one run ends after this, whatever happens.
  std::chrono::milliseconds limit{2000};
  int device = 0;
};
// Kernels on streams of their own that take whole multiprocessors, read and write
// memory, compute and sleep by turns, at a lower or a higher priority. They end
// with the run: at Undo(), when CudaMemory() waits for the device, and at the
// limit. They are launched from a thread of their own. A cudaDeviceSynchronize()
// or cudaFree() within the run waits for one burst or some more. Name it last
// among perturbations: those that wait for the device or free memory are slow
// beside it.
std::shared_ptr<Perturbation> SmContention(const SmContentionOptions& options = {});

// ---- Caches ----

// Before a run the L2 cache holds other clean lines, other dirty lines, or what
// it held. Takes twice the cache's size of device memory.
std::shared_ptr<Perturbation> CacheState(int device = 0);

// ---- Freed memory ----

// Where device memory comes from. `stream` is the one on which what was
// allocated may be used, and freed.
struct DeviceAllocator {
  std::function<void*(std::size_t bytes)> allocate;  // null, or throws, where there is none left
  std::function<void(void* memory)> free;
  cudaStream_t stream = nullptr;
};
DeviceAllocator CudaMallocAllocator();                          // cudaMalloc, cudaFree
DeviceAllocator CudaMallocAsyncAllocator(cudaStream_t stream);  // the device's default pool

struct WorkspacePoisonOptions {
  DeviceAllocator allocator = CudaMallocAllocator();
  // Sizes of the blocks that are taken, filled and freed before a run, in this
  // order. Unset: up to 16 of each power of two from 32 MiB down to 512 bytes, at
  // most 200 MiB in all. An allocator that can list its free blocks names them
  // here; that of torch is TorchWorkspacePoison() in torch.h.
  std::function<std::vector<std::size_t>()> sizes = {};
  int device = 0;
};
// Memory that is allocated and read before it was written holds a byte that
// changes from run to run, as far as it was freed here. Blocks that an allocator
// does not hand out again (given back to the driver) are not reached.
std::shared_ptr<Perturbation> WorkspacePoison(WorkspacePoisonOptions options = {});

// ---- Delays ----

// Before a run each stream is held for up to `longest`, and so is the host; that
// shifts what is on different streams against each other.
class LaunchDelayPerturbation : public Perturbation {
 public:
  // For the callable, between two of its launches: holds the host for up to
  // `longest` while the perturbation is applied.
  virtual void Point() = 0;
};
std::shared_ptr<LaunchDelayPerturbation> LaunchDelay(std::vector<cudaStream_t> streams,
                                                     std::chrono::microseconds longest = std::chrono::microseconds(200),
                                                     int device = 0);

// ---- How it is launched ----

inline constexpr char kGraphAgainstEager[] = "graph_against_eager";
inline constexpr char kOtherStream[] = "other_stream";

enum class LaunchMode {
  kEager,        // on one stream, the same each time
  kGraph,        // captured into a graph, which is then launched once
  kOtherStream,  // on another, by turns one of three
};

namespace internal {

// Gives out the streams; the runs of one object are made one after the other.
class LaunchModes {
 public:
  LaunchModes(std::vector<LaunchMode> cycle, int device);
  void Begin() const;             // the next run
  cudaStream_t stream() const;    // of this run; being captured in a kGraph run
  void End() const;               // launches what was captured; waits for the stream
  void Abandon() const noexcept;  // instead of End(), where launching threw

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace internal

// A callable for RunRepeated() from one that takes the stream to launch on:
// (cudaStream_t) -> T or (cudaStream_t, Outputs&) -> void. Run r (counted from 0,
// warm-ups included) is launched as cycle[r % cycle.size()] says. In a kGraph run
// the callable is called while the stream is being captured, so that it must not
// wait for it nor allocate; what it returns lies where the graph writes. A copy
// shares the streams.
template <class F>
class StreamRuns {
 public:
  StreamRuns(F launch, std::vector<LaunchMode> cycle, int device = 0)
      : launch_(std::move(launch)), modes_(std::move(cycle), device) {}

  auto operator()() const requires std::invocable<F&, cudaStream_t> {
    return Launched([&] { return launch_(modes_.stream()); });
  }
  void operator()(Outputs& outputs) const requires std::invocable<F&, cudaStream_t, Outputs&> {
    Launched([&] {
      launch_(modes_.stream(), outputs);
      return 0;
    });
  }

 private:
  template <class Call>
  auto Launched(const Call& call) const {
    modes_.Begin();
    struct Guard {
      const internal::LaunchModes* modes;
      ~Guard() {
        if (modes != nullptr) modes->Abandon();
      }
    } guard{&modes_};
    auto result = call();
    guard.modes = nullptr;
    modes_.End();
    return result;
  }

  mutable F launch_;
  internal::LaunchModes modes_;
};

// Run 0 eager, then by turns a graph and eager.
template <class F>
StreamRuns<F> GraphAgainstEager(F launch, int device = 0) {
  return {std::move(launch), {LaunchMode::kEager, LaunchMode::kGraph}, device};
}
// Run 0 on one stream, then by turns on another and on that one.
template <class F>
StreamRuns<F> OtherStream(F launch, int device = 0) {
  return {std::move(launch), {LaunchMode::kEager, LaunchMode::kOtherStream}, device};
}

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_CUDA_PERTURBATIONS_H_
