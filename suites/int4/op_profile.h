// The operators that ran, from at::RecordFunction: the kernel profile on a CPU,
// and on a GPU who launched which kernel.
#ifndef SUITES_INT4_OP_PROFILE_H_
#define SUITES_INT4_OP_PROFILE_H_

#include <memory>
#include <string>
#include <vector>

#include "kernels/int4_matmul.h"
#include "reporters/cuda/activity.h"
#include "reporters/record.h"

namespace suites {

// Records every operator and RECORD_FUNCTION scope of this process while it
// lives. One at a time. To be used in a pass of its own: recording costs time.
class OpProfiler {
 public:
  OpProfiler();
  ~OpProfiler();
  OpProfiler(const OpProfiler&) = delete;
  OpProfiler& operator=(const OpProfiler&) = delete;

  // What was recorded so far, by falling self time (an operator's time less
  // that of the operators inside it). `expected`: the operator that must appear
  // for a verdict to count, "" for none. Without an entry the status is kEmpty;
  // without the expected one the entries are still there and
  // `expected_count` is 0.
  reporters::KernelProfile Take(const std::string& expected);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The same on a GPU: the kernels that CUPTI reports, each with the operators that
// launched it (at::RecordFunction). One at a time, and never beside an
// OpProfiler. Where CUPTI is not to be had Take() says kUnavailable.
//
//   CudaOpProfiler profiler;
//   engine.SetReplaySink(...); engine.Generate(...);   // eager
//   profiler.Learn();
//   engine.SetReplaySink({}); engine.Generate(...);    // as in the repetitions
//   record.profile = profiler.Take(expected, matmul.identity().device_functions);
class CudaOpProfiler {
 public:
  CudaOpProfiler();
  ~CudaOpProfiler();
  CudaOpProfiler(const CudaOpProfiler&) = delete;
  CudaOpProfiler& operator=(const CudaOpProfiler&) = delete;

  // Ends an eager pass: remembers which operators launched which function, so
  // that kernels of a replayed graph, which one scope launches, are told apart.
  // Its kernels are not part of Take().
  void Learn();

  // What ran since the start or the last Learn() or Take(). `expected_count` is
  // the number of calls of operator `expected`: eager, the scopes of that name
  // that launched a kernel; in a graph, executions of the function that such a
  // scope launches first of those that no other operator launches, or of one
  // whose name holds a part of `device_functions`.
  reporters::KernelProfile Take(const std::string& expected, const std::vector<std::string>& device_functions = {});

  // Of the same executions, the kernels themselves, mangled names included.
  reporters::CudaProfile TakeRaw();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The part of CudaOpProfiler that needs no GPU. `learned`: kernels of an eager
// pass, with their scopes.
reporters::KernelProfile ProfileOf(const reporters::CudaProfile& profile, const reporters::CudaProfile& learned,
                                   const std::string& expected, const std::vector<std::string>& device_functions);

// What an operator is known to be: from the kernel registry, else from ATen's
// names; kOther where neither says.
reporters::KernelKind KindOfOperator(const std::string& name);

}  // namespace suites

#endif  // SUITES_INT4_OP_PROFILE_H_
