#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "gtest_determinism/determinism.h"

TEST(Dot, RunToRun) {
  const std::vector<float> x(10000, 0.1f), y(10000, 0.3f);
  EXPECT_DETERMINISTIC([&] { return std::inner_product(x.begin(), x.end(), y.begin(), 0.0f); });
}
