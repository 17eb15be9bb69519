#include "suites/quantize/group_quantizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "suites/quantize/half.h"

namespace suites::quantize {
namespace {

constexpr std::size_t kGroup = 128;

struct Quantized {
  GroupScale scale;
  std::vector<std::uint8_t> codes;
};

Quantized QuantizeAll(Grid grid, const std::vector<float>& weights) {
  Quantized result;
  result.codes.assign(weights.size(), 0xff);
  result.scale = QuantizeGroup(grid, weights, result.codes.data());
  return result;
}

// What a code stands for, by the formula of the format.
double Value(Grid grid, const GroupScale& scale, int code) {
  switch (grid) {
    case Grid::kIntegerZero:
      return (code - int{scale.zero}) * double{FloatFromHalf(scale.scale)};
    case Grid::kSymmetric:
      return (code - 8) * double{FloatFromHalf(scale.scale)};
    case Grid::kFloatZero:
      return (code - 8) * double{FloatFromBFloat16(scale.scale)} + double{FloatFromBFloat16(scale.zero)};
  }
  return 0;
}

double Step(Grid grid, const GroupScale& scale) { return Value(grid, scale, 1) - Value(grid, scale, 0); }

double SquaredError(Grid grid, const GroupScale& scale, const std::vector<float>& weights,
                    const std::vector<std::uint8_t>& codes) {
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double error = weights[i] - Value(grid, scale, codes[i]);
    sum += error * error;
  }
  return sum;
}

// Plain round to nearest over the whole range, without a search, as the tools
// that define the formats do it.
double PlainSquaredError(Grid grid, const std::vector<float>& weights) {
  double low = *std::min_element(weights.begin(), weights.end());
  double high = *std::max_element(weights.begin(), weights.end());
  GroupScale scale;
  if (grid == Grid::kIntegerZero) {
    low = std::min(low, 0.0);
    high = std::max(high, 0.0);
    scale.scale = HalfFromFloat(static_cast<float>((high - low) / 15));
    scale.zero = static_cast<std::uint16_t>(std::clamp(std::round(-low / FloatFromHalf(scale.scale)), 0.0, 15.0));
  } else if (grid == Grid::kSymmetric) {
    scale.scale = HalfFromFloat(static_cast<float>(2 * std::max(-low, high) / 15));
  } else {
    scale.scale = BFloat16FromFloat(static_cast<float>((high - low) / 15));
    scale.zero = BFloat16FromFloat(static_cast<float>(low + 8 * (high - low) / 15));
  }
  std::vector<std::uint8_t> codes;
  for (float weight : weights) {
    const double position = (weight - Value(grid, scale, 0)) / Step(grid, scale);
    codes.push_back(static_cast<std::uint8_t>(std::clamp(std::round(position), 0.0, 15.0)));
  }
  return SquaredError(grid, scale, weights, codes);
}

std::vector<float> Normal(std::uint32_t seed, float deviation, float mean = 0) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> weights(kGroup);
  for (float& weight : weights) weight = normal(random);
  return weights;
}

// Within the grid the error is at most half a step; a weight outside it is at
// the nearer end. Either is: no other code is nearer. The slack is the rounding
// of double in the position.
void ExpectNearest(Grid grid, const std::vector<float>& weights, const Quantized& quantized) {
  const double step = Step(grid, quantized.scale);
  ASSERT_GT(step, 0);
  const double slack = step * 1e-9;
  const double low = Value(grid, quantized.scale, 0), high = Value(grid, quantized.scale, 15);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    ASSERT_LE(quantized.codes[i], 15);
    const double value = Value(grid, quantized.scale, quantized.codes[i]);
    const double clipped = std::max({low - weights[i], weights[i] - high, 0.0});
    EXPECT_LE(std::abs(weights[i] - value), std::max(step / 2, clipped) + slack) << "weight " << i;
    if (clipped > 0) {
      EXPECT_EQ(value, weights[i] < low ? low : high) << "weight " << i;
    }
  }
}

class EveryGrid : public testing::TestWithParam<Grid> {};

TEST_P(EveryGrid, CodesAreTheNearestPoints) {
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    for (const float deviation : {2e-4f, 0.02f, 3.0f}) {
      const std::vector<float> weights = Normal(seed, deviation, seed % 3 == 0 ? 2 * deviation : 0);
      SCOPED_TRACE(testing::Message() << "seed " << seed << " deviation " << deviation);
      ExpectNearest(GetParam(), weights, QuantizeAll(GetParam(), weights));
    }
  }
}

