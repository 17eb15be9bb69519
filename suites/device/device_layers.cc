#include "suites/device/device_layers.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>

#include <limits>

#include "kernels/int4_pack.h"

namespace suites {
namespace {

using kernels::Format;

constexpr std::int64_t kGroup = 128;

at::TensorOptions On(at::ScalarType dtype) { return at::TensorOptions().dtype(dtype).device(at::kCUDA); }

at::Tensor RandomWords(at::IntArrayRef shape) {
  return at::randint(std::numeric_limits<std::int32_t>::min(), std::int64_t{1} << 31, shape, On(at::kInt));
}

at::Tensor RandomScales(at::IntArrayRef shape, at::ScalarType dtype) {
  return at::rand(shape, On(at::kFloat)).mul(0.01).add(0.005).to(dtype);
}

}  // namespace

void Seed(std::uint64_t seed) {
  at::Generator generator = at::globalContext().defaultGenerator(at::Device(at::kCUDA, 0));
  generator.set_current_seed(seed);
}

kernels::QuantizedLinear RandomLayer(const std::string& family, std::int64_t k, std::int64_t n) {
  kernels::QuantizedLinear layer;
  layer.name = "random";
  layer.format = family == "tinygemm" ? Format::kTorchaoTilePacked : family == "gptq" ? Format::kGptq : Format::kAwq;
  layer.k = k;
  layer.n = n;
  layer.group_size = kGroup;
  if (layer.format == Format::kTorchaoTilePacked) {
    const std::int64_t padded_k = kernels::TorchaoPaddedK(k), padded_n = kernels::TorchaoPaddedN(n);
    layer.qweight = RandomWords({padded_n / 8, padded_k / 128, 32, 4});
    layer.scales = RandomScales({padded_k / kGroup, padded_n, 2}, at::kBFloat16);
  } else {
    layer.qweight = layer.format == Format::kAwq ? RandomWords({k, n / 8}) : RandomWords({k / 8, n});
    layer.qzeros = RandomWords({k / kGroup, n / 8});
    layer.scales = RandomScales({k / kGroup, n}, at::kHalf);
  }
  return layer;
}

std::unique_ptr<kernels::Int4Matmul> RandomKernel(const kernels::KernelRequest& request, std::int64_t k,
                                                  std::int64_t n) {
  return kernels::MakeInt4Matmul(request, RandomLayer(request.family, k, n));
}

at::Tensor RandomInput(const std::string& family, std::int64_t m, std::int64_t k) {
  return at::rand({m, k}, On(at::kFloat)).mul(4).sub(2).to(family == "tinygemm" ? at::kBFloat16 : at::kHalf);
}

at::Tensor RandomHalves(std::int64_t m, std::int64_t k) { return RandomInput("", m, k); }

double WeightBytes(std::int64_t k, std::int64_t n) {
  const double codes = static_cast<double>(k) * static_cast<double>(n);
  return codes / 2 + codes / kGroup * 2.5;
}

}  // namespace suites
