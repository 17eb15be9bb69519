// marlin, awq and gptq on the CPU: from a checkpoint's layer to the operators' arguments.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/operators.h"
#include "kernels/cpu/repack.h"
#include "kernels/internal/layer.h"
#include "kernels/internal/makers.h"
#include "kernels/internal/operator_matmul.h"

namespace kernels::internal {

namespace {

constexpr std::int64_t kWidth = cpu::kTileColumns;
constexpr std::int64_t RoundUp(std::int64_t value, std::int64_t to) { return (value + to - 1) / to * to; }

void PackGroups(const QuantizedLinear& linear, Packed& packed) {
  const std::int64_t groups = linear.k / linear.group_size, n = linear.n, padded = RoundUp(n, kWidth);
  packed.zeros = at::zeros({groups, padded}, at::kByte);
  packed.scales = at::zeros({groups, padded}, at::kHalf);
  const std::vector<std::uint8_t> zeros = ZerosOf(linear);
  const at::Tensor scales = linear.scales.contiguous();
  const at::Half* const from = scales.const_data_ptr<at::Half>();
  auto* const to_zeros = packed.zeros.mutable_data_ptr<std::uint8_t>();
  auto* const to_scales = packed.scales.mutable_data_ptr<at::Half>();
  for (std::int64_t g = 0; g < groups; ++g) {
    std::copy_n(zeros.data() + g * n, n, to_zeros + g * padded);
    std::copy_n(from + g * n, n, to_scales + g * padded);
  }
}

std::optional<at::Tensor> ToTensor(const std::vector<std::int64_t>& order) {
  if (order.empty()) return std::nullopt;
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(order.size())}, at::kLong);
  std::memcpy(tensor.mutable_data_ptr<std::int64_t>(), order.data(), order.size() * sizeof(std::int64_t));
  return tensor;
}

}  // namespace

namespace {

// Marlin's idea on a CPU: the weights lie in the order in which the inner loop
// reads them, for all three families. A tile is 64 columns over all of K; within it
// word [k / 8][column] holds eight consecutive k of one column, so that one task
// reads one contiguous stream, and a mask over a vector of words gives four codes
// of each of its columns. desc_act: rows sorted by group.
std::unique_ptr<Int4Matmul> Make(const QuantizedLinear& linear, const KernelIdentity& identity) {
  CheckGroups(linear);
  Packed packed;
  const std::vector<std::int64_t> order = RowOrder(linear);
  packed.row_order = ToTensor(order);
  PackGroups(linear, packed);
  packed.words = at::empty({RoundUp(linear.n, kWidth) / kWidth, linear.k / 8, kWidth}, at::kInt);
  const at::Tensor words = linear.qweight.contiguous();
  cpu::StoredWords stored;
  stored.words = reinterpret_cast<const std::uint32_t*>(words.const_data_ptr<std::int32_t>());
  stored.awq = linear.format == Format::kAwq;
  stored.k = linear.k;
  stored.n = linear.n;
  stored.row_order = order.empty() ? nullptr : order.data();
  cpu::PackTiles(stored, reinterpret_cast<std::uint32_t*>(packed.words.mutable_data_ptr<std::int32_t>()));
  return std::make_unique<OperatorMatmul>(identity, linear.k, linear.n, at::kCPU, std::move(packed));
}

}  // namespace

std::unique_ptr<Int4Matmul> MakeMarlinCpu(const QuantizedLinear& linear, const KernelIdentity& identity) {
  if (linear.format != Format::kAwq && linear.format != Format::kGptq) {
    RefuseFormat(linear, identity, "awq and gptq");
  }
  return Make(linear, identity);
}

std::unique_ptr<Int4Matmul> MakeAwqCpu(const QuantizedLinear& linear, const KernelIdentity& identity) {
  if (linear.format != Format::kAwq) RefuseFormat(linear, identity, "awq");
  return Make(linear, identity);
}

std::unique_ptr<Int4Matmul> MakeGptqCpu(const QuantizedLinear& linear, const KernelIdentity& identity) {
  if (linear.format != Format::kGptq) RefuseFormat(linear, identity, "gptq");
  return Make(linear, identity);
}

}  // namespace kernels::internal
