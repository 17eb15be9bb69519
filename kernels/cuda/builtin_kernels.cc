// marlin, awq and gptq on a CUDA device: from a checkpoint's layer to the
// operators' arguments. The repacking runs on the device.
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <cstring>
#include <utility>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/layout.h"
#include "kernels/cuda/operators.h"
#include "kernels/internal/layer.h"
#include "kernels/internal/makers.h"
#include "kernels/internal/operator_matmul.h"

namespace kernels::internal {
namespace {

class CudaMatmul : public OperatorMatmul {
 public:
  CudaMatmul(const KernelIdentity& identity, cuda::Family family, const QuantizedLinear& linear, Packed packed)
      : OperatorMatmul(identity, linear.k, linear.n, linear.qweight.device(), std::move(packed)),
        family_(family),
        group_size_(linear.group_size) {}

  std::string PathFor(std::int64_t rows) const override {
    if (rows < 1) return "";
    const cuda::Family family = family_ == cuda::Family::kGptq ? cuda::GptqFamily() : family_;
    return cuda::NameOf(cuda::PlanOn(device(), family, rows, k(), n(), group_size_, identity().batch_invariant));
  }

 private:
  cuda::Family family_;
  std::int64_t group_size_;
};

void CheckSize(const QuantizedLinear& linear) {
  if (linear.k > cuda::kMaxK) {
    Refuse(linear, "the kernel takes K up to " + std::to_string(cuda::kMaxK));
  }
}

const std::uint32_t* Words(const at::Tensor& tensor) {
  return reinterpret_cast<const std::uint32_t*>(tensor.const_data_ptr<std::int32_t>());
}

std::optional<at::Tensor> OrderOnDevice(const std::vector<std::int64_t>& order, at::Device device) {
  if (order.empty()) return std::nullopt;
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(order.size())}, at::kLong);
  std::memcpy(tensor.mutable_data_ptr<std::int64_t>(), order.data(), order.size() * sizeof(std::int64_t));
  return tensor.to(device);
}

// Zero points as bytes, scales, both with `padded` columns.
void PackGroups(const QuantizedLinear& linear, std::int64_t padded, cudaStream_t stream, Packed& packed) {
  const std::int64_t groups = linear.k / linear.group_size;
  packed.zeros = at::empty({groups, padded}, linear.scales.options().dtype(at::kByte));
  packed.scales = at::empty({groups, padded}, linear.scales.options());
  const at::Tensor zeros = linear.qzeros.contiguous(), scales = linear.scales.contiguous();
  const bool awq = linear.format == Format::kAwq;
  cuda::RepackGroups(Words(zeros), awq ? cuda::CodeLayout::kAwq : cuda::CodeLayout::kGptq,
                     !awq && linear.gptq_v1_zeros ? 0x11111111u : 0u, scales.const_data_ptr(), static_cast<int>(groups),
                     static_cast<int>(linear.n), static_cast<int>(padded),
                     packed.zeros.mutable_data_ptr<std::uint8_t>(), packed.scales.mutable_data_ptr(), stream);
}

cuda::Repack RepackOf(const QuantizedLinear& linear, const at::Tensor& words, const Packed& packed) {
  cuda::Repack repack;
  repack.words = Words(words);
  repack.layout = linear.format == Format::kAwq ? cuda::CodeLayout::kAwq : cuda::CodeLayout::kGptq;
  if (packed.row_order) repack.row_order = packed.row_order->const_data_ptr<std::int64_t>();
  repack.k = static_cast<int>(linear.k);
  repack.n = static_cast<int>(linear.n);
  return repack;
}

// Both formats to Marlin order; with desc_act, rows sorted by group.
std::unique_ptr<Int4Matmul> Make(const QuantizedLinear& linear, const KernelIdentity& identity, cuda::Family family) {
  CheckGroups(linear);
  CheckSize(linear);
  const at::Device device = linear.qweight.device();
  const c10::cuda::CUDAGuard guard(device);
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream(device.index());
  Packed packed;
  packed.row_order = OrderOnDevice(RowOrder(linear), device);
  const std::int64_t padded = cuda::RoundUp(linear.n, cuda::kMarlinColumns);
  PackGroups(linear, padded, stream, packed);
  const std::int64_t k_tiles = cuda::RoundUp(linear.k, cuda::kTileK) / cuda::kTileK;
  packed.words = at::empty({padded / cuda::kMarlinColumns, k_tiles, 32, 4}, linear.qweight.options());
  const at::Tensor words = linear.qweight.contiguous();
  cuda::RepackMarlin(RepackOf(linear, words, packed),
                     reinterpret_cast<std::uint32_t*>(packed.words.mutable_data_ptr<std::int32_t>()), stream);
  // The kernels may read weights before the launch ahead of them has ended (launch.h).
  c10::cuda::getCurrentCUDAStream(device.index()).synchronize();
  return std::make_unique<CudaMatmul>(identity, family, linear, std::move(packed));
}

}  // namespace

std::unique_ptr<Int4Matmul> MakeMarlinCuda(const QuantizedLinear& linear, const KernelIdentity& identity) {
  if (linear.format != Format::kAwq && linear.format != Format::kGptq) {
    RefuseFormat(linear, identity, "awq and gptq");
  }
  return Make(linear, identity, cuda::Family::kMarlin);
}

std::unique_ptr<Int4Matmul> MakeAwqCuda(const QuantizedLinear& linear, const KernelIdentity& identity) {
  if (linear.format != Format::kAwq) RefuseFormat(linear, identity, "awq");
  return Make(linear, identity, cuda::Family::kAwq);
}

std::unique_ptr<Int4Matmul> MakeGptqCuda(const QuantizedLinear& linear, const KernelIdentity& identity) {
  if (linear.format != Format::kGptq) RefuseFormat(linear, identity, "gptq");
  return Make(linear, identity, cuda::Family::kGptq);
}

}  // namespace kernels::internal
