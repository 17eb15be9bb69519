// ATen's own INT4 matmul on the CPU, from torchao's formats.
#include <ATen/ops/_convert_weight_to_int4pack_for_cpu.h>
#include <ATen/ops/_weight_int4pack_mm_for_cpu.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <utility>

#include "kernels/internal/layer.h"
#include "kernels/internal/makers.h"

namespace kernels::internal {
namespace {

class TinygemmMatmul : public Int4Matmul {
 public:
  TinygemmMatmul(KernelIdentity identity, const QuantizedLinear& linear, at::Tensor packed, at::Tensor scale_and_zero)
      : identity_(std::move(identity)),
        k_(linear.k),
        n_(linear.n),
        group_size_(linear.group_size),
        packed_(std::move(packed)),
        scale_and_zero_(std::move(scale_and_zero)) {}

  at::Tensor Forward(const at::Tensor& x) const override {
    CheckActivations(identity_, x, at::kBFloat16, k_);
    return at::_weight_int4pack_mm_for_cpu(x, packed_, group_size_, scale_and_zero_);
  }
  at::Tensor ForwardOrdered(const at::Tensor& x) const override { return Forward(x); }
  const KernelIdentity& identity() const override { return identity_; }
  std::int64_t k() const override { return k_; }
  std::int64_t n() const override { return n_; }

 private:
  KernelIdentity identity_;
  std::int64_t k_;
  std::int64_t n_;
  std::int64_t group_size_;
  at::Tensor packed_;          // ATen's own order for this CPU
  at::Tensor scale_and_zero_;  // BF16 [K / G, N, 2]
};

}  // namespace

// ATen takes codes as I32 [N, K] and computes (code - 8) scale + zero, which is
// torchao's formula. It wants N a multiple of 16 and no padding of K.
std::unique_ptr<Int4Matmul> MakeTinygemmCpu(const QuantizedLinear& linear, const KernelIdentity& identity) {
  const bool tiled = linear.format == Format::kTorchaoTilePacked;
  if (!tiled && linear.format != Format::kTorchaoPlain) {
    Refuse(linear,
           "kernel tinygemm/aten reads torchao's formats: its zero point is a float offset in bfloat16, which "
           "cannot hold (8 - z) scale exactly");
  }
  if (linear.n % 16 != 0) Refuse(linear, "kernel tinygemm/aten needs N to be a multiple of 16 on a CPU");
  const std::int64_t group = linear.group_size;
  if (group != 32 && group != 64 && group != 128 && group != 256) {
    Refuse(linear, "kernel tinygemm/aten needs a group size of 32, 64, 128 or 256, not " + std::to_string(group));
  }
  const std::vector<std::uint8_t> codes = CodesOf(linear);
  at::Tensor by_column = at::empty({linear.n, linear.k}, at::kInt);
  auto* const to = by_column.mutable_data_ptr<std::int32_t>();
  // Block by block through a buffer: both strides are powers of two, or near to, and would meet in one set of a cache.
  constexpr std::int64_t kBlock = 64;
  std::uint8_t block[kBlock][kBlock];
  for (std::int64_t first_n = 0; first_n < linear.n; first_n += kBlock) {
    const std::int64_t columns = std::min(kBlock, linear.n - first_n);
    for (std::int64_t first_k = 0; first_k < linear.k; first_k += kBlock) {
      const std::int64_t rows = std::min(kBlock, linear.k - first_k);
      for (std::int64_t k = 0; k < rows; ++k) {
        std::copy_n(codes.data() + (first_k + k) * linear.n + first_n, columns, block[k]);
      }
      for (std::int64_t n = 0; n < columns; ++n) {
        for (std::int64_t k = 0; k < rows; ++k) to[(first_n + n) * linear.k + first_k + k] = block[k][n];
      }
    }
  }
  constexpr std::int64_t kInnerKTiles = 8;  // has no effect on a CPU
  at::Tensor packed = at::_convert_weight_to_int4pack_for_cpu(by_column, kInnerKTiles);
  const std::int64_t groups = linear.k / group;
  at::Tensor scale_and_zero = tiled ? linear.scales.narrow(0, 0, groups).narrow(1, 0, linear.n).contiguous()
                                    : at::stack({linear.scales, linear.qzeros}, 2);
  return std::make_unique<TinygemmMatmul>(identity, linear, std::move(packed), std::move(scale_and_zero));
}

}  // namespace kernels::internal
