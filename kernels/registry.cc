#include <torch/version.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/int4_matmul.h"
#include "kernels/internal/layer.h"
#include "kernels/internal/makers.h"
#include "kernels/providers/vllm.h"

namespace kernels {
namespace {

struct Entry {
  KernelIdentity identity;
  internal::Maker make;
};

// The first entry of a family and device is what provider "auto" takes.
const std::vector<Entry>& Table() {
  // Raised when a kernel's bits may change.
  static const std::string kBuiltin = "1";
  static const std::vector<Entry> table = {
      {{"marlin", "builtin", "cpu", kBuiltin, "determinism_int4::marlin_gemm", "", Property::kBitExact},
       internal::MakeMarlinCpu},
      {{"awq", "builtin", "cpu", kBuiltin, "determinism_int4::awq_gemm", "", Property::kBitExact},
       internal::MakeAwqCpu},
      {{"gptq", "builtin", "cpu", kBuiltin, "determinism_int4::gptq_gemm", "determinism_int4::gptq_gemm_ordered",
        Property::kArrivalOrder, /*rows_per_partial_sum=*/128},
       internal::MakeGptqCpu},
      {{"tinygemm", "aten", "cpu", TORCH_VERSION, "aten::_weight_int4pack_mm_for_cpu", "", Property::kUnknown},
       internal::MakeTinygemmCpu},
  };
  return table;
}

}  // namespace

std::vector<KernelIdentity> RegisteredKernels() {
  std::vector<KernelIdentity> identities;
  for (const Entry& entry : Table()) identities.push_back(entry.identity);
  for (KernelIdentity& identity : internal::VllmKernels()) identities.push_back(std::move(identity));
  return identities;
}

std::unique_ptr<Int4Matmul> MakeInt4Matmul(const KernelRequest& request, const QuantizedLinear& linear) {
  if (internal::WantsVllm(request)) {
    internal::CheckLayer(linear);
    return internal::MakeVllm(request, linear);
  }
  std::string known;
  for (const Entry& entry : Table()) {
    const KernelIdentity& id = entry.identity;
    if (id.family == request.family && id.device == request.device &&
        (request.provider == "auto" || request.provider == id.provider)) {
      internal::CheckLayer(linear);
      if (!request.options.empty()) {
        throw std::invalid_argument("kernel " + id.family + "/" + id.provider + "/" + id.device + " has no option " +
                                    request.options.begin()->first);
      }
      return entry.make(linear, id);
    }
    known += (known.empty() ? "" : ", ") + id.family + "/" + id.provider + "/" + id.device;
  }
  for (const KernelIdentity& id : internal::VllmKernels()) {
    known += ", " + id.family + "/" + id.provider + "/" + id.device;
  }
  throw std::invalid_argument("no INT4 kernel " + request.family + "/" + request.provider + "/" + request.device +
                              " (family/provider/device) for " + linear.name + "; there are " + known);
}

}  // namespace kernels
