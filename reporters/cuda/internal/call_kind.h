// Which calls of the runtime and the driver launch something, by their names.
#ifndef REPORTERS_CUDA_INTERNAL_CALL_KIND_H_
#define REPORTERS_CUDA_INTERNAL_CALL_KIND_H_

#include <optional>
#include <string_view>

#include "reporters/cuda/activity.h"

namespace reporters::internal {

// `name` as CUPTI has it: "cudaLaunchKernel_v7000", "cuLaunchKernelEx_ptsz",
// "cuGraphLaunch". Nothing for a call that launches no kernel (cudaLaunchHostFunc).
inline std::optional<CallActivity::Kind> CallKindOf(std::string_view name) {
  using Kind = CallActivity::Kind;
  const auto starts = [&](std::string_view runtime, std::string_view driver) {
    return name.starts_with(runtime) || name.starts_with(driver);
  };
  if (starts("cudaLaunchHostFunc", "cuLaunchHostFunc")) return std::nullopt;
  if (starts("cudaLaunch", "cuLaunch")) return Kind::kLaunch;
  if (starts("cudaGraphLaunch", "cuGraphLaunch")) return Kind::kGraphLaunch;
  if (starts("cudaStreamBeginCapture", "cuStreamBeginCapture")) return Kind::kBeginCapture;
  if (starts("cudaStreamEndCapture", "cuStreamEndCapture")) return Kind::kEndCapture;
  return std::nullopt;
}

// Copies and fills that may go on after the call: to be waited for where
// launches are serialised.
inline bool IsCopyCall(std::string_view name) {
  return name.starts_with("cudaMemcpy") || name.starts_with("cuMemcpy") || name.starts_with("cudaMemset") ||
         name.starts_with("cuMemset");
}

}  // namespace reporters::internal

#endif  // REPORTERS_CUDA_INTERNAL_CALL_KIND_H_
