// What ATen's INT4 matmul is on a CPU and on a CUDA device alike.
#ifndef KERNELS_INTERNAL_TINYGEMM_H_
#define KERNELS_INTERNAL_TINYGEMM_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>

#include "kernels/int4_matmul.h"
#include "kernels/internal/layer.h"

namespace kernels::internal {

// Has no effect on a CPU; torchao's tiles are made so.
inline constexpr std::int64_t kTinygemmInnerKTiles = 8;

// Refuses a layer that ATen's kernels cannot multiply on any device. Returns whether it
// is in the tile-packed format, else it is in the plain one.
inline bool CheckTinygemm(const QuantizedLinear& linear) {
  const bool tiled = linear.format == Format::kTorchaoTilePacked;
  if (!tiled && linear.format != Format::kTorchaoPlain) {
    Refuse(linear,
           "kernel tinygemm/aten reads torchao's formats: its zero point is a float offset in bfloat16, which "
           "cannot hold (8 - z) scale exactly");
  }
  const std::int64_t group = linear.group_size;
  if (group != 32 && group != 64 && group != 128 && group != 256) {
    Refuse(linear, "kernel tinygemm/aten needs a group size of 32, 64, 128 or 256, not " + std::to_string(group));
  }
  return tiled;
}

// y[M, N] = x[M, K] . W, x BF16; a device adds Forward().
class TinygemmMatmul : public Int4Matmul {
 public:
  TinygemmMatmul(KernelIdentity identity, const QuantizedLinear& linear, at::Tensor packed, at::Tensor scale_and_zero)
      : identity_(std::move(identity)),
        k_(linear.k),
        n_(linear.n),
        group_size_(linear.group_size),
        packed_(std::move(packed)),
        scale_and_zero_(std::move(scale_and_zero)) {}

  at::Tensor ForwardOrdered(const at::Tensor& x) const override { return Forward(x); }
  const KernelIdentity& identity() const override { return identity_; }
  std::int64_t k() const override { return k_; }
  std::int64_t n() const override { return n_; }

 protected:
  const KernelIdentity identity_;
  const std::int64_t k_;
  const std::int64_t n_;
  const std::int64_t group_size_;
  const at::Tensor packed_;          // CPU: ATen's own order; CUDA: I32 [padded N / 8, padded K / 128, 32, 4]
  const at::Tensor scale_and_zero_;  // BF16 [K / G, N, 2]; CUDA: both padded
};

}  // namespace kernels::internal

#endif  // KERNELS_INTERNAL_TINYGEMM_H_
