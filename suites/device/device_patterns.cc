#include "suites/device/device_patterns.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/any.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ne.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <set>

namespace suites {
namespace {

std::uint64_t Next(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9E3779B97F4A7C15U);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

}  // namespace

Patterns CountPatterns(const std::function<at::Tensor()>& run, int runs) {
  Patterns patterns;
  patterns.runs = runs;
  at::Tensor first, weights, digests, differs;
  for (int i = 0; i < runs; ++i) {
    const at::Tensor words = run().contiguous().view(at::kLong).reshape({-1});
    if (i == 0) {
      first = words.clone();
      at::Tensor odd = at::empty({words.numel()}, at::kLong);
      std::uint64_t state = 17;  // SplitMix64
      auto* const to = odd.mutable_data_ptr<std::int64_t>();
      for (std::int64_t w = 0; w < odd.numel(); ++w) to[w] = static_cast<std::int64_t>(Next(state) | 1u);
      weights = odd.to(words.device());
      digests = at::zeros({runs}, words.options());
      differs = at::zeros({runs}, words.options().dtype(at::kBool));
    }
    digests.select(0, i).copy_(words.mul(weights).sum());
    differs.select(0, i).copy_(at::ne(words, first).any());
  }
  const at::Tensor values = digests.cpu(), flags = differs.cpu();
  std::set<std::int64_t> seen;
  for (int i = 0; i < runs; ++i) {
    seen.insert(values.const_data_ptr<std::int64_t>()[i]);
    patterns.deviating += flags.const_data_ptr<bool>()[i];
  }
  patterns.distinct = static_cast<int>(seen.size());
  return patterns;
}

}  // namespace suites
