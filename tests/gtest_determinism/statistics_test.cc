#include "gtest_determinism/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>

namespace gtest_determinism {
namespace {

struct Bound {
  int comparisons, deviations;
  double lower, upper;
};
// Exact binomial tails inverted by bisection with 40 digits (mpmath).
constexpr Bound kBounds[] = {
    {1, 0, 0.0, 0.95},
    {4, 0, 0.0, 0.52712919549841209},
    {19, 0, 0.0, 0.14586850331224345},
    {29, 0, 0.0, 0.098144627677295739},
    {299, 0, 0.0, 0.009969146792899271},
    {1, 1, 0.05, 1.0},
    {4, 1, 0.012741455098566194, 0.75139537426981853},
    {19, 1, 0.0026960063028712823, 0.22637424927237802},
    {19, 10, 0.32008652958872419, 0.72605415491767989},
    {29, 4, 0.048520077141429181, 0.28837200899103138},
    {29, 28, 0.84660797547381727, 0.99823282899945046},
    {29, 29, 0.90185537232270426, 1.0},
    {99, 41, 0.33048832833520787, 0.50174012224079904},
    {199, 7, 0.016623327877151888, 0.065052732033058429},
    {999, 1, 5.1343320913158175e-5, 0.0047397244293678582},
    {999, 500, 0.47400367372983971, 0.52699513658526439},
};

// The logarithm of Gamma(1000) is about 6,000: each of three such terms is
// rounded by up to 6,000 / 2^53 = 7e-13, which is a relative error of the tail.
constexpr double kTolerance = 4e-12;

TEST(RateBounds, TabulatedValues) {
  for (const Bound& bound : kBounds) {
    EXPECT_NEAR(RateUpperBound(bound.comparisons, bound.deviations), bound.upper, kTolerance * bound.upper)
        << bound.deviations << " of " << bound.comparisons;
    EXPECT_NEAR(RateLowerBound(bound.comparisons, bound.deviations), bound.lower, kTolerance * bound.lower)
        << bound.deviations << " of " << bound.comparisons;
  }
}

TEST(RateBounds, ClosedFormWithoutDeviation) {
  for (const int n : {1, 2, 19, 1000, 1000000}) {
    const double upper = 1 - std::pow(0.05, 1.0 / n);
    EXPECT_NEAR(RateUpperBound(n, 0), upper, 1e-15 + 1e-9 * upper) << n;
    EXPECT_EQ(RateLowerBound(n, 0), 0) << n;
  }
}

TEST(RateBounds, OtherConfidence) {
  EXPECT_NEAR(RateUpperBound(199, 7, 0.99), 0.078596164285693006, 1e-13);
  EXPECT_NEAR(RateLowerBound(199, 7, 0.99), 0.011819236332644177, 1e-13);
}

TEST(RateBounds, NoComparisonProvesNothing) {
  EXPECT_EQ(RateUpperBound(0, 0), 1);
  EXPECT_EQ(RateLowerBound(0, 0), 0);
}

TEST(RateBounds, RejectsWhatIsNoCount) {
  EXPECT_THROW(RateUpperBound(3, 4), std::invalid_argument);
  EXPECT_THROW(RateUpperBound(-1, 0), std::invalid_argument);
  EXPECT_THROW(RateLowerBound(3, -1), std::invalid_argument);
  EXPECT_THROW(RateUpperBound(3, 1, 1.0), std::invalid_argument);
}

TEST(RateBounds, LargeCountsConverge) {
  // Wilson's normal approximation is good to a thousandth of the rate here.
  const double n = 1e8, k = 5e7;
  const double half_width = 1.6448536269514722 * 0.5 / std::sqrt(n);
  EXPECT_NEAR(RateUpperBound(100000000, 50000000), k / n + half_width, 1e-7);
  EXPECT_NEAR(RateLowerBound(100000000, 50000000), k / n - half_width, 1e-7);
}

TEST(IncompleteBeta, ReferenceValues) {
  EXPECT_NEAR(RegularizedIncompleteBeta(0.5, 0.5, 0.25), 1.0 / 3, 1e-14);
  EXPECT_NEAR(RegularizedIncompleteBeta(2, 3, 0.5), 0.6875, 1e-14);
  EXPECT_NEAR(RegularizedIncompleteBeta(10, 1, 0.9), 0.34867844010000009, 1e-14);
  EXPECT_NEAR(RegularizedIncompleteBeta(1, 10, 0.01), 0.095617924991195512, 1e-14);
  EXPECT_NEAR(RegularizedIncompleteBeta(250, 750, 0.27), 0.92617706581053431, 1e-12);
  EXPECT_NEAR(RegularizedIncompleteBeta(3, 100000, 2e-5), 0.32333441073884157, 1e-9);
  EXPECT_EQ(RegularizedIncompleteBeta(2, 3, 0), 0);
  EXPECT_EQ(RegularizedIncompleteBeta(2, 3, 1), 1);
  EXPECT_THROW(RegularizedIncompleteBeta(0, 1, 0.5), std::invalid_argument);
}

TEST(ComparisonsNeededTest, FewestThatExcludeTheRate) {
  EXPECT_EQ(ComparisonsNeeded(0.01), 299);
  EXPECT_EQ(ComparisonsNeeded(0.05), 59);
  EXPECT_EQ(ComparisonsNeeded(0.5), 5);
  EXPECT_EQ(ComparisonsNeeded(0.95), 1);
  for (const double rate : {0.3, 0.1, 0.05, 0.01, 0.001, 1e-4}) {
    const std::int64_t n = ComparisonsNeeded(rate);
    EXPECT_LE(RateUpperBound(n, 0), rate);
    EXPECT_GT(RateUpperBound(n - 1, 0), rate);
  }
  // A boundary that rounding could miss: the bound of n is reached by n.
  for (const int n : {5, 19, 29, 299, 2995}) EXPECT_EQ(ComparisonsNeeded(RateUpperBound(n, 0)), n);
  EXPECT_THROW(ComparisonsNeeded(0), std::invalid_argument);
  EXPECT_THROW(ComparisonsNeeded(1), std::invalid_argument);
  EXPECT_THROW(ComparisonsNeeded(1e-12), std::invalid_argument);
}

TEST(ComputePowerTest, FillsEveryField) {
  const Power power = ComputePower(99, 41);
  EXPECT_EQ(power.comparisons, 99);
  EXPECT_EQ(power.deviations, 41);
  EXPECT_DOUBLE_EQ(power.rate, 41.0 / 99);
  EXPECT_DOUBLE_EQ(power.confidence, 0.95);
  EXPECT_NEAR(power.upper_bound, 0.50174012224079904, 1e-12);
  EXPECT_NEAR(power.lower_bound, 0.33048832833520787, 1e-12);
}

}  // namespace
}  // namespace gtest_determinism
