// A consumer's test: one assertion of each kind, and the negative control.
#include <gtest/gtest.h>

#include <vector>

#include "gtest_determinism/determinism.h"

using gtest_determinism::Outcome;
using gtest_determinism::RunRepeated;

TEST(Consumer, Assertions) {
  EXPECT_DETERMINISTIC([] { return std::vector<float>(3, 1.0f); });
  EXPECT_BIT_EXACT(1.0f, 1.0f);
}

TEST(Consumer, NegativeControl) {
  int calls = 0;
  EXPECT_EQ(RunRepeated([&calls] { return ++calls; }).outcome, Outcome::kNondeterministic);
}
