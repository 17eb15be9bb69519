// Float tensors of a checkpoint: are they numbers, do they fit float16.
#ifndef SUITES_CHECKPOINT_FINITE_H_
#define SUITES_CHECKPOINT_FINITE_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace suites {

// Index, row-major, of the first NaN or infinity of a F16, BF16 or F32 tensor;
// nothing where there is none. What has been looked at of a large tensor in a mapped
// file leaves resident memory again.
std::optional<std::int64_t> FirstNotFinite(const at::Tensor& tensor);

// `tensor` as float16 where that loses nothing, else itself.
at::Tensor InHalfIfExact(const at::Tensor& tensor);

}  // namespace suites

#endif  // SUITES_CHECKPOINT_FINITE_H_
