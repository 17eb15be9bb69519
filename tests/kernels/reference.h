// The exact product in float64 and how far a kernel may be from it.
#ifndef TESTS_KERNELS_REFERENCE_H_
#define TESTS_KERNELS_REFERENCE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "kernels/int4_matmul.h"

namespace kernels {

// Both F64 [M, N].
struct Reference {
  at::Tensor product;  // x . W, summed in float64: its own error is 2^-29 of the float32 one
  at::Tensor bound;    // |kernel - product| is at most this
};

// x: [M, K] as the kernel gets it. The bounds are derived in reference.cc.
Reference OrderedReference(const QuantizedLinear& linear, const at::Tensor& x);   // marlin, awq
Reference SplitKReference(const QuantizedLinear& linear, const at::Tensor& x);    // gptq, any order of arrival
Reference TinygemmReference(const QuantizedLinear& linear, const at::Tensor& x);  // bfloat16

// The kernels on a device. Where weights are rounded to half: against the exact
// product, or, more narrowly, against that of the rounded weights. kNone: a kernel
// that does not round them, against the exact product. x may lie on the device; the
// reference is then computed there.
enum class WeightRounding { kExact, kToHalf, kNone };
// The longest way of a term: rows of K that one accumulator adds up, and how many
// such sums are then added.
struct SumChain {
  std::int64_t rows = 0;
  std::int64_t sums = 0;
};
Reference TensorCoreReference(const QuantizedLinear& linear, const at::Tensor& x, WeightRounding rounding,
                              const SumChain& chain);
// `chain` is that of one slice.
Reference TensorCoreSplitKReference(const QuantizedLinear& linear, const at::Tensor& x, WeightRounding rounding,
                                    const SumChain& chain = {128, 0});

// "" where every element of y is within the bound; else the first that is not.
std::string FirstOutside(const at::Tensor& y, const Reference& reference);

}  // namespace kernels

#endif  // TESTS_KERNELS_REFERENCE_H_
