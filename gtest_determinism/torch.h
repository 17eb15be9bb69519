// at::Tensor has bits. Target gtest_determinism::torch.
#ifndef GTEST_DETERMINISM_TORCH_H_
#define GTEST_DETERMINISM_TORCH_H_

#include <ATen/core/Tensor.h>

#include <string_view>

#include "gtest_determinism/bits.h"

namespace gtest_determinism {

// One part with the tensor's dtype and sizes, in row-major order: a tensor that
// is not contiguous, or is a lazy conjugate or negative, is copied. Complex
// numbers are pairs of floats, with an extent of 2 at the end; dtypes that DType
// does not name (float8) are opaque bytes, with an extent of their size at the
// end where it is more than 1.
// Throws std::invalid_argument, one line, for a tensor that is undefined,
// sparse, quantized, or not on the CPU.
void AppendBits(Trace& trace, std::string_view name, const at::Tensor& tensor);

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_TORCH_H_
