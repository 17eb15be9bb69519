#include "suites/model/cuda/projection.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/record_function.h>

#include <utility>

#include "suites/model/projection.h"

namespace suites::internal {
namespace {

kernels::QuantizedLinear Uploaded(kernels::QuantizedLinear linear, const Uploader& upload) {
  for (at::Tensor* tensor : {&linear.qweight, &linear.qzeros, &linear.scales, &linear.g_idx}) {
    if (tensor->defined()) *tensor = upload(*tensor);
  }
  return linear;
}

// "self_attn.q_proj" -> "q_proj"
std::string OpName(const std::string& name) { return name.substr(name.rfind('.') + 1); }

}  // namespace

at::Tensor DenseLinearOnDevice(const at::Tensor& x, const at::Tensor& weight) {
  RECORD_FUNCTION("qwen3::linear", c10::ArrayRef<const c10::IValue>{});
  return at::mm(x, weight.t());
}

at::Tensor Multiply(const CudaProjection::Part& part, const at::Tensor& x) {
  return part.int4 == nullptr ? DenseLinearOnDevice(x, part.weight) : part.int4->Forward(x);
}

CudaProjection::CudaProjection(const Checkpoint& checkpoint, const std::string& op, const std::string& layer_prefix,
                               const std::vector<std::string>& names, const CudaProjectionOptions& options)
    : op_(op) {
  const at::ScalarType dtype = ScalarTypeOf(options.precision);
  std::vector<kernels::QuantizedLinear> quantized;
  std::vector<at::Tensor> dense;
  std::vector<bool> is_quantized;
  for (const std::string& name : names) {
    const std::string module = layer_prefix + name;
    const bool packed = checkpoint.IsQuantized(module) && options.kernel != nullptr;
    is_quantized.push_back(packed);
    if (packed) {
      quantized.push_back(Uploaded(checkpoint.Quantized(module), options.upload));
    } else if (checkpoint.IsQuantized(module)) {
      dense.push_back(options.upload(kernels::Dequantize(checkpoint.Quantized(module)).t().to(dtype).contiguous()));
    } else {
      dense.push_back(options.upload(checkpoint.Dense(module + ".weight").to(dtype)).contiguous());
    }
  }
  if (quantized.empty()) {
    parts_.push_back({op, nullptr, dense.size() == 1 ? dense.front() : at::cat(dense, 0)});
    return;
  }
  if (dense.empty()) {
    if (quantized.size() == 1) {
      parts_.push_back({op, kernels::MakeInt4Matmul(*options.kernel, quantized.front()), {}});
      return;
    }
    if (const auto whole = kernels::ConcatenateColumns(quantized)) {
      quantized.clear();  // not on the device beside the packed weights
      parts_.push_back({op, kernels::MakeInt4Matmul(*options.kernel, *whole), {}});
      return;
    }
  }
  // A part each: some are not quantized, or they group their rows differently.
  auto next_quantized = quantized.begin();
  auto next_dense = dense.begin();
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (is_quantized[i]) {
      parts_.push_back({OpName(names[i]), kernels::MakeInt4Matmul(*options.kernel, *next_quantized++), {}});
    } else {
      parts_.push_back({OpName(names[i]), nullptr, *next_dense++});
    }
  }
}

const kernels::Int4Matmul* CudaProjection::MatmulOf(const std::string& op) const {
  for (const Part& part : parts_) {
    if (part.op == op) return part.int4.get();
  }
  return nullptr;
}

const kernels::KernelIdentity* CudaProjection::kernel() const {
  for (const Part& part : parts_) {
    if (part.int4 != nullptr) return &part.int4->identity();
  }
  return nullptr;
}

}  // namespace suites::internal
