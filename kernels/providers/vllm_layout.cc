#include "kernels/providers/vllm_layout.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/bitwise_and.h>
#include <ATen/ops/bitwise_left_shift.h>
#include <ATen/ops/bitwise_or.h>
#include <ATen/ops/bitwise_right_shift.h>

#include <algorithm>

namespace kernels::vllm {
namespace {

// Words I32 or I64 [R, C] to their nibbles [R, C, 8], lowest first, I32.
at::Tensor Nibbles(const at::Tensor& words) {
  const at::Tensor shifts = at::arange(0, 32, 4, words.options());
  return at::bitwise_and(at::bitwise_right_shift(words.unsqueeze(-1), shifts), 15).to(at::kInt);
}

}  // namespace

at::Tensor AwqCodes(const at::Tensor& words) {
  // Nibble 4b + a of a word holds its column 2a + b.
  return Nibbles(words.contiguous())
      .view({words.size(0), words.size(1), 2, 4})
      .transpose(2, 3)
      .reshape({words.size(0), 8 * words.size(1)});
}

at::Tensor GptqZeros(const at::Tensor& words, bool v1) {
  at::Tensor values = words.contiguous();
  if (v1) {
    // The carry out of one nibble is the borrow that storing z - 1 took from it.
    constexpr std::int64_t kOneInEveryNibble = 0x11111111, kWord = 0xffffffff;
    values = values.to(at::kLong).bitwise_and(kWord).add(kOneInEveryNibble);
  }
  return Nibbles(values).reshape({words.size(0), 8 * words.size(1)});
}

at::Tensor PackColumns(const at::Tensor& codes) {
  const at::Tensor nibbles = codes.to(at::kInt).reshape({codes.size(0), codes.size(1) / 8, 8});
  at::Tensor words = nibbles.select(2, 0);
  for (std::int64_t i = 1; i < 8; ++i) {
    words = at::bitwise_or(words, at::bitwise_left_shift(nibbles.select(2, i), 4 * i));
  }
  return words.contiguous();
}

at::Tensor MarlinScales(const at::Tensor& scales, std::int64_t k, std::int64_t group_size) {
  const std::int64_t groups = scales.size(0), n = scales.size(1);
  const at::Tensor from = scales.contiguous();
  const at::Tensor blocks = group_size < k ? from.view({groups, n / 64, 8, 8}) : from.view({groups, n / 32, 4, 4, 2});
  return blocks.transpose(2, 3).reshape({groups, n}).contiguous();
}

at::Tensor MarlinZeros(const at::Tensor& zeros) {
  const std::int64_t groups = zeros.size(0), n = zeros.size(1);
  const at::Tensor turned = zeros.contiguous().view({groups, n / 64, 8, 8}).transpose(2, 3).contiguous();
  return PackColumns(turned.view({groups, n / 8, 4, 2}).transpose(2, 3).reshape({groups, n}));
}

std::int64_t MarlinAtomicRows(std::int64_t rows, std::int64_t n) {
  const std::int64_t most = n <= 4096 ? 128 : 16;  // blocks of 64 rows in a part
  std::int64_t atomic = 0;
  for (std::int64_t rest = rows; rest > 0;) {
    const std::int64_t blocks = std::min(rest / 64, most);
    const std::int64_t part = blocks > 0 ? 64 * blocks : rest;
    if ((part + 63) / 64 * n <= 2048) atomic += part;
    rest -= part;
  }
  return atomic;
}

}  // namespace kernels::vllm
