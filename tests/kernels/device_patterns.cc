#include "tests/kernels/device_patterns.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/any.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ne.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include <cstdint>
#include <set>

#include "tests/kernels/random_layer.h"

namespace kernels {

Patterns CountPatterns(const std::function<at::Tensor()>& run, int runs) {
  Patterns patterns;
  patterns.runs = runs;
  at::Tensor first, weights, digests, differs;
  for (int i = 0; i < runs; ++i) {
    const at::Tensor words = run().contiguous().view(at::kLong).reshape({-1});
    if (i == 0) {
      first = words.clone();
      at::Tensor odd = at::empty({words.numel()}, at::kLong);
      Random random(17);
      auto* const to = odd.mutable_data_ptr<std::int64_t>();
      for (std::int64_t w = 0; w < odd.numel(); ++w) to[w] = static_cast<std::int64_t>(random.Next() | 1u);
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

}  // namespace kernels
