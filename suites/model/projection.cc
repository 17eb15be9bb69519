#include "suites/model/projection.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <optional>
#include <utility>

namespace suites::internal {
namespace {

std::string ModuleName(const std::string& prefix, const std::string& name) { return prefix + name; }
// "self_attn.q_proj" -> "q_proj"
std::string OpName(const std::string& name) { return name.substr(name.rfind('.') + 1); }

}  // namespace

at::ScalarType ScalarTypeOf(Precision precision) {
  switch (precision) {
    case Precision::kFp16:
      return at::kHalf;
    case Precision::kBf16:
      return at::kBFloat16;
    case Precision::kFp32:
      break;
  }
  return at::kFloat;
}

void DenseLinearInto(const at::Tensor& x, const at::Tensor& weight, Precision precision, void* y) {
  RECORD_FUNCTION("qwen3::linear", c10::ArrayRef<const c10::IValue>{});
  const RowOps& ops = RowOpsFor(precision);
  const std::int64_t rows = x.size(0);
  const std::int64_t k = x.size(1);
  const std::int64_t columns = weight.size(0);
  at::Tensor widened = x;
  if (precision != Precision::kFp32) {
    widened = at::empty({rows, k}, at::TensorOptions().dtype(at::kFloat));
    ops.to_float(x.const_data_ptr(), widened.mutable_data_ptr<float>(), rows * k);
  }
  const auto element = static_cast<std::int64_t>(x.element_size());
  const auto* input = widened.const_data_ptr<float>();
  const auto* weights = static_cast<const char*>(weight.const_data_ptr());
  // A piece of work is worth handing to another thread from some 10 us on.
  const std::int64_t grain = std::max<std::int64_t>(4, (std::int64_t{1} << 18) / (rows * k));
  at::parallel_for(0, (columns + 3) / 4, (grain + 3) / 4, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * 4;
    const std::int64_t last = std::min(end * 4, columns);
    ops.linear(input, rows, k, weights + first * k * element, last - first, static_cast<char*>(y) + first * element,
               columns);
  });
}

at::Tensor DenseLinear(const at::Tensor& x, const at::Tensor& weight, Precision precision) {
  at::Tensor y = at::empty({x.size(0), weight.size(0)}, x.options());
  DenseLinearInto(x, weight, precision, y.mutable_data_ptr());
  return y;
}

Projection::Projection(const Checkpoint& checkpoint, const std::string& op, const std::string& layer_prefix,
                       const std::vector<std::string>& names, const ProjectionOptions& options)
    : op_(op), precision_(options.precision) {
  const at::ScalarType dtype = ScalarTypeOf(precision_);
  std::vector<kernels::QuantizedLinear> quantized;
  std::vector<at::Tensor> dense;
  for (const std::string& name : names) {
    const std::string module = ModuleName(layer_prefix, name);
    if (checkpoint.IsQuantized(module)) {
      kernels::QuantizedLinear linear = checkpoint.Quantized(module);
      if (options.kernel != nullptr) {
        quantized.push_back(std::move(linear));
      } else {
        dense.push_back(kernels::Dequantize(linear).t().to(dtype).contiguous());
      }
    } else {
      dense.push_back(checkpoint.Dense(module + ".weight").to(dtype).contiguous());
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
      parts_.push_back({op, kernels::MakeInt4Matmul(*options.kernel, *whole), {}});
      return;
    }
  }
  // A part each: some are not quantized, or they group their rows differently.
  auto next_quantized = quantized.begin();
  auto next_dense = dense.begin();
  for (const std::string& name : names) {
    if (checkpoint.IsQuantized(ModuleName(layer_prefix, name))) {
      parts_.push_back({OpName(name), kernels::MakeInt4Matmul(*options.kernel, *next_quantized++), {}});
    } else {
      parts_.push_back({OpName(name), nullptr, *next_dense++});
    }
  }
}

at::Tensor Projection::ForwardPart(const Part& part, const at::Tensor& x, const InputCallback& on_input) const {
  if (part.int4 == nullptr) return DenseLinear(x, part.weight, precision_);
  if (on_input) on_input(part.op, x);
  return part.int4->Forward(x);
}

at::Tensor Projection::Forward(const at::Tensor& x, const InputCallback& on_input) const {
  if (parts_.size() == 1) return ForwardPart(parts_.front(), x, on_input);
  std::vector<at::Tensor> columns;
  columns.reserve(parts_.size());
  for (const Part& part : parts_) columns.push_back(ForwardPart(part, x, on_input));
  return at::cat(columns, 1);
}

const kernels::Int4Matmul* Projection::MatmulOf(const std::string& op) const {
  for (const Part& part : parts_) {
    if (part.op == op) return part.int4.get();
  }
  return nullptr;
}

const kernels::KernelIdentity* Projection::kernel() const {
  for (const Part& part : parts_) {
    if (part.int4 != nullptr) return &part.int4->identity();
  }
  return nullptr;
}

}  // namespace suites::internal
