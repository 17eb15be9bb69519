// Compiled with -ffp-contract=off: a fused multiply-add would change the grids.
#include "suites/quantize/group_quantizer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "suites/quantize/half.h"

namespace suites::quantize {
namespace {

// Adding 1.5 * 2^52 rounds a double to an integer, ties to even.
constexpr double kRound = 0x1.8p52;

// code q stands for q * step + base.
struct Points {
  GroupScale stored;
  double step = 0;
  double base = 0;
};

struct Range {
  double low = 0;
  double high = 0;
};

Range RangeOf(std::span<const float> weights) {
  float low = weights[0], high = weights[0];
  bool finite = true;
  for (float w : weights) {
    low = std::min(low, w);
    high = std::max(high, w);
    finite &= std::abs(w) <= std::numeric_limits<float>::max();  // false for NaN
  }
  if (!finite) throw std::invalid_argument("holds NaN or infinity");
  return {low, high};
}

// The scale as float16, at least the smallest that is not zero.
std::uint16_t HalfScale(double scale) {
  const std::uint16_t bits = HalfFromFloat(static_cast<float>(std::max(scale, 0x1p-24)));
  if (bits >= 0x7c00) throw std::invalid_argument("needs a scale beyond float16");
  return bits;
}

Points IntegerZeroPoints(Range range, double width) {
  // Zero lies on the grid, so that a weight of zero stays zero.
  const double low = std::min(range.low, 0.0) * width;
  const double high = std::max(range.high, 0.0) * width;
  if (low == high) return {{HalfFromFloat(1.0f), 8}, 1.0, -8.0};
  Points points;
  points.stored.scale = HalfScale((high - low) / 15);
  points.step = FloatFromHalf(points.stored.scale);
  const double zero = std::min(std::max((-low / points.step + kRound) - kRound, 0.0), 15.0);
  points.stored.zero = static_cast<std::uint16_t>(zero);
  points.base = -zero * points.step;
  return points;
}

Points SymmetricPoints(Range range, double width) {
  const double largest = std::max(-range.low, range.high);
  if (largest == 0) return {{HalfFromFloat(1.0f), 8}, 1.0, -8.0};
  Points points;
  points.stored.scale = HalfScale(2 * largest * (width + 3.0 / 32) / 15);
  points.stored.zero = 8;
  points.step = FloatFromHalf(points.stored.scale);
  points.base = -8 * points.step;
  return points;
}

Points FloatZeroPoints(Range range, double width) {
  const double middle = (range.low + range.high) / 2;
  const double half_width = (range.high - range.low) / 2 * width;
  Points points;
  // The smallest normal float: a subnormal scale would be flushed by some kernels.
  const double scale = std::max(2 * half_width / 15, 0x1p-126);
  points.stored.scale = BFloat16FromFloat(static_cast<float>(scale));
  points.step = FloatFromBFloat16(points.stored.scale);
  // Code 8 lies half a step above the middle. Equal weights get it themselves, so
  // that zeros stay zero.
  const double zero = half_width > 0 ? middle + points.step / 2 : middle;
  points.stored.zero = BFloat16FromFloat(static_cast<float>(zero));
  points.base = FloatFromBFloat16(points.stored.zero) - 8 * points.step;
  return points;
}

Points PointsOf(Grid grid, Range range, double width) {
  switch (grid) {
    case Grid::kIntegerZero:
      return IntegerZeroPoints(range, width);
    case Grid::kSymmetric:
      return SymmetricPoints(range, width);
    case Grid::kFloatZero:
      return FloatZeroPoints(range, width);
  }
  throw std::logic_error("Grid");
}

}  // namespace

GroupScale QuantizeGroup(Grid grid, std::span<const float> weights, std::uint8_t* codes,
                         const internal::InnerLoops& loops) {
  if (weights.empty() || weights.size() % 4 != 0) throw std::logic_error("QuantizeGroup: size");
  const Range range = RangeOf(weights);
  Points candidates[internal::kGrids];
  double steps[internal::kGrids], bases[internal::kGrids], errors[internal::kGrids];
  for (int i = 0; i < internal::kGrids; ++i) {
    candidates[i] = PointsOf(grid, range, 1 - i / 32.0);
    steps[i] = candidates[i].step;
    bases[i] = candidates[i].base;
  }
  loops.squared_errors(weights.data(), weights.size(), steps, bases, errors);
  const int best =
      static_cast<int>(std::min_element(errors, errors + internal::kGrids) - errors);  // the first of equals
  loops.nearest_codes(weights.data(), weights.size(), steps[best], bases[best], codes);
  return candidates[best].stored;
}

}  // namespace suites::quantize
