// The linear layers of a decoder layer that read the same activation, on a device.
#ifndef SUITES_MODEL_CUDA_PROJECTION_H_
#define SUITES_MODEL_CUDA_PROJECTION_H_

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/int4_matmul.h"
#include "suites/checkpoint/checkpoint.h"
#include "suites/model/row_ops.h"

namespace suites::internal {

// One of the modules behind a projection: packed, or dense.
struct LinearSource {
  std::string name;  // "self_attn.q_proj"
  std::optional<kernels::QuantizedLinear> packed;
  at::Tensor dense;  // [N, K] of the precision, where not packed
};
// From the checkpoint, on the host. Packed where it is stored so and `packed` says
// so; else dense, of a quantized module the exact dequantized weights. Throws CheckpointError.
LinearSource ReadLinear(const Checkpoint& checkpoint, const std::string& layer_prefix, const std::string& name,
                        Precision precision, bool packed);
// The tensors that it holds, to be replaced by their copies on a device.
void AppendTensors(LinearSource& source, std::vector<at::Tensor*>& tensors);

class CudaProjection {
 public:
  struct Part {
    std::string op;
    std::unique_ptr<kernels::Int4Matmul> int4;
    at::Tensor weight;  // [N, K] where `int4` is null
  };

  // Modules on the device, their columns side by side: one part called `op` where
  // they can be concatenated, else one each, called by its own name ("q_proj").
  // Throws std::invalid_argument where the kernel does not take one.
  CudaProjection(const std::string& op, std::vector<LinearSource> sources, const kernels::KernelRequest& kernel);

  const std::string& op() const { return op_; }
  // One that bears the projection's name, or several whose columns stand side by side.
  const std::vector<Part>& parts() const { return parts_; }
  const kernels::Int4Matmul* MatmulOf(const std::string& op) const;
  const kernels::KernelIdentity* kernel() const;  // of the first INT4 matmul

 private:
  std::string op_;
  std::vector<Part> parts_;
};

// y[M, N] = x[M, K] . weight[N, K]^T, as "qwen3::linear": one row by this
// engine's own kernel, more by cuBLAS.
at::Tensor DenseLinearOnDevice(const at::Tensor& x, const at::Tensor& weight);
at::Tensor Multiply(const CudaProjection::Part& part, const at::Tensor& x);

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_PROJECTION_H_
