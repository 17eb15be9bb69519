#include "kernels/cuda/operators.h"

#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mm.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <mutex>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/layout.h"

// Named by the target's link options, as its twin for the CPU.
extern "C" {
int gtest_determinism_int4_cuda_operators = 0;
}

namespace kernels::cuda {
namespace {

struct Device {
  int multiprocessors = 0;
  int sm = 80;  // as PlanFor() takes it
  int shared_limit = 0;
};

Device DeviceAt(c10::DeviceIndex device) {
  static std::mutex mutex;
  static std::vector<Device> known;
  const std::lock_guard lock(mutex);
  const auto index = static_cast<std::size_t>(device);
  if (known.size() <= index) known.resize(index + 1);
  if (known[index].multiprocessors == 0) {
    int count = 0, major = 0, minor = 0, shared = 0;
    cudaError_t error = cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    TORCH_CHECK(error == cudaSuccess, "cannot ask device ", static_cast<int>(device),
                " for its multiprocessors: ", cudaGetErrorString(error));
    known[index] = {count, HasWgmma() && major == 9 && minor == 0 ? 90 : 80, shared};
  }
  return known[index];
}

// cuBLAS would otherwise be free to add partial sums in fp16.
class FullPrecisionSums {
 public:
  FullPrecisionSums() {
    at::globalContext().setAllowFP16ReductionCuBLAS(false);
    at::globalContext().setAllowFP16AccumulationCuBLAS(false);
  }
  ~FullPrecisionSums() {
    at::globalContext().setAllowFP16ReductionCuBLAS(
        reduction_ == at::CuBLASReductionOption::AllowReducedPrecisionWithSplitK,
        reduction_ != at::CuBLASReductionOption::DisallowReducedPrecisionDisallowSplitK);
    at::globalContext().setAllowFP16AccumulationCuBLAS(accumulation_);
  }
  FullPrecisionSums(const FullPrecisionSums&) = delete;
  FullPrecisionSums& operator=(const FullPrecisionSums&) = delete;

