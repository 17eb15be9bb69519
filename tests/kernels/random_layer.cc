#include "tests/kernels/random_layer.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <cstring>
#include <numeric>
#include <utility>

#include "kernels/int4_pack.h"

namespace kernels {
namespace {

template <typename T>
at::Tensor TensorOf(const std::vector<T>& values, at::IntArrayRef shape, at::ScalarType dtype) {
  at::Tensor tensor = at::empty(shape, dtype);
  std::memcpy(tensor.mutable_data_ptr(), values.data(), values.size() * sizeof(T));
  return tensor;
}

std::vector<std::uint8_t> RandomCodes(Random& random, std::int64_t count) {
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(count));
  for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random.Below(16));
  return codes;
}

at::Tensor RandomTensor(Random& random, at::IntArrayRef shape, at::ScalarType dtype, double low, double high) {
  at::Tensor values = at::empty(shape, at::kFloat);
  float* const to = values.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < values.numel(); ++i) to[i] = static_cast<float>(random.Uniform(low, high));
  return values.to(dtype);
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

QuantizedLinear RandomLayer(Format format, const LayerShape& shape, std::uint64_t seed) {
  Random random(seed);
  const std::int64_t k = shape.k, n = shape.n, groups = k / shape.group_size;
  QuantizedLinear layer;
  layer.name = "layers.0.test_proj";
  layer.format = format;
  layer.k = k;
  layer.n = n;
  layer.group_size = shape.group_size;
  const std::vector<std::uint8_t> codes = RandomCodes(random, k * n);
  std::vector<std::uint8_t> zeros = RandomCodes(random, groups * n);
  if (shape.symmetric) zeros.assign(zeros.size(), 8);
  constexpr double kLowScale = 0.01, kHighScale = 0.02;
  switch (format) {
    case Format::kAwq:
      layer.qweight = TensorOf(PackAwq(codes, k, n), {k, n / 8}, at::kInt);
      layer.qzeros = TensorOf(PackAwq(zeros, groups, n), {groups, n / 8}, at::kInt);
      layer.scales = RandomTensor(random, {groups, n}, at::kHalf, kLowScale, kHighScale);
      break;
    case Format::kGptq: {
      layer.qweight = TensorOf(PackGptq(codes, k, n), {k / 8, n}, at::kInt);
      layer.qzeros = TensorOf(PackGptqZeros(zeros, groups, n, true), {groups, n / 8}, at::kInt);
      layer.scales = RandomTensor(random, {groups, n}, at::kHalf, kLowScale, kHighScale);
      std::vector<std::int32_t> g_idx(static_cast<std::size_t>(k));
      for (std::int64_t i = 0; i < k; ++i) g_idx[i] = static_cast<std::int32_t>(i / shape.group_size);
      if (shape.desc_act) {
        for (std::int64_t i = k - 1; i > 0; --i) {
          std::swap(g_idx[i], g_idx[random.Below(static_cast<std::uint32_t>(i + 1))]);
        }
      }
      layer.g_idx = TensorOf(g_idx, {k}, at::kInt);
      break;
    }
    case Format::kTorchaoTilePacked: {
      const std::int64_t padded_k = TorchaoPaddedK(k), padded_n = TorchaoPaddedN(n);
      layer.qweight = TensorOf(PackTorchaoTile(codes, k, n), {padded_n / 8, padded_k / 128, 32, 4}, at::kInt);
      layer.scales =
          RandomTensor(random, {padded_k / shape.group_size, padded_n, 2}, at::kBFloat16, kLowScale, kHighScale);
      break;
    }
    case Format::kTorchaoPlain:
      layer.qweight = TensorOf(PackTorchaoPlain(codes, k, n), {n, k / 2}, at::kChar);
      layer.scales = RandomTensor(random, {groups, n}, at::kBFloat16, kLowScale, kHighScale);
      layer.qzeros = RandomTensor(random, {groups, n}, at::kBFloat16, -0.1, 0.1);
      break;
  }
  return layer;
}

at::Tensor RandomActivations(std::int64_t m, std::int64_t k, at::ScalarType dtype, std::uint64_t seed) {
  Random random(seed);
  return RandomTensor(random, {m, k}, dtype, -2.0, 2.0);
}

}  // namespace kernels
