// ATen's own INT4 matmul on a CUDA device, from torchao's formats.
#include "kernels/internal/tinygemm.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_convert_weight_to_int4pack.h>
#include <ATen/ops/_weight_int4pack_mm.h>
#include <ATen/ops/bitwise_left_shift.h>
#include <ATen/ops/bitwise_or.h>
#include <ATen/ops/bitwise_right_shift.h>
#include <ATen/ops/bitwise_xor.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/stack.h>
#include <c10/cuda/CUDAGuard.h>

#include <utility>

#include "kernels/int4_pack.h"
#include "kernels/internal/layer.h"
#include "kernels/internal/makers.h"

namespace kernels::internal {
namespace {

class CudaTinygemmMatmul final : public TinygemmMatmul {
 public:
  CudaTinygemmMatmul(const KernelIdentity& identity, const QuantizedLinear& linear, at::Tensor packed,
                     at::Tensor scale_and_zero)
      : TinygemmMatmul(identity, linear, std::move(packed), std::move(scale_and_zero)),
        device_(linear.qweight.device()) {}

  at::Tensor Forward(const at::Tensor& x) const override {
    CheckActivations(identity_, x, at::kBFloat16, k_, device_);
    const c10::cuda::CUDAGuard guard(device_);
    if (x.size(0) == 0) return x.new_empty({0, n_});
    // What pads K has a weight of 0 . scale + zero, finite, and an input of 0.
    const std::int64_t padding = TorchaoPaddedK(k_) - k_;
    const at::Tensor padded = padding > 0 ? at::constant_pad_nd(x, {0, padding}) : x;
    const at::Tensor y = at::_weight_int4pack_mm(padded, packed_, group_size_, scale_and_zero_);
    return y.size(1) == n_ ? y : y.narrow(1, 0, n_).contiguous();
  }

 private:
  const at::Device device_;
};

}  // namespace

// The tile-packed format is ATen's own. The plain one has two's complement nibbles
// q, the even k in the low one; ATen makes its tiles of codes q + 8 with the even k
// in the high one.
std::unique_ptr<Int4Matmul> MakeTinygemmCuda(const QuantizedLinear& linear, const KernelIdentity& identity) {
  const bool tiled = CheckTinygemm(linear);
  const c10::cuda::CUDAGuard guard(linear.qweight.device());
  if (tiled) {
    return std::make_unique<CudaTinygemmMatmul>(identity, linear, linear.qweight.contiguous(),
                                                linear.scales.contiguous());
  }
  const std::int64_t pad_k = TorchaoPaddedK(linear.k) - linear.k, pad_n = TorchaoPaddedN(linear.n) - linear.n;
  const at::Tensor codes = at::bitwise_xor(linear.qweight.contiguous().view(at::kByte), 0x88);
  const at::Tensor swapped = at::bitwise_or(at::bitwise_left_shift(codes, 4), at::bitwise_right_shift(codes, 4));
  const at::Tensor packed = at::_convert_weight_to_int4pack(
      at::constant_pad_nd(swapped, {0, pad_k / 2, 0, pad_n}).contiguous(), kTinygemmInnerKTiles);
  const at::Tensor scale_and_zero =
      at::constant_pad_nd(at::stack({linear.scales, linear.qzeros}, 2), {0, 0, 0, pad_n, 0, pad_k / linear.group_size});
  return std::make_unique<CudaTinygemmMatmul>(identity, linear, packed, scale_and_zero.contiguous());
}

}  // namespace kernels::internal
