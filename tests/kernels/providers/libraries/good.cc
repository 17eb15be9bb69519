// An op library such as anybody might build: one operator that is bit-exact, one
// whose sum takes another order in every call, one that writes to its argument.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <atomic>
#include <optional>
#include <vector>

namespace {

at::Tensor ScaledSum(const at::Tensor& x, double scale, bool twice) {
  const at::Tensor from = x.contiguous();
  float sum = 0;
  for (std::int64_t i = 0; i < from.numel(); ++i) sum += from.const_data_ptr<float>()[i];
  at::Tensor result = at::empty({1}, at::kFloat);
  result.mutable_data_ptr<float>()[0] = sum * static_cast<float>(twice ? 2 * scale : scale);
  return result;
}

at::Tensor NoisySum(const at::Tensor& x, bool noisy) {
  static std::atomic<std::int64_t> calls = 0;
  const at::Tensor from = x.contiguous();
  const std::int64_t start = noisy ? calls++ : 0;
  float sum = 0;
  for (std::int64_t i = 0; i < from.numel(); ++i) sum += from.const_data_ptr<float>()[(i + start) % from.numel()];
  at::Tensor result = at::empty({1}, at::kFloat);
  result.mutable_data_ptr<float>()[0] = sum;
  return result;
}

void AddOne_(at::Tensor& x) { x.add_(1); }

std::vector<at::Tensor> Halves(const at::Tensor& x, const std::optional<at::Tensor>& unused, at::IntArrayRef sizes) {
  (void)unused;
  return {x.narrow(0, 0, sizes[0]), x.narrow(0, sizes[0], sizes[1])};
}

}  // namespace

TORCH_LIBRARY(determinism_test_ops, library) {
  library.def("scaled_sum(Tensor x, float scale, *, bool twice=False) -> Tensor");
  library.def("noisy_sum(Tensor x, bool noisy) -> Tensor");
  library.def("add_one_(Tensor(a!) x) -> ()");
  library.def("halves(Tensor x, Tensor? unused, int[] sizes) -> Tensor[]");
  library.def("scaled_sum.of_two(Tensor x, Tensor y) -> Tensor");
  library.def("without_a_kernel(Tensor x) -> Tensor");
}
TORCH_LIBRARY_IMPL(determinism_test_ops, CPU, library) {
  library.impl("scaled_sum", ScaledSum);
  library.impl("noisy_sum", NoisySum);
  library.impl("add_one_", AddOne_);
  library.impl("halves", Halves);
}
