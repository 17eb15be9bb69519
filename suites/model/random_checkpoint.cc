#include "suites/model/random_checkpoint.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <utility>
#include <vector>

namespace suites {
namespace {

constexpr std::int64_t kGroupSize = 128;
// No divisor of a row, so that rows differ.
constexpr std::int64_t kPool = 4000037;

using Shape = std::vector<std::int64_t>;

std::int64_t RoundUp(std::int64_t value, std::int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// A tensor of that shape, filled with the pool over and over.
at::Tensor Tiled(const at::Tensor& pool, const Shape& shape) {
  at::Tensor tensor = at::empty(shape, pool.options());
  auto* to = static_cast<char*>(tensor.mutable_data_ptr());
  const auto* from = static_cast<const char*>(pool.const_data_ptr());
  const std::size_t bytes = tensor.nbytes();
  for (std::size_t at = 0; at < bytes; at += pool.nbytes()) {
    std::memcpy(to + at, from, std::min(pool.nbytes(), bytes - at));
  }
  return tensor;
}

std::string Key(const char* kind, const Shape& shape) {
  std::string key = kind;
  for (const std::int64_t extent : shape) key += " " + std::to_string(extent);
  return key;
}

}  // namespace

ModelConfig ConfigOfShape(const std::string& shape) {
  if (shape != "qwen3-8b") throw std::invalid_argument("shape \"" + shape + "\" is not known: use qwen3-8b");
  ModelConfig config;
  config.vocab_size = 151936;
  config.hidden_size = 4096;
  config.intermediate_size = 12288;
  config.num_hidden_layers = 36;
  config.num_attention_heads = 32;
  config.num_key_value_heads = 8;
  config.head_dim = 128;
  config.max_position_embeddings = 40960;
  config.torch_dtype = "float16";
  return config;
}

RandomCheckpoint::RandomCheckpoint(ModelConfig config, const std::string& format)
    : config_(std::move(config)), tensors_(TensorsOf(config_)) {
  if (format != "" && format != "awq" && format != "gptq" && format != "torchao") {
    throw std::invalid_argument("format \"" + format + "\" is not known: use awq, gptq or torchao");
  }
  config_.quantization = {};
  config_.quantization.method = format;
  config_.quantization.group_size = kGroupSize;
  at::Generator generator = at::detail::createCPUGenerator(42);
  words_ = at::randint(-(1LL << 31), 1LL << 31, {kPool}, generator, at::TensorOptions().dtype(at::kLong)).to(at::kInt);
  numbers_ = at::randn({kPool}, generator);
}

at::Tensor RandomCheckpoint::Dense(const std::string& name) const {
  const bool is_norm = name.find("norm") != std::string::npos;
  const std::string module = name.substr(0, name.rfind(".weight"));
  Shape shape;
  if (const auto found = tensors_.dense.find(name); found != tensors_.dense.end()) {
    shape = found->second;
  } else {
    const LinearShape& linear = tensors_.linear.at(module);
    shape = {linear.n, linear.k};
  }
  at::Tensor& tensor = made_[Key(is_norm ? "norm" : "dense", shape)];
  if (!tensor.defined()) {
    const double scale = is_norm ? 0 : 1 / std::sqrt(static_cast<double>(shape.back()));
    tensor = is_norm ? at::ones(shape, at::TensorOptions().dtype(at::kHalf))
                     : Tiled((numbers_ * scale).to(at::kHalf), shape);
  }
  return tensor;
}

bool RandomCheckpoint::IsQuantized(const std::string& module) const {
  return !config_.quantization.method.empty() && module != "lm_head" && tensors_.linear.contains(module);
}

kernels::QuantizedLinear RandomCheckpoint::Quantized(const std::string& module) const {
  const LinearShape& shape = tensors_.linear.at(module);
  kernels::QuantizedLinear linear;
  linear.name = module;
  linear.k = shape.k;
  linear.n = shape.n;
  linear.group_size = kGroupSize;
  const auto words = [&](const Shape& size) -> at::Tensor {
    at::Tensor& tensor = made_[Key("words", size)];
    if (!tensor.defined()) tensor = Tiled(words_, size);
    return tensor;
  };
  // Codes about 8 with a deviation of 4.6: weights with one of 1 / sqrt(K).
  const double step = 1 / (4.6 * std::sqrt(static_cast<double>(shape.k)));
  const auto scales = [&](const Shape& size, at::ScalarType type) -> at::Tensor {
    at::Tensor& tensor = made_[Key("scales", size)];
    if (!tensor.defined()) tensor = Tiled(((numbers_.clamp(-2, 2) * 0.1 + 1) * step).to(type), size);
    return tensor;
  };
  const auto zeros = [&](std::int64_t word) {
    return at::full({shape.k / kGroupSize, shape.n / 8}, word, at::TensorOptions().dtype(at::kInt));
  };
  if (config_.quantization.method == "awq") {
    linear.format = kernels::Format::kAwq;
    linear.qweight = words({shape.k, shape.n / 8});
    linear.qzeros = zeros(static_cast<std::int32_t>(0x88888888u));
    linear.scales = scales({shape.k / kGroupSize, shape.n}, at::kHalf);
  } else if (config_.quantization.method == "gptq") {
    linear.format = kernels::Format::kGptq;
    linear.qweight = words({shape.k / 8, shape.n});
    linear.qzeros = zeros(0x77777777);
    linear.scales = scales({shape.k / kGroupSize, shape.n}, at::kHalf);
  } else {
    const std::int64_t k = RoundUp(shape.k, 1024);
    const std::int64_t n = RoundUp(shape.n, 8);
    linear.format = kernels::Format::kTorchaoTilePacked;
    linear.qweight = words({n / 8, k / 128, 32, 4});
    const at::Tensor scale = scales({k / kGroupSize, n}, at::kBFloat16);
    linear.scales = at::stack({scale, scale * 0}, 2);
  }
  return linear;
}

}  // namespace suites
