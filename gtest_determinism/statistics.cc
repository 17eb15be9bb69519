#include "gtest_determinism/statistics.h"

#include <math.h>

#include <cmath>
#include <limits>
#include <stdexcept>

namespace gtest_determinism {
namespace {

double LogGamma(double x) {
#if defined(__GLIBC__)
  int sign = 0;
  return ::lgamma_r(x, &sign);  // std::lgamma writes a global, signgam
#else
  return std::lgamma(x);
#endif
}

// Modified Lentz evaluation (Lentz, Applied Optics 15, 1976; Thompson and
// Barnett, J. Comp. Phys. 64, 1986). Converges fast for x < (a + 1) / (a + b + 2).
double BetaContinuedFraction(double a, double b, double x) {
  constexpr double kTiny = std::numeric_limits<double>::min() * 1e10;
  constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
  const auto nonzero = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1;
  double d = 1 / nonzero(1 - (a + b) * x / (a + 1));
  double f = d;
  // O(sqrt(max(a, b))) terms are needed; this is enough for any count an int holds.
  for (int m = 1; m < 1'000'000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / nonzero(1 + even * d);
    c = nonzero(1 + even / c);
    f *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / nonzero(1 + odd * d);
    c = nonzero(1 + odd / c);
    const double factor = d * c;
    f *= factor;
    if (std::abs(factor - 1) <= kEpsilon) break;
  }
  return f;
}

// The x with I_x(a, b) = probability, by bisection down to neighbouring doubles.
double InverseIncompleteBeta(double a, double b, double probability) {
  double low = 0, high = 1;
  for (;;) {
    const double middle = low + (high - low) / 2;
    if (middle <= low || middle >= high) return middle;
    (RegularizedIncompleteBeta(a, b, middle) < probability ? low : high) = middle;
  }
}

void CheckCounts(std::int64_t comparisons, std::int64_t deviations, double confidence) {
  if (comparisons < 0 || deviations < 0 || deviations > comparisons) {
    throw std::invalid_argument("deviations must lie between 0 and the number of comparisons");
  }
  if (!(confidence > 0 && confidence < 1)) throw std::invalid_argument("a confidence lies between 0 and 1");
}

}  // namespace

double RegularizedIncompleteBeta(double a, double b, double x) {
  if (!(a > 0 && b > 0 && x >= 0 && x <= 1)) {
    throw std::invalid_argument("I_x(a, b) needs a > 0, b > 0 and 0 <= x <= 1");
  }
  if (x == 0 || x == 1) return x;
  const double front = std::exp(LogGamma(a + b) - LogGamma(a) - LogGamma(b) + a * std::log(x) + b * std::log1p(-x));
  // I_x(a, b) = 1 - I_{1-x}(b, a), DLMF 8.17.4: take the side that converges.
  if (x < (a + 1) / (a + b + 2)) return front * BetaContinuedFraction(a, b, x) / a;
  return 1 - front * BetaContinuedFraction(b, a, 1 - x) / b;
}

double RateUpperBound(std::int64_t comparisons, std::int64_t deviations, double confidence) {
  CheckCounts(comparisons, deviations, confidence);
  if (deviations == comparisons) return 1;
  const auto n = static_cast<double>(comparisons), k = static_cast<double>(deviations);
  if (deviations == 0) return -std::expm1(std::log1p(-confidence) / n);
  return InverseIncompleteBeta(k + 1, n - k, confidence);
}

double RateLowerBound(std::int64_t comparisons, std::int64_t deviations, double confidence) {
  CheckCounts(comparisons, deviations, confidence);
  if (deviations == 0) return 0;
  const auto n = static_cast<double>(comparisons), k = static_cast<double>(deviations);
  if (deviations == comparisons) return std::exp(std::log1p(-confidence) / n);
  return InverseIncompleteBeta(k, n - k + 1, 1 - confidence);
}

std::int64_t ComparisonsNeeded(double rate, double confidence) {
  if (!(rate > 0 && rate < 1)) throw std::invalid_argument("a rate to be excluded lies between 0 and 1");
  if (!(confidence > 0 && confidence < 1)) throw std::invalid_argument("a confidence lies between 0 and 1");
  const double exact = std::log1p(-confidence) / std::log1p(-rate);
  constexpr std::int64_t kMost = std::numeric_limits<int>::max() - 1;
  if (!(exact < static_cast<double>(kMost))) {
    throw std::invalid_argument("a rate this small needs more runs than can be counted");
  }
  auto n = static_cast<std::int64_t>(std::ceil(exact));
  // The quotient is rounded: let the bound itself decide at the boundary.
  while (n > 1 && RateUpperBound(n - 1, 0, confidence) <= rate) --n;
  while (n < 1 || RateUpperBound(n, 0, confidence) > rate) ++n;
  return n;
}

Power ComputePower(int comparisons, int deviations, double confidence) {
  Power power;
  power.comparisons = comparisons;
  power.deviations = deviations;
  power.confidence = confidence;
  power.rate = comparisons > 0 ? static_cast<double>(deviations) / comparisons : 0;
  power.upper_bound = RateUpperBound(comparisons, deviations, confidence);
  power.lower_bound = RateLowerBound(comparisons, deviations, confidence);
  return power;
}

}  // namespace gtest_determinism
