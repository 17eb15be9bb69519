#include "suites/device/reference_columns.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mm.h>

namespace suites {
namespace {

std::vector<std::int64_t> Starts(std::int64_t n) {
  const std::int64_t blocks = n / kReferenceWidth;
  std::vector<std::int64_t> starts = {0};
  if (blocks > 2) starts.push_back(blocks / 2 * kReferenceWidth);
  if (blocks > 1) starts.push_back((blocks - 1) * kReferenceWidth);
  return starts;
}

}  // namespace

ReferenceColumns ReferenceOf(const kernels::QuantizedLinear& layer) {
  ReferenceColumns reference;
  reference.starts = Starts(layer.n);
  std::vector<at::Tensor> blocks;
  for (const std::int64_t start : reference.starts) {
    constexpr std::int64_t kWidth = kReferenceWidth;
    kernels::QuantizedLinear part = layer;
    part.n = kWidth;
    part.scales = layer.scales.narrow(1, start, kWidth);
    switch (layer.format) {
      case kernels::Format::kAwq:
        part.qweight = layer.qweight.narrow(1, start / 8, kWidth / 8);
        part.qzeros = layer.qzeros.narrow(1, start / 8, kWidth / 8);
        break;
      case kernels::Format::kGptq:
        part.qweight = layer.qweight.narrow(1, start, kWidth);
        part.qzeros = layer.qzeros.narrow(1, start / 8, kWidth / 8);
        break;
      default:  // tile-packed: eight columns a row of tiles
        part.qweight = layer.qweight.narrow(0, start / 8, kWidth / 8);
    }
    for (at::Tensor* tensor : {&part.qweight, &part.qzeros, &part.scales}) {
      if (tensor->defined()) *tensor = tensor->contiguous();
    }
    blocks.push_back(kernels::Dequantize(part));
  }
  reference.weights = at::cat(blocks, 1).to(layer.scales.device()).to(at::kDouble);
  return reference;
}

ReferenceColumns ReferenceOf(const at::Tensor& weights) {
  ReferenceColumns reference;
  reference.starts = Starts(weights.size(1));
  std::vector<at::Tensor> blocks;
  for (const std::int64_t start : reference.starts) blocks.push_back(weights.narrow(1, start, kReferenceWidth));
  reference.weights = at::cat(blocks, 1).to(at::kDouble);
  return reference;
}

double RelativeError(const at::Tensor& y, const at::Tensor& x, const ReferenceColumns& reference) {
  std::vector<at::Tensor> blocks;
  for (const std::int64_t start : reference.starts) blocks.push_back(y.narrow(1, start, kReferenceWidth));
  const at::Tensor expected = at::mm(x.to(at::kDouble), reference.weights);
  const at::Tensor difference = at::cat(blocks, 1).to(at::kDouble) - expected;
  return at::linalg_vector_norm(difference).item<double>() / at::linalg_vector_norm(expected).item<double>();
}

}  // namespace suites
