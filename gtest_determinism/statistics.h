// What k deviations in n comparisons prove. Exact binomial bounds after Clopper
// and Pearson, "The use of confidence or fiducial limits illustrated in the
// case of the binomial", Biometrika 26 (1934), one-sided.
//
// All assume that comparisons are independent and have the same rate. With
// different rates and no deviation the upper bound still holds for their mean,
// since a product of (1 - p_i) is at most the power of its mean.
#ifndef GTEST_DETERMINISM_STATISTICS_H_
#define GTEST_DETERMINISM_STATISTICS_H_

#include <cstdint>

#include "gtest_determinism/report.h"

namespace gtest_determinism {

inline constexpr double kDefaultConfidence = 0.95;

// I_x(a, b), the regularized incomplete beta function, by the continued fraction of
// DLMF 8.17.22. Throws std::invalid_argument unless a, b > 0 and 0 <= x <= 1.
double RegularizedIncompleteBeta(double a, double b, double x);

// The rate p at which at most `deviations` in `comparisons` has the probability
// 1 - confidence: larger rates are excluded. 1 where every comparison deviates
// or there is none. Throws std::invalid_argument unless
// 0 <= deviations <= comparisons and 0 < confidence < 1.
double RateUpperBound(std::int64_t comparisons, std::int64_t deviations, double confidence = kDefaultConfidence);

// The rate p at which at least `deviations` in `comparisons` has the probability
// 1 - confidence: smaller rates are excluded. 0 where nothing deviates. Throws as
// RateUpperBound() does.
double RateLowerBound(std::int64_t comparisons, std::int64_t deviations, double confidence = kDefaultConfidence);

// The fewest comparisons which, all equal, exclude rates above `rate`:
// RateUpperBound(n, 0) <= rate. 0.01 needs 299. Throws std::invalid_argument
// unless 0 < rate < 1 and 0 < confidence < 1, or if it is above 2^31 - 2.
std::int64_t ComparisonsNeeded(double rate, double confidence = kDefaultConfidence);

// The rate seen and both bounds, each one-sided at `confidence`. Throws as
// RateUpperBound() does.
Power ComputePower(int comparisons, int deviations, double confidence = kDefaultConfidence);

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_STATISTICS_H_
