#include "suites/model/logit_distance.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cmath>
#include <string>

namespace suites {
namespace {

at::ScalarType TypeOf(gtest_determinism::DType dtype) {
  switch (dtype) {
    case gtest_determinism::DType::kFloat16:
      return at::kHalf;
    case gtest_determinism::DType::kBFloat16:
      return at::kBFloat16;
    default:
      return at::kFloat;
  }
}

// Rows [first, first + count) in float64, where they lie.
at::Tensor Wide(const LogitRows& logits, std::int64_t first, std::int64_t count) {
  const bool on_host = logits.space == &gtest_determinism::HostMemory();
  const at::Device device(on_host ? std::string("cpu") : std::string(logits.space->Name()));
  return at::from_blob(logits.RowAddress(first), {count, logits.vocab},
                       at::TensorOptions().dtype(TypeOf(logits.dtype)).device(device))
      .to(at::kDouble);
}

}  // namespace

double LogitDistance(const LogitRows& a, const LogitRows& b) {
  if (a.SameBits(b)) return 0;
  const std::int64_t rows = std::min(a.rows, b.rows);
  // As many rows at a time as take 128 MiB in float64.
  const std::int64_t piece = std::max<std::int64_t>(1, (std::int64_t{16} << 20) / std::max<std::int64_t>(1, a.vocab));
  double sum = 0;
  for (std::int64_t first = 0; first < rows; first += piece) {
    const std::int64_t count = std::min(piece, rows - first);
    const at::Tensor squares = (Wide(a, first, count) - Wide(b, first, count)).square().sum(1).cpu();
    for (std::int64_t i = 0; i < count; ++i) {
      const double square = squares.const_data_ptr<double>()[i];
      // A NaN may be the same in both.
      const bool same =
          std::isnan(square) && a.space->Equal(a.RowAddress(first + i), b.RowAddress(first + i), a.row_bytes());
      if (!same) sum += square;
    }
  }
  return std::sqrt(sum);
}

}  // namespace suites
