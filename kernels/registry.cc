#include <torch/version.h>

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/int4_matmul.h"
#include "kernels/internal/layer.h"
#include "kernels/internal/makers.h"
#include "kernels/providers/vllm.h"
#include "kernels/torch_cuda.h"

namespace kernels {
namespace {

struct Entry {
  KernelIdentity identity;
  internal::Maker make;
};

KernelIdentity BatchInvariant(KernelIdentity identity) {
  identity.batch_invariant = true;
  return identity;
}

// The first entry of a family and device is what provider "auto" takes.
const std::vector<Entry>& Table() {
  // Raised when a kernel's bits may change. Of the CPU's, 2 sums blocks exactly; of the GPU's, 2 streams few rows and
  // multiplies more of them by wgmma, and gptq's ordered twin adds in another order.
  static const std::string kOnCuda = "2", kOnCpu = "2";
  static const std::vector<Entry> table = {
    {BatchInvariant({"marlin", "builtin", "cpu", kOnCpu, "determinism_int4::marlin_gemm", "", Property::kBitExact}),
     internal::MakeMarlinCpu},
    {BatchInvariant({"awq", "builtin", "cpu", kOnCpu, "determinism_int4::awq_gemm", "", Property::kBitExact}),
     internal::MakeAwqCpu},
    {{"gptq", "builtin", "cpu", kOnCpu, "determinism_int4::gptq_gemm", "determinism_int4::gptq_gemm_ordered",
      Property::kArrivalOrder, /*rows_per_partial_sum=*/128},
     internal::MakeGptqCpu},
    {{"tinygemm", "aten", "cpu", TORCH_VERSION, "aten::_weight_int4pack_mm_for_cpu", "", Property::kUnknown},
     internal::MakeTinygemmCpu},
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
    {{"marlin",
      "builtin",
      "cuda",
      kOnCuda,
      "determinism_int4::marlin_gemm",
      "",
      Property::kBitExact,
      0,
      {"kernels::cuda::MarlinGemm", "kernels::cuda::DequantizeToHalf"}},
     internal::MakeMarlinCuda},
    {{"awq",
      "builtin",
      "cuda",
      kOnCuda,
      "determinism_int4::awq_gemm",
      "",
      Property::kBitExact,
      0,
      {"kernels::cuda::MarlinGemm", "kernels::cuda::DequantizeToHalf"}},
     internal::MakeAwqCuda},
    {{"gptq",
      "builtin",
      "cuda",
      kOnCuda,
      "determinism_int4::gptq_gemm",
      "determinism_int4::gptq_gemm_ordered",
      Property::kArrivalOrder,
      /*rows_per_partial_sum=*/128,
      {"kernels::cuda::GptqGemm", "kernels::cuda::MarlinGemm", "kernels::cuda::DequantizeToHalf"}},
     internal::MakeGptqCuda},
    {{"tinygemm",
      "aten",
      "cuda",
      TORCH_VERSION,
      "aten::_weight_int4pack_mm",
      "",
      Property::kUnknown,
      0,
      {"tinygemm_m16n8k16_chunk_kernel"}},
     internal::MakeTinygemmCuda},
#endif
  };
  return table;
}

}  // namespace

namespace internal {

void CheckActivations(const KernelIdentity& identity, const at::Tensor& x, at::ScalarType dtype, std::int64_t k,
                      at::Device device) {
  const bool contiguous = !x.defined() || device.is_cpu() || x.is_contiguous();
  if (x.defined() && x.dim() == 2 && x.size(1) == k && x.scalar_type() == dtype && x.device() == device && contiguous) {
    return;
  }
  std::string found = "undefined";
  if (x.defined()) {
    found = std::string(at::toString(x.scalar_type())) + " [";
    for (std::int64_t d = 0; d < x.dim(); ++d) found += (d ? ", " : "") + std::to_string(x.size(d));
    found += "] on " + x.device().str() + (contiguous ? "" : ", not contiguous");
  }
  throw std::invalid_argument(identity.op + ": x must be " + at::toString(dtype) + " [M, " + std::to_string(k) +
                              "] on " + device.str() + ", but is " + found);
}

}  // namespace internal

std::vector<KernelIdentity> RegisteredKernels() {
  std::vector<KernelIdentity> identities;
  for (const Entry& entry : Table()) identities.push_back(entry.identity);
  for (KernelIdentity& identity : internal::VllmKernels()) identities.push_back(std::move(identity));
  return identities;
}

namespace {

// On a device the kernel has another form, another operator; on a CPU it is so as it is.
KernelIdentity InvariantForm(KernelIdentity identity) {
  if (identity.batch_invariant) return identity;
  identity.op += "_batch_invariant";
  return BatchInvariant(std::move(identity));
}

// Throws std::invalid_argument where the kernel has no batch-invariant form.
void CheckBatchInvariance(const KernelRequest& request) {
  const std::string kernel = "kernel " + request.family + "/" + request.provider + "/" + request.device;
  if (internal::WantsVllm(request)) {
    throw std::invalid_argument(kernel + " has no batch-invariant form: marlin and awq of provider builtin have one");
  }
  if (request.family == "gptq") {
    throw std::invalid_argument(kernel +
                                " has no batch-invariant form: its partial sums meet in arrival order; marlin "
                                "reads the same checkpoints");
  }
  if (request.family != "marlin" && request.family != "awq") {
    throw std::invalid_argument(kernel + " has no batch-invariant form: marlin and awq have one");
  }
}

}  // namespace

std::unique_ptr<Int4Matmul> MakeInt4Matmul(const KernelRequest& request, const QuantizedLinear& linear) {
  if (request.batch_invariant) CheckBatchInvariance(request);
  if (internal::WantsVllm(request)) {
    internal::CheckLayer(linear);
    return internal::MakeVllm(request, linear);
  }
  const bool cuda = request.device.starts_with("cuda");
  const at::Device device =
      cuda ? at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(CudaDeviceIndex(request.device))) : at::kCPU;
  const std::string device_kind = cuda ? "cuda" : request.device;
  std::string known;
  for (const Entry& entry : Table()) {
    const KernelIdentity& id = entry.identity;
    if (id.family == request.family && id.device == device_kind &&
        (request.provider == "auto" || request.provider == id.provider)) {
      internal::CheckLayer(linear);
      if (!request.options.empty()) {
        throw std::invalid_argument("kernel " + id.family + "/" + id.provider + "/" + id.device + " has no option " +
                                    request.options.begin()->first);
      }
      if (request.batch_invariant) return entry.make(internal::OnDevice(linear, device), InvariantForm(id));
      return entry.make(internal::OnDevice(linear, device), id);
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
