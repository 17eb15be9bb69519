// The matmuls of this project's own kernels, on a CPU and on a device: a layer's
// packed tensors and the operators that take them.
#ifndef KERNELS_INTERNAL_OPERATOR_MATMUL_H_
#define KERNELS_INTERNAL_OPERATOR_MATMUL_H_

#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "kernels/int4_matmul.h"
#include "kernels/internal/makers.h"

namespace kernels::internal {

// Arguments of an operator, in the layout of its device (kernels/cpu/operators.h,
// kernels/cuda/operators.h).
struct Packed {
  at::Tensor words, zeros, scales;
  std::optional<at::Tensor> row_order;  // I64 [K], or none
};

// y[M, N] = x[M, K] . W, x F16 on `device`. The constructor throws c10::Error where
// an operator that the identity names is not registered.
class OperatorMatmul : public Int4Matmul {
 public:
  OperatorMatmul(KernelIdentity identity, std::int64_t k, std::int64_t n, at::Device device, Packed packed)
      : identity_(std::move(identity)),
        k_(k),
        n_(n),
        device_(device),
        packed_(std::move(packed)),
        op_(Find(identity_.op)),
        ordered_op_(identity_.ordered_op.empty() ? op_ : Find(identity_.ordered_op)) {}

  at::Tensor Forward(const at::Tensor& x) const override {
    // The operator follows the switch by itself; the twin is called by its own
    // name here, so that a profile shows which of the two ran.
    return Call(at::globalContext().deterministicAlgorithms() ? ordered_op_ : op_, x);
  }
  at::Tensor ForwardOrdered(const at::Tensor& x) const override { return Call(ordered_op_, x); }
  const KernelIdentity& identity() const override { return identity_; }
  std::int64_t k() const override { return k_; }
  std::int64_t n() const override { return n_; }

 protected:
  at::Device device() const { return device_; }

 private:
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const std::optional<at::Tensor>&, std::int64_t);
  using Operator = c10::TypedOperatorHandle<Signature>;

  static Operator Find(const std::string& name) {
    return c10::Dispatcher::singleton().findSchemaOrThrow(name.c_str(), "").typed<Signature>();
  }
  at::Tensor Call(const Operator& op, const at::Tensor& x) const {
    CheckActivations(identity_, x, at::kHalf, k_, device_);
    return op.call(x, packed_.words, packed_.zeros, packed_.scales, packed_.row_order, n_);
  }

  KernelIdentity identity_;
  std::int64_t k_;
  std::int64_t n_;
  at::Device device_;
  Packed packed_;
  Operator op_;
  Operator ordered_op_;
};

}  // namespace kernels::internal

#endif  // KERNELS_INTERNAL_OPERATOR_MATMUL_H_