// Control: one code moved by one is seen.
TEST_P(EveryGrid, AMovedCodeIsNotTheNearest) {
  const std::vector<float> weights = Normal(1, 0.02f);
  Quantized quantized = QuantizeAll(GetParam(), weights);
  const double step = Step(GetParam(), quantized.scale);
  const auto inside = std::ranges::find_if(quantized.codes, [](std::uint8_t c) { return c > 3 && c < 12; });
  ASSERT_NE(inside, quantized.codes.end());
  const std::size_t i = inside - quantized.codes.begin();
  const double error = std::abs(weights[i] - Value(GetParam(), quantized.scale, quantized.codes[i] + 1));
  const double other = std::abs(weights[i] - Value(GetParam(), quantized.scale, quantized.codes[i] - 1));
  EXPECT_GT(std::max(error, other), step / 2);
}

// The search never loses against the whole range and mostly wins.
TEST_P(EveryGrid, SearchedClipIsNoWorseThanNone) {
  int better = 0;
  for (std::uint32_t seed = 0; seed < 100; ++seed) {
    const std::vector<float> weights = Normal(seed, 0.02f);
    const Quantized quantized = QuantizeAll(GetParam(), weights);
    const double searched = SquaredError(GetParam(), quantized.scale, weights, quantized.codes);
    const double plain = PlainSquaredError(GetParam(), weights);
    // The width of the whole range is among those tried, but for the rounding of
    // its zero point.
    EXPECT_LE(searched, plain * (GetParam() == Grid::kFloatZero ? 1.02 : 1 + 1e-9)) << seed;
    better += searched < 0.99 * plain;
  }
  EXPECT_GT(better, 50);
}

TEST_P(EveryGrid, ZerosStayZero) {
  const std::vector<float> zeros(kGroup, 0.0f);
  const Quantized quantized = QuantizeAll(GetParam(), zeros);
  for (std::uint8_t code : quantized.codes) EXPECT_EQ(Value(GetParam(), quantized.scale, code), 0);
}

TEST_P(EveryGrid, SmallestAndLargest) {
  for (const float size : {1e-30f, 1e-8f, 1e-6f, 1e4f}) {
    std::vector<float> weights = Normal(3, size);
    if (GetParam() == Grid::kFloatZero || size >= 1e-6f) {
      ExpectNearest(GetParam(), weights, QuantizeAll(GetParam(), weights));
    } else {
      // Below the smallest scale of float16 the codes are those of zero.
      const Quantized quantized = QuantizeAll(GetParam(), weights);
      EXPECT_EQ(FloatFromHalf(quantized.scale.scale), 0x1p-24f);
    }
  }
}

TEST_P(EveryGrid, RefusesNanAndInfinity) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const std::size_t at : {std::size_t{0}, kGroup - 1}) {
      std::vector<float> weights = Normal(4, 1);
      weights[at] = bad;
      try {
        QuantizeAll(GetParam(), weights);
        ADD_FAILURE() << "took " << bad;
      } catch (const std::invalid_argument& error) {
        EXPECT_STREQ(error.what(), "holds NaN or infinity");
      }
    }
  }
}

std::string NameOfGrid(const testing::TestParamInfo<Grid>& info) {
  const char* names[] = {"IntegerZero", "Symmetric", "FloatZero"};
  return names[static_cast<int>(info.param)];
}
INSTANTIATE_TEST_SUITE_P(Grids, EveryGrid, testing::Values(Grid::kIntegerZero, Grid::kSymmetric, Grid::kFloatZero),
                         NameOfGrid);

TEST(QuantizeGroup, RefusesScalesBeyondFloat16) {
  std::vector<float> weights(kGroup, 0.0f);
  weights[5] = 2e6f;
  EXPECT_THROW(QuantizeAll(Grid::kIntegerZero, weights), std::invalid_argument);
  EXPECT_THROW(QuantizeAll(Grid::kSymmetric, weights), std::invalid_argument);
  EXPECT_NO_THROW(QuantizeAll(Grid::kFloatZero, weights));
}

// An outlier of 20 standard deviations in a group of 128: clipping it would
// cost more than the coarser step, so the range stays wide enough to hold it
// nearly; at 4 it pays to clip.
TEST(QuantizeGroup, ClipsWhereItPays) {
  std::vector<float> weights = Normal(5, 0.02f);
  weights[7] = 0.4f;
  const Quantized outlier = QuantizeAll(Grid::kIntegerZero, weights);
  EXPECT_GE(Value(Grid::kIntegerZero, outlier.scale, 15), 0.9 * 0.4);
  int clipped = 0;
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    std::vector<float> plain = Normal(seed, 0.02f);
    plain[7] = 0.08f;
    const Quantized quantized = QuantizeAll(Grid::kIntegerZero, plain);
    clipped += Value(Grid::kIntegerZero, quantized.scale, 15) < 0.079;
  }
  EXPECT_GT(clipped, 5);
}

}  // namespace
}  // namespace suites::quantize
