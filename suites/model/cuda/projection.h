// The linear layers of a decoder layer that read the same activation, on a device.
#ifndef SUITES_MODEL_CUDA_PROJECTION_H_
#define SUITES_MODEL_CUDA_PROJECTION_H_

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/int4_matmul.h"
#include "suites/checkpoint/checkpoint.h"
#include "suites/model/row_ops.h"

namespace suites::internal {

// Puts a tensor of the checkpoint on the device.
using Uploader = std::function<at::Tensor(const at::Tensor&)>;

struct CudaProjectionOptions {
  Precision precision = Precision::kFp16;
  // Nothing: dense matmuls; of a quantized layer with the exact dequantized weights.
  const kernels::KernelRequest* kernel = nullptr;
  Uploader upload;
};

class CudaProjection {
 public:
  struct Part {
    std::string op;
    std::unique_ptr<kernels::Int4Matmul> int4;
    at::Tensor weight;  // [N, K] where `int4` is null
  };

  // As Projection (suites/model/projection.h).
  CudaProjection(const Checkpoint& checkpoint, const std::string& op, const std::string& layer_prefix,
                 const std::vector<std::string>& names, const CudaProjectionOptions& options);

  const std::string& op() const { return op_; }
  // One that bears the projection's name, or several whose columns stand side by side.
  const std::vector<Part>& parts() const { return parts_; }
  const kernels::Int4Matmul* MatmulOf(const std::string& op) const;
  const kernels::KernelIdentity* kernel() const;  // of the first INT4 matmul

 private:
  std::string op_;
  std::vector<Part> parts_;
};

// y[M, N] = x[M, K] . weight[N, K]^T by cuBLAS, as "qwen3::linear".
at::Tensor DenseLinearOnDevice(const at::Tensor& x, const at::Tensor& weight);
at::Tensor Multiply(const CudaProjection::Part& part, const at::Tensor& x);

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_PROJECTION_H_
