// Which kernels ran on the GPUs, from CUPTI's activity records. Usable in every
// build: one without device code says so.
#ifndef REPORTERS_CUDA_KERNEL_PROFILER_H_
#define REPORTERS_CUDA_KERNEL_PROFILER_H_

#include <memory>
#include <string>

#include "reporters/cuda/activity.h"

namespace reporters {

// Records every kernel, copy and launch of this process from Start() to Stop().
// Neither changes which kernels run beside each other, but recording costs time:
// use it in a pass of its own, never in the runs that decide a verdict. One
// recording at a time in a process, and no other client of CUPTI beside it
// (nsys, ncu, compute-sanitizer, PyTorch's profiler).
class CuptiProfiler {
 public:
  CuptiProfiler();
  // Stops, and drops what was recorded.
  ~CuptiProfiler();
  CuptiProfiler(const CuptiProfiler&) = delete;
  CuptiProfiler& operator=(const CuptiProfiler&) = delete;

  // False where nothing can be recorded: reason() says why, and Stop() returns
  // kUnavailable with it. That is: no device code in this build, no driver or
  // device, DETERMINISM_NO_CUPTI=1, another client, another recording.
  bool Start();
  bool started() const;
  const std::string& reason() const;

  // What the calling thread launches is launched by `name` until PopScope(); the
  // innermost scope counts. Cheap, and without effect where nothing is recorded.
  // A graph's kernels belong to the scope that launched the graph.
  void PushScope(const char* name);
  void PopScope();

  // Waits for the devices, and returns what was recorded since Start(), or
  // since the last Take(); recording goes on. kNotRequested before Start().
  CudaProfile Take();
  CudaProfile Stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// PushScope() and PopScope() of a C++ scope.
class CuptiScope {
 public:
  CuptiScope(CuptiProfiler& profiler, const char* name) : profiler_(profiler) { profiler_.PushScope(name); }
  ~CuptiScope() { profiler_.PopScope(); }
  CuptiScope(const CuptiScope&) = delete;
  CuptiScope& operator=(const CuptiScope&) = delete;

 private:
  CuptiProfiler& profiler_;
};

}  // namespace reporters

#endif  // REPORTERS_CUDA_KERNEL_PROFILER_H_
