// Compiled with -ffp-contract=off: a fused multiply-add would change the sums.
#include "suites/quantize/group_quantizer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "suites/quantize/half.h"

namespace suites::quantize {
namespace {

constexpr int kWidths = 16;

// Adding 1.5 * 2^52 leaves a double no bits for a fraction: it rounds to an
// integer, ties to even, in the default rounding mode, and the compiler can
// vectorize it, which it cannot do with nearbyint().
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

inline double NearestCode(double weight, double base, double inverse) {
  const double position = std::min(std::max((weight - base) * inverse, 0.0), 15.0);
  return (position + kRound) - kRound;
}

// Four sums side by side, so that the order of additions is fixed and two or
// four of them fit a vector register.
double SquaredError(std::span<const float> weights, const Points& points) {
  const double inverse = 1 / points.step, step = points.step, base = points.base;
  double sums[4] = {0, 0, 0, 0};
  const float* w = weights.data();
  for (std::size_t i = 0; i < weights.size(); i += 4) {
    for (int lane = 0; lane < 4; ++lane) {
      const double weight = w[i + lane];
      const double error = weight - (NearestCode(weight, base, inverse) * step + base);
      sums[lane] += error * error;
    }
  }
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace

GroupScale QuantizeGroup(Grid grid, std::span<const float> weights, std::uint8_t* codes) {
  if (weights.empty() || weights.size() % 4 != 0) throw std::logic_error("QuantizeGroup: size");
  const Range range = RangeOf(weights);
  Points best;
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kWidths; ++i) {
    const Points points = PointsOf(grid, range, 1 - i / 32.0);
    const double error = SquaredError(weights, points);
    if (error < least) {
      least = error;
      best = points;
    }
  }
  const double inverse = 1 / best.step;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    codes[i] = static_cast<std::uint8_t>(NearestCode(weights[i], best.base, inverse));
  }
  return best.stored;
}

}  // namespace suites::quantize
