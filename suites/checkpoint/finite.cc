#include "suites/checkpoint/finite.h"

#include <ATen/Parallel.h>
#include <ATen/ops/equal.h>

#include <algorithm>
#include <atomic>
#include <cstddef>

#include "suites/checkpoint/mapped_file.h"

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

std::optional<std::int64_t> FirstNotFinite(const void* data, std::int64_t count, at::ScalarType type) {
  switch (type) {
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

}  // namespace

std::optional<std::int64_t> FirstNotFinite(const at::Tensor& tensor) {
  const at::Tensor whole = tensor.contiguous();
  const auto* const data = static_cast<const std::byte*>(whole.const_data_ptr());
  const auto size = static_cast<std::int64_t>(whole.element_size());
  const std::int64_t at_once = (std::int64_t{16} << 20) / size, count = whole.numel();
  if (count <= at_once) return FirstNotFinite(data, count, whole.scalar_type());
  const std::optional<MappedFile::Place> place = MappedFile::Find(data, whole.nbytes());
  std::atomic<std::int64_t> first = count;
  at::parallel_for(0, (count + at_once - 1) / at_once, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t piece = begin; piece < end; ++piece) {
      const std::int64_t from = piece * at_once, elements = std::min(at_once, count - from);
      const auto found = FirstNotFinite(data + from * size, elements, whole.scalar_type());
      if (place) {
        place->file->Release(place->offset + static_cast<std::uint64_t>(from * size),
                             static_cast<std::size_t>(elements * size));
      }
      std::int64_t known = first;
      while (found && from + *found < known && !first.compare_exchange_weak(known, from + *found)) {
      }
    }
  });
  return first < count ? std::optional<std::int64_t>(first) : std::nullopt;
}

at::Tensor InHalfIfExact(const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kHalf) return tensor;
  at::Tensor half = tensor.to(at::kHalf);
  return at::equal(half.to(tensor.scalar_type()), tensor) ? half : tensor;
}

}  // namespace suites
