// ATen's own INT4 matmul on the CPU, from torchao's formats.
#include "kernels/internal/tinygemm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/_convert_weight_to_int4pack_for_cpu.h>
#include <ATen/ops/_weight_int4pack_mm_for_cpu.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <utility>

#include "kernels/int4_pack.h"
#include "kernels/internal/layer.h"
#include "kernels/internal/makers.h"

namespace kernels::internal {
namespace {

class CpuTinygemmMatmul final : public TinygemmMatmul {
 public:
  using TinygemmMatmul::TinygemmMatmul;

  at::Tensor Forward(const at::Tensor& x) const override {
    CheckActivations(identity_, x, at::kBFloat16, k_);
    return at::_weight_int4pack_mm_for_cpu(x, packed_, group_size_, scale_and_zero_);
  }
};

// Codes of some columns, as rows of 32 bits each, into `codes` [columns, K].
void CodesByColumn(const QuantizedLinear& linear, const at::Tensor& stored, std::int64_t first, std::int64_t columns,
                   std::int32_t* codes) {
  const auto size = static_cast<std::size_t>(stored.numel());
  if (linear.format == Format::kTorchaoTilePacked) {
    UnpackTorchaoTileColumns({stored.const_data_ptr<std::int32_t>(), size}, linear.k, linear.n, first, columns, codes);
  } else {
    UnpackTorchaoPlainColumns({stored.const_data_ptr<std::int8_t>(), size}, linear.k, linear.n, first, columns, codes);
  }
}

// ATen takes codes of 32 bits, eight times what it makes of them: each thread gives it some
// columns at a time. It packs blocks of 64 columns, then of 32 and 16, one after the other, so
// that the pieces are the whole.
at::Tensor PackColumns(const QuantizedLinear& linear) {
  constexpr std::int64_t kColumns = 64;
  const at::Tensor stored = linear.qweight.contiguous();
  at::Tensor packed = at::empty({linear.n, linear.k / 2}, at::kByte);
  at::parallel_for(0, (linear.n + kColumns - 1) / kColumns, 1, [&](std::int64_t begin, std::int64_t end) {
    const at::Tensor codes = at::empty({kColumns, linear.k}, at::kInt);
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t first = block * kColumns, columns = std::min(kColumns, linear.n - first);
      CodesByColumn(linear, stored, first, columns, codes.mutable_data_ptr<std::int32_t>());
      packed.narrow(0, first, columns)
          .copy_(at::_convert_weight_to_int4pack_for_cpu(codes.narrow(0, 0, columns), kTinygemmInnerKTiles));
    }
  });
  return packed;
}

}  // namespace

// ATen takes codes as I32 [N, K] and computes (code - 8) scale + zero, which is
// torchao's formula. It wants N a multiple of 16 and no padding of K.
std::unique_ptr<Int4Matmul> MakeTinygemmCpu(const QuantizedLinear& linear, const KernelIdentity& identity) {
  const bool tiled = CheckTinygemm(linear);
  if (linear.n % 16 != 0) Refuse(linear, "kernel tinygemm/aten needs N to be a multiple of 16 on a CPU");
  at::Tensor packed = PackColumns(linear);
  const std::int64_t groups = linear.k / linear.group_size;
  at::Tensor scale_and_zero = tiled ? linear.scales.narrow(0, 0, groups).narrow(1, 0, linear.n).contiguous()
                                    : at::stack({linear.scales, linear.qzeros}, 2);
  return std::make_unique<CpuTinygemmMatmul>(identity, linear, std::move(packed), std::move(scale_and_zero));
}

}  // namespace kernels::internal
