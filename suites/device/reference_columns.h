// A multiplication checked on some columns, against exact weights in float64: that
// what is timed computes what it should.
#ifndef SUITES_DEVICE_REFERENCE_COLUMNS_H_
#define SUITES_DEVICE_REFERENCE_COLUMNS_H_

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/int4_matmul.h"

namespace suites {

struct ReferenceColumns {
  std::vector<std::int64_t> starts;  // blocks of kReferenceWidth columns
  at::Tensor weights;                // [K, blocks * kReferenceWidth] float64, on the layer's device
};
inline constexpr std::int64_t kReferenceWidth = 128;

// The first, a middle and the last block of 128 columns; one where the layer has no
// more. N is a multiple of 128. Of an INT4 layer without g_idx; of halves [K, N].
ReferenceColumns ReferenceOf(const kernels::QuantizedLinear& layer);
ReferenceColumns ReferenceOf(const at::Tensor& weights);

// |y - x W| / |x W| over those columns (Frobenius), y [M, N], x [M, K]. NaN where y
// holds one there, infinity where it holds that.
double RelativeError(const at::Tensor& y, const at::Tensor& x, const ReferenceColumns& reference);

}  // namespace suites

#endif  // SUITES_DEVICE_REFERENCE_COLUMNS_H_
