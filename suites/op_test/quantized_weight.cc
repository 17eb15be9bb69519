#include "suites/op_test/quantized_weight.h"

#include <ATen/ops/empty.h>

#include <cmath>
#include <cstring>
#include <numbers>
#include <stdexcept>
#include <utility>

#include "kernels/int4_pack.h"
#include "kernels/providers/vllm_layout.h"

namespace suites::op_test {
namespace {

template <typename T>
at::Tensor TensorOf(const std::vector<T>& values, at::IntArrayRef shape, at::ScalarType dtype) {
  at::Tensor tensor = at::empty(shape, dtype);
  std::memcpy(tensor.mutable_data_ptr(), values.data(), values.size() * sizeof(T));
  return tensor;
}

}  // namespace

std::uint64_t Random::Next() {
  std::uint64_t z = (state_ += 0x9E3779B97F4A7C15U);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

double Random::Uniform(double low, double high) {
  return low + (high - low) * (static_cast<double>(Next() >> 11) * 0x1p-53);
}

// Box and Muller (Annals of Mathematical Statistics 29, 1958).
double Random::Normal() {
  const double radius = std::sqrt(-2 * std::log(1 - Uniform(0, 1)));
  return radius * std::cos(2 * std::numbers::pi * Uniform(0, 1));
}

Weight RandomWeight(const WeightShape& shape) {
  const std::int64_t k = shape.k, n = shape.n, groups = k / shape.group_size;
  Random random(shape.seed);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(k * n)), zeros(static_cast<std::size_t>(groups * n), 8);
  for (std::size_t i = 0; i < codes.size(); i += 8) {  // k n is a multiple of 8
    const std::uint64_t bits = random.Next();
    for (int j = 0; j < 8; ++j) codes[i + j] = (bits >> (8 * j)) & 15;
  }
  if (!shape.symmetric) {
    for (std::uint8_t& zero : zeros) zero = static_cast<std::uint8_t>(random.Below(16));
  }
  at::Tensor scales = at::empty({groups, n}, at::kFloat);
  float* const scale = scales.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < groups * n; ++i) scale[i] = static_cast<float>(random.Uniform(0.01, 0.02));

  Weight weight;
  weight.shape = shape;
  weight.scales = scales.to(at::kHalf);
  if (shape.format == "awq") {
    weight.qweight = TensorOf(kernels::PackAwq(codes, k, n), {k, n / 8}, at::kInt);
    weight.qzeros = TensorOf(kernels::PackAwq(zeros, groups, n), {groups, n / 8}, at::kInt);
    return weight;
  }
  weight.qweight = TensorOf(kernels::PackGptq(codes, k, n), {k / 8, n}, at::kInt);
  weight.qzeros = TensorOf(kernels::PackGptqZeros(zeros, groups, n, /*v1=*/true), {groups, n / 8}, at::kInt);
  std::vector<std::int32_t> group_of(static_cast<std::size_t>(k));
  for (std::int64_t i = 0; i < k; ++i) group_of[i] = static_cast<std::int32_t>(i / shape.group_size);
  if (shape.desc_act) {
    for (std::int64_t i = k - 1; i > 0; --i) {
      std::swap(group_of[i], group_of[random.Below(static_cast<std::uint64_t>(i + 1))]);
    }
  }
  weight.g_idx = TensorOf(group_of, {k}, at::kInt);
  return weight;
}

std::vector<std::string_view> PartNames() {
  return {"qweight", "qzeros", "scales", "g_idx", "row_order", "sorted_g_idx", "marlin_scales", "marlin_zeros"};
}

at::Tensor PartOf(const Weight& weight, std::string_view part) {
  const bool gptq = weight.shape.format == "gptq";
  if (part == "qweight") return weight.qweight;
  if (part == "qzeros") return weight.qzeros;
  if (part == "scales") return weight.scales;
  if (part == "marlin_scales" || part == "marlin_zeros") {
    if (weight.shape.n % 64 != 0) throw std::invalid_argument("Marlin's order needs N to be a multiple of 64");
    if (part == "marlin_scales") {
      return kernels::vllm::MarlinScales(weight.scales, weight.shape.k, weight.shape.group_size);
    }
    return kernels::vllm::MarlinZeros(gptq ? kernels::vllm::GptqZeros(weight.qzeros, /*v1=*/true)
                                           : kernels::vllm::AwqCodes(weight.qzeros));
  }
  if (part == "row_order" || part == "sorted_g_idx") {
    if (!gptq || !weight.shape.desc_act) return at::empty({0}, weight.qweight.options());
    const at::Tensor order = weight.g_idx.argsort(/*stable=*/true, /*dim=*/0);
    return part == "row_order" ? order.to(at::kInt) : weight.g_idx.index_select(0, order);
  }
  if (part == "g_idx" && gptq) return weight.g_idx;
  throw std::invalid_argument("a weight of the format " + weight.shape.format + " has no " + std::string(part));
}

}  // namespace suites::op_test