 private:
  const at::CuBLASReductionOption reduction_ = at::globalContext().allowFP16ReductionCuBLAS();
  const bool accumulation_ = at::globalContext().allowFP16AccumulationCuBLAS();
};

void CheckTensor(const char* op, const char* what, const at::Tensor& tensor, at::ScalarType dtype,
                 at::IntArrayRef shape, at::Device device) {
  TORCH_CHECK(
      tensor.scalar_type() == dtype && tensor.is_contiguous() && tensor.sizes() == shape && tensor.device() == device,
      op, ": ", what, " must be contiguous ", dtype, " ", shape, " on ", device, ", but are ", tensor.scalar_type(),
      " ", tensor.sizes(), " on ", tensor.device());
  TORCH_CHECK(reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % 16 == 0, op, ": ", what,
              " must be aligned to 16 bytes");
}

Gemm ViewOf(const char* op, const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros,
            const at::Tensor& scales, std::int64_t n) {
  const std::int64_t k = x.size(1);
  TORCH_CHECK(n > 0 && n % 8 == 0 && n <= kMaxN, op, ": n must be a positive multiple of 8 up to ", kMaxN, ", but is ",
              n);
  TORCH_CHECK(k > 0 && k % 8 == 0 && k <= kMaxK, op, ": K must be a positive multiple of 8 up to ", kMaxK, ", but is ",
              k);
  const std::int64_t padded = RoundUp(n, kMarlinColumns);
  TORCH_CHECK(scales.dim() == 2 && scales.size(0) > 0 && k % scales.size(0) == 0, op,
              ": scales must be [K / group size, ", padded, "], but are ", scales.sizes());
  const std::int64_t groups = scales.size(0);
  TORCH_CHECK(k / groups % 8 == 0, op, ": the group size must be a multiple of 8, but is ", k / groups);
  const at::Device device = x.device();
  CheckTensor(op, "scales", scales, at::kHalf, {groups, padded}, device);
  CheckTensor(op, "words", words, at::kInt, {padded / kMarlinColumns, RoundUp(k, kTileK) / kTileK, 32, 4}, device);
  CheckTensor(op, "zeros", zeros, at::kByte, {groups, padded}, device);
  Gemm gemm;
  gemm.k = static_cast<int>(k);
  gemm.n = static_cast<int>(n);
  gemm.words = reinterpret_cast<const std::uint32_t*>(words.const_data_ptr<std::int32_t>());
  gemm.zeros = zeros.const_data_ptr();
  gemm.scales = scales.const_data_ptr();
  gemm.padded_n = static_cast<int>(padded);
  gemm.group_size = static_cast<int>(k / groups);
  gemm.groups = static_cast<int>(groups);
  return gemm;
}

at::Tensor DequantizeAndMultiply(const Gemm& gemm, const at::Tensor& x, cudaStream_t stream) {
  at::Tensor w = at::empty({gemm.n, gemm.k}, x.options());
  DequantizeWeights(gemm, w.mutable_data_ptr(), stream);
  const FullPrecisionSums scope;
  return at::mm(x, w.t());
}

at::Tensor Run(const char* op, Family family, const at::Tensor& x_in, const at::Tensor& words, const at::Tensor& zeros,
               const at::Tensor& scales, const std::optional<at::Tensor>& row_order, std::int64_t n,
               bool batch_invariant = false) {
  TORCH_CHECK(x_in.dim() == 2 && x_in.scalar_type() == at::kHalf, op, ": x must be float16 [M, K], but is ",
              x_in.scalar_type(), " ", x_in.sizes());
  TORCH_CHECK(!row_order || row_order->sizes() == at::IntArrayRef({x_in.size(1)}), op, ": row_order must be [",
              x_in.size(1), "], but is ", row_order->sizes());
  const c10::cuda::CUDAGuard guard(x_in.device());
  Gemm gemm = ViewOf(op, x_in, words, zeros, scales, n);
  const std::int64_t m = x_in.size(0);
  TORCH_CHECK(m <= INT32_MAX, op, ": too many rows: ", m);
  if (m == 0) return at::empty({m, n}, x_in.options());
  at::Tensor x = row_order ? at::index_select(x_in, 1, *row_order) : x_in.contiguous();
  if (reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % 16 != 0) x = x.clone();
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(x.device().index());
  const Plan plan = PlanOn(x.device(), family, m, gemm.k, n, gemm.group_size, batch_invariant);
  if (plan.path == Path::kDequantize) return DequantizeAndMultiply(gemm, x, stream);

  at::Tensor y = at::empty({m, n}, x.options());
  const std::int64_t bytes = WorkspaceBytes(plan, m, n);
  const at::Tensor workspace = bytes > 0 ? at::empty({bytes}, x.options().dtype(at::kByte)) : at::Tensor();
  void* const partial = bytes > 0 ? workspace.mutable_data_ptr() : nullptr;
  gemm.x = x.const_data_ptr();
  gemm.y = y.mutable_data_ptr();
  gemm.m = static_cast<int>(m);
  GemmBy(family, gemm, plan, partial, stream);
  return y;
}

}  // namespace

Family GptqFamily() { return at::globalContext().deterministicAlgorithms() ? Family::kGptqOrdered : Family::kGptq; }

Plan PlanOn(at::Device device, Family family, std::int64_t m, std::int64_t k, std::int64_t n, std::int64_t group_size,
            bool batch_invariant) {
  const Device traits = DeviceAt(device.index());
  return PlanFor(family, m, k, n, traits.multiprocessors, traits.sm, group_size, batch_invariant, traits.shared_limit);
}

at::Tensor MarlinOperator(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros,
                          const at::Tensor& scales, const std::optional<at::Tensor>& row_order, std::int64_t n) {
  return Run("marlin_gemm", Family::kMarlin, x, words, zeros, scales, row_order, n);
}

at::Tensor AwqOperator(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros, const at::Tensor& scales,
                       const std::optional<at::Tensor>& row_order, std::int64_t n) {
  return Run("awq_gemm", Family::kAwq, x, words, zeros, scales, row_order, n);
}

at::Tensor MarlinInvariantOperator(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros,
                                   const at::Tensor& scales, const std::optional<at::Tensor>& row_order,
                                   std::int64_t n) {
  return Run("marlin_gemm_batch_invariant", Family::kMarlin, x, words, zeros, scales, row_order, n, true);
}

at::Tensor AwqInvariantOperator(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros,
                                const at::Tensor& scales, const std::optional<at::Tensor>& row_order, std::int64_t n) {
  return Run("awq_gemm_batch_invariant", Family::kAwq, x, words, zeros, scales, row_order, n, true);
}

at::Tensor GptqOperator(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros, const at::Tensor& scales,
                        const std::optional<at::Tensor>& row_order, std::int64_t n) {
  return Run("gptq_gemm", GptqFamily(), x, words, zeros, scales, row_order, n);
}

at::Tensor GptqOrderedOperator(const at::Tensor& x, const at::Tensor& words, const at::Tensor& zeros,
                               const at::Tensor& scales, const std::optional<at::Tensor>& row_order, std::int64_t n) {
  return Run("gptq_gemm_ordered", Family::kGptqOrdered, x, words, zeros, scales, row_order, n);
}

}  // namespace kernels::cuda

// Only on a device; the others are defined with the kernels for the CPU.
TORCH_LIBRARY_FRAGMENT(determinism_int4, library) {
  library.def(
      "marlin_gemm_batch_invariant(Tensor x, Tensor words, Tensor zeros, Tensor scales, Tensor? row_order, int n) -> "
      "Tensor");
  library.def(
      "awq_gemm_batch_invariant(Tensor x, Tensor words, Tensor zeros, Tensor scales, Tensor? row_order, int n) -> "
      "Tensor");
}

TORCH_LIBRARY_IMPL(determinism_int4, CUDA, library) {
  library.impl("marlin_gemm_batch_invariant", kernels::cuda::MarlinInvariantOperator);
  library.impl("awq_gemm_batch_invariant", kernels::cuda::AwqInvariantOperator);
  library.impl("marlin_gemm", kernels::cuda::MarlinOperator);
  library.impl("awq_gemm", kernels::cuda::AwqOperator);
  library.impl("gptq_gemm", kernels::cuda::GptqOperator);
  library.impl("gptq_gemm_ordered", kernels::cuda::GptqOrderedOperator);
}
