#include "suites/model/cuda/projection.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/record_function.h>
#include <c10/cuda/CUDAStream.h>

#include <utility>

#include "suites/model/cuda/launch.h"
#include "suites/model/projection.h"

namespace suites::internal {
namespace {

// "self_attn.q_proj" -> "q_proj"
std::string OpName(const std::string& name) { return name.substr(name.rfind('.') + 1); }

Precision PrecisionOf(at::ScalarType type) {
  return type == at::kHalf ? Precision::kFp16 : type == at::kBFloat16 ? Precision::kBf16 : Precision::kFp32;
}

}  // namespace

at::Tensor DenseLinearOnDevice(const at::Tensor& x, const at::Tensor& weight) {
  RECORD_FUNCTION("qwen3::linear", c10::ArrayRef<const c10::IValue>{});
  const auto aligned = [](const at::Tensor& tensor) {
    return tensor.is_contiguous() && reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % 16 == 0;
  };
  if (x.size(0) != 1 || x.size(1) % 8 != 0 || !aligned(x) || !aligned(weight)) return at::mm(x, weight.t());
  at::Tensor y = at::empty({1, weight.size(0)}, x.options());
  LaunchGemv(PrecisionOf(x.scalar_type()), x.const_data_ptr(), weight.const_data_ptr(), y.mutable_data_ptr(),
             weight.size(0), x.size(1), c10::cuda::getCurrentCUDAStream(x.device().index()).stream());
  return y;
}

at::Tensor Multiply(const CudaProjection::Part& part, const at::Tensor& x) {
  return part.int4 == nullptr ? DenseLinearOnDevice(x, part.weight) : part.int4->Forward(x);
}

LinearSource ReadLinear(const Checkpoint& checkpoint, const std::string& layer_prefix, const std::string& name,
                        Precision precision, bool packed) {
  LinearSource source;
  source.name = name;
  const std::string module = layer_prefix + name;
  const at::ScalarType dtype = ScalarTypeOf(precision);
  if (!checkpoint.IsQuantized(module)) {
    source.dense = checkpoint.Dense(module + ".weight").to(dtype).contiguous();
  } else if (packed) {
    source.packed = checkpoint.Quantized(module);
  } else {
    source.dense = kernels::Dequantize(checkpoint.Quantized(module)).t().to(dtype).contiguous();
  }
  return source;
}

void AppendTensors(LinearSource& source, std::vector<at::Tensor*>& tensors) {
  if (!source.packed) {
    tensors.push_back(&source.dense);
    return;
  }
  kernels::QuantizedLinear& linear = *source.packed;
  for (at::Tensor* tensor : {&linear.qweight, &linear.qzeros, &linear.scales, &linear.g_idx}) {
    if (tensor->defined()) tensors.push_back(tensor);
  }
}

CudaProjection::CudaProjection(const std::string& op, std::vector<LinearSource> sources,
                               const kernels::KernelRequest& kernel)
    : op_(op) {
  std::vector<kernels::QuantizedLinear> packed;
  std::vector<at::Tensor> dense;
  for (const LinearSource& source : sources) {
    if (source.packed) {
      packed.push_back(*source.packed);
    } else {
      dense.push_back(source.dense);
    }
  }
  if (packed.empty()) {
    parts_.push_back({op, nullptr, dense.size() == 1 ? dense.front() : at::cat(dense, 0)});
    return;
  }
  if (dense.empty() && packed.size() == 1) {
    parts_.push_back({op, kernels::MakeInt4Matmul(kernel, packed.front()), {}});
    return;
  }
  if (dense.empty()) {
    if (const auto whole = kernels::ConcatenateColumns(packed)) {
      // Not on the device beside what is made of them.
      packed.clear();
      sources.clear();
      parts_.push_back({op, kernels::MakeInt4Matmul(kernel, *whole), {}});
      return;
    }
  }
  // A part each: some are not quantized, or they group their rows differently.
  for (const LinearSource& source : sources) {
    if (source.packed) {
      parts_.push_back({OpName(source.name), kernels::MakeInt4Matmul(kernel, *source.packed), {}});
    } else {
      parts_.push_back({OpName(source.name), nullptr, source.dense});
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
