// What the driver's activity records say, as plain values, and how they are
// joined: which scope launched which kernel, and what is missing. No CUDA here,
// so that tests feed records of their own.
#ifndef REPORTERS_CUDA_ACTIVITY_H_
#define REPORTERS_CUDA_ACTIVITY_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "reporters/record.h"

namespace reporters {

// One execution of a kernel. Times are the device's, in nanoseconds of one clock.
struct KernelActivity {
  std::string name;  // as the compiler mangled it
  std::uint32_t correlation_id = 0;
  std::uint32_t device = 0, context = 0, stream = 0;
  std::uint64_t start_ns = 0, end_ns = 0;
  std::array<std::int64_t, 3> grid = {}, block = {};
  int registers = 0;
  std::int64_t static_shared_bytes = 0, dynamic_shared_bytes = 0;
  std::uint32_t graph = 0;  // 0: not part of a graph
  std::uint64_t graph_node = 0;
};

// One copy or fill on a device.
struct CopyActivity {
  std::string name;  // "memcpy HtoD", "memset"
  std::uint32_t correlation_id = 0;
  std::uint32_t device = 0, context = 0, stream = 0;
  std::uint64_t start_ns = 0, end_ns = 0;
  std::uint64_t bytes = 0;
  std::uint32_t graph = 0;
};

// One call of the runtime or the driver that launches something, or that begins
// or ends the capture of a stream.
struct CallActivity {
  enum class Kind : std::uint8_t { kLaunch, kGraphLaunch, kBeginCapture, kEndCapture };
  Kind kind = Kind::kLaunch;
  std::uint32_t correlation_id = 0;
  std::uint32_t thread = 0;
  std::uint64_t start_ns = 0, end_ns = 0;
  bool failed = false;
};

// The call `correlation_id` was made inside scope `scope`.
struct ScopeActivity {
  std::uint32_t correlation_id = 0;
  std::uint64_t scope = 0;
};

struct ActivityRecords {
  std::vector<KernelActivity> kernels;
  std::vector<CopyActivity> copies;
  std::vector<CallActivity> calls;
  std::vector<ScopeActivity> scopes;
  std::uint64_t dropped = 0;  // records that the driver says it lost
};

// A scope that was entered. Each entry of an operator is a scope of its own.
struct ScopeEntry {
  std::string name;          // the operator
  std::uint64_t parent = 0;  // the scope around it on that thread; 0: none
};
using ScopeTable = std::map<std::uint64_t, ScopeEntry>;

struct ProfiledKernel {
  KernelActivity activity;
  std::string name;         // demangled, capped
  std::uint64_t scope = 0;  // 0: launched outside every scope
};
struct ProfiledCopy {
  CopyActivity activity;
  std::uint64_t scope = 0;
};

struct CudaProfile {
  // kOk: at least one kernel, and nothing missing. kIncomplete: `reason` counts
  // what is missing. kEmpty: not one kernel.
  ProfileStatus status = ProfileStatus::kNotRequested;
  std::string reason;
  std::vector<ProfiledKernel> kernels;  // by start
  std::vector<ProfiledCopy> copies;     // by start
  ScopeTable scopes;
  std::int64_t launches = 0;        // calls that launched a kernel or a graph
  std::int64_t dropped = 0;         // records that the driver lost
  std::int64_t without_kernel = 0;  // launches of which no kernel is there, or too few of a graph
  std::int64_t unmatched = 0;       // kernels whose scope was never entered, or whose launch is not there
};

// Joins calls, scopes and kernels by correlation id. Records may come in any
// order. A launch while its thread captures a stream needs no kernel; a call that
// failed neither; a driver's call inside a runtime's is one launch with it. Two
// replays of one graph must show as many kernels and copies as each other.
CudaProfile JoinActivities(ActivityRecords records, ScopeTable scopes);

// The C++ name behind `name`, at most `limit` bytes of it, the cut marked by
// "..."; `name` itself where it is none.
std::string DemangledName(std::string_view name, std::size_t limit = 240);

// "qwen3::linear > aten::mm": the scope and those around it, outermost first;
// "" for 0.
std::string ScopeChain(const ScopeTable& scopes, std::uint64_t scope);

// Executions that agree in name, launch and operators, as one entry each, by
// falling time; `op_of(kernel)` says the operators.
template <class OpOf>
std::vector<KernelEntry> AggregateKernels(const std::vector<ProfiledKernel>& kernels, OpOf op_of);

// One entry of AggregateKernels() for one execution, count 1.
KernelEntry EntryOf(const ProfiledKernel& kernel, std::string op);
// Sums what agrees, by falling time.
std::vector<KernelEntry> Aggregate(const std::vector<KernelEntry>& entries);

template <class OpOf>
std::vector<KernelEntry> AggregateKernels(const std::vector<ProfiledKernel>& kernels, OpOf op_of) {
  std::vector<KernelEntry> entries;
  entries.reserve(kernels.size());
  for (const ProfiledKernel& kernel : kernels) entries.push_back(EntryOf(kernel, op_of(kernel)));
  return Aggregate(entries);
}

}  // namespace reporters

#endif  // REPORTERS_CUDA_ACTIVITY_H_
