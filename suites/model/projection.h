// The linear layers of a decoder layer that read the same activation.
#ifndef SUITES_MODEL_PROJECTION_H_
#define SUITES_MODEL_PROJECTION_H_

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/int4_matmul.h"
#include "suites/checkpoint/checkpoint.h"
#include "suites/model/row_ops.h"

namespace suites::internal {

at::ScalarType ScalarTypeOf(Precision precision);

// y[M, N] = x[M, K] . weight[N, K]^T, of the precision, float32 inside; a row's
// bits depend on neither M nor the number of threads.
at::Tensor DenseLinear(const at::Tensor& x, const at::Tensor& weight, Precision precision);
// The same into `y`, M rows of N elements.
void DenseLinearInto(const at::Tensor& x, const at::Tensor& weight, Precision precision, void* y);

struct ProjectionOptions {
  Precision precision = Precision::kFp16;
  // Nothing: the exact dequantized weights, in float32.
  const kernels::KernelRequest* kernel = nullptr;
};

class Projection {
 public:
  // The modules LAYER_PREFIX + names[i], their columns side by side. They become
  // one matmul called `op` where they can be concatenated; else one each, called
  // by its own name ("q_proj"). Throws CheckpointError, std::invalid_argument.
  Projection(const Checkpoint& checkpoint, const std::string& op, const std::string& layer_prefix,
             const std::vector<std::string>& names, const ProjectionOptions& options);

  // Called with the name and the input of each INT4 matmul before it runs.
  using InputCallback = std::function<void(const std::string& op, const at::Tensor& x)>;
  at::Tensor Forward(const at::Tensor& x, const InputCallback& on_input) const;

  const std::string& op() const { return op_; }
  // The INT4 matmul of that name; nullptr where there is none.
  const kernels::Int4Matmul* MatmulOf(const std::string& op) const;
  const kernels::KernelIdentity* kernel() const;  // of the first INT4 matmul

 private:
  struct Part {
    std::string op;
    std::unique_ptr<kernels::Int4Matmul> int4;
    at::Tensor weight;  // [N, K] where `int4` is null
  };
  at::Tensor ForwardPart(const Part& part, const at::Tensor& x, const InputCallback& on_input) const;

  std::string op_;
  Precision precision_;
  std::vector<Part> parts_;
};

}  // namespace suites::internal

#endif  // SUITES_MODEL_PROJECTION_H_
