#include "suites/checkpoint/finite.h"

#include <ATen/ops/equal.h>

#include <algorithm>

namespace suites {
namespace {

// An exponent of all ones. By whole blocks first, so that the compiler makes
// vectors of it: an embedding has 600 million elements.
template <typename Word>
std::optional<std::int64_t> FirstWithExponent(const void* data, std::int64_t count, Word exponent) {
  constexpr std::int64_t kBlock = 4096;
  const Word* const words = static_cast<const Word*>(data);
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t end = std::min(begin + kBlock, count);
    Word any = 0;
    for (std::int64_t i = begin; i < end; ++i) any |= static_cast<Word>((words[i] & exponent) == exponent);
    if (any == 0) continue;
    const auto* found = std::find_if(words + begin, words + end,
                                     [&](Word word) { return static_cast<Word>(word & exponent) == exponent; });
    return found - words;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::int64_t> FirstNotFinite(const at::Tensor& tensor) {
  const at::Tensor whole = tensor.contiguous();
  const void* const data = whole.const_data_ptr();
  const std::int64_t count = whole.numel();
  switch (whole.scalar_type()) {
    case at::kHalf:
      return FirstWithExponent<std::uint16_t>(data, count, 0x7c00);
    case at::kBFloat16:
      return FirstWithExponent<std::uint16_t>(data, count, 0x7f80);
    case at::kFloat:
      return FirstWithExponent<std::uint32_t>(data, count, 0x7f800000);
    default:
      return std::nullopt;
  }
}

at::Tensor InHalfIfExact(const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kHalf) return tensor;
  at::Tensor half = tensor.to(at::kHalf);
  return at::equal(half.to(tensor.scalar_type()), tensor) ? half : tensor;
}

}  // namespace suites
