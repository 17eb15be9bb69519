// How far the kernels of provider vllm may be from the exact product.
#ifndef TESTS_KERNELS_PROVIDERS_VLLM_REFERENCE_H_
#define TESTS_KERNELS_PROVIDERS_VLLM_REFERENCE_H_

#include <ATen/core/Tensor.h>

#include <string>

#include "kernels/int4_matmul.h"
#include "tests/kernels/reference.h"

namespace kernels {

// `path`: what Int4Matmul::PathFor() says of x's rows. x: F16 [M, K] in host memory.
struct VllmReference {
  Reference elements;   // every element within its bound
  double relative = 0;  // ||y - product|| / ||product|| (Frobenius) is at most this
};
VllmReference ReferenceFor(const std::string& path, const QuantizedLinear& linear, const at::Tensor& x);

// ||y - product|| / ||product||, NaN where y holds one.
double RelativeError(const at::Tensor& y, const Reference& reference);

}  // namespace kernels

#endif  // TESTS_KERNELS_PROVIDERS_VLLM_REFERENCE_H_
