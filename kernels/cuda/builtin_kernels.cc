// marlin, awq and gptq on a CUDA device: from a checkpoint's layer to the
// operators' arguments. The repacking runs on the device.
#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
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

namespace kernels::internal {
namespace {

struct Packed {
  at::Tensor words, zeros, scales;
  std::optional<at::Tensor> row_order;
};

class CudaMatmul : public Int4Matmul {
 public:
  CudaMatmul(KernelIdentity identity, cuda::Family family, const QuantizedLinear& linear, Packed packed)
      : identity_(std::move(identity)),
        family_(family),
        k_(linear.k),
        n_(linear.n),
        group_size_(linear.group_size),
        device_(linear.qweight.device()),
        packed_(std::move(packed)),
        op_(Find(identity_.op)),
        ordered_op_(identity_.ordered_op.empty() ? op_ : Find(identity_.ordered_op)) {}

  at::Tensor Forward(const at::Tensor& x) const override {
    // By its own name, so that a profile shows which of the two ran.
    return Call(at::globalContext().deterministicAlgorithms() ? ordered_op_ : op_, x);
  }
  at::Tensor ForwardOrdered(const at::Tensor& x) const override { return Call(ordered_op_, x); }
  std::string PathFor(std::int64_t rows) const override {
    return rows < 1
               ? ""
               : cuda::NameOf(cuda::PlanOn(device_, family_, rows, k_, n_, group_size_, identity_.batch_invariant));
  }
  const KernelIdentity& identity() const override { return identity_; }
  std::int64_t k() const override { return k_; }
  std::int64_t n() const override { return n_; }

 private:
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const std::optional<at::Tensor>&, std::int64_t);
  using Operator = c10::TypedOperatorHandle<Signature>;

  static Operator Find(const std::string& name) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(name.c_str(), "").typed<Signature>();
  }
  at::Tensor Call(const Operator& op, const at::Tensor& x) const {
    CheckActivations(identity_, x, at::kHalf, k_, device_);
    return op.call(x, packed_.words, packed_.zeros, packed_.scales, packed_.row_order, n_);
  }

  KernelIdentity identity_;
  cuda::Family family_;
  std::int64_t k_;
  std::int64_t n_;
  std::int64_t group_size_;
  at::Device device_;
  Packed packed_;
  Operator op_;
  Operator ordered_op_;
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
