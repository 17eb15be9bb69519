// The operators that ran, from at::RecordFunction: the kernel profile on a CPU.
#ifndef SUITES_INT4_OP_PROFILE_H_
#define SUITES_INT4_OP_PROFILE_H_

#include <memory>
#include <string>

#include "kernels/int4_matmul.h"
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

// What an operator is known to be: from the kernel registry, else from ATen's
// names; kOther where neither says.
reporters::KernelKind KindOfOperator(const std::string& name);

}  // namespace suites

#endif  // SUITES_INT4_OP_PROFILE_H_
