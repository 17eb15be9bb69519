// Every instruction set gives the bits of the baseline.
#include "suites/quantize/inner_loops.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "suites/quantize/group_quantizer.h"

namespace suites::quantize {
namespace {

using internal::Isa;
using internal::kGrids;
using internal::LoopsFor;

std::vector<std::vector<float>> Groups() {
  std::mt19937 engine(7);
  std::normal_distribution<float> normal(0, 0.02f);
  std::vector<std::vector<float>> groups;
  for (const std::size_t size : {4, 32, 64, 128, 132}) {
    for (int i = 0; i < 200; ++i) {
      std::vector<float>& group = groups.emplace_back(size);
      for (float& weight : group) weight = normal(engine);
      if (i % 5 == 1) group[i % size] *= 40;                             // an outlier
      if (i % 5 == 2) group.assign(size, i % 2 == 0 ? 0.0f : group[0]);  // all equal
      if (i % 5 == 3) {
        for (float& weight : group) weight = std::ldexp(std::round(weight * 100), -20);  // on ties
      }
      if (i % 5 == 4) {
        for (float& weight : group) weight = std::abs(weight) * 1e-30f;  // far from fp16
      }
    }
  }
  return groups;
}

class EveryIsa : public testing::TestWithParam<Isa> {
 protected:
  const internal::InnerLoops& loops_ = LoopsFor(GetParam());
  const internal::InnerLoops& baseline_ = LoopsFor(Isa::kBaseline);
};

template <typename T>
bool SameBits(const T& a, const T& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(a[0])) == 0;
}

TEST_P(EveryIsa, GivesTheErrorsOfTheBaseline) {
  std::array<double, kGrids> steps, bases, errors, expected;
  int differ_by_weight = 0, groups = 0;
  for (std::vector<float> group : Groups()) {
    for (int g = 0; g < kGrids; ++g) {
      steps[g] = 0.003 * (1 - g / 32.0);
      bases[g] = -7.5 * steps[g];
    }
    loops_.squared_errors(group.data(), group.size(), steps.data(), bases.data(), errors.data());
    baseline_.squared_errors(group.data(), group.size(), steps.data(), bases.data(), expected.data());
    ASSERT_TRUE(SameBits(errors, expected)) << groups;
    // Control: the lowest bit of one weight shows in some sum of most groups.
    group[group.size() / 2] = std::nextafter(group[group.size() / 2], 1.0f);
    baseline_.squared_errors(group.data(), group.size(), steps.data(), bases.data(), expected.data());
    differ_by_weight += SameBits(errors, expected) ? 0 : 1;
    ++groups;
  }
  EXPECT_GT(differ_by_weight, groups / 2);
}

TEST_P(EveryIsa, GivesTheCodesAndScalesOfTheBaseline) {
  for (const Grid grid : {Grid::kIntegerZero, Grid::kSymmetric, Grid::kFloatZero}) {
    for (const std::vector<float>& group : Groups()) {
      std::vector<std::uint8_t> codes(group.size()), expected(group.size());
      const GroupScale scale = QuantizeGroup(grid, group, codes.data(), loops_);
      const GroupScale expected_scale = QuantizeGroup(grid, group, expected.data(), baseline_);
      ASSERT_EQ(codes, expected);
      ASSERT_EQ(scale.scale, expected_scale.scale);
      ASSERT_EQ(scale.zero, expected_scale.zero);
    }
  }
}

TEST_P(EveryIsa, GivesTheRandomWeightsOfTheBaseline) {
  for (const std::uint64_t key :
       {std::uint64_t{0}, std::uint64_t{12345}, std::numeric_limits<std::uint64_t>::max() - 9}) {
    for (const std::size_t count : {std::size_t{1}, std::size_t{7}, std::size_t{4096}, std::size_t{100'003}}) {
      std::vector<float> values(count), expected(count);
      loops_.random_weights(key, count, values.data());
      baseline_.random_weights(key, count, expected.data());
      ASSERT_TRUE(SameBits(values, expected)) << key << ", " << count;
      baseline_.random_weights(key + 1, count, expected.data());
      EXPECT_FALSE(SameBits(values, expected)) << "control: another key";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Isas, EveryIsa, testing::ValuesIn(internal::SupportedIsas()), [](const auto& info) {
  return std::string(info.param == Isa::kBaseline ? "Baseline" : info.param == Isa::kAvx2 ? "Avx2" : "Avx512");
});

}  // namespace
}  // namespace suites::quantize
