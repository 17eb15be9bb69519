#include "suites/model/cuda/attention_plan.h"

#include <gtest/gtest.h>

namespace suites::internal {
namespace {

TEST(AttentionPlan, CoversEveryContextOnce) {
  for (const int element : {2, 4}) {
    for (int length = 1; length <= 9000; ++length) {
      const AttentionPlan plan = PlanAttention(length, element);
      ASSERT_GT(plan.chunk, 0);
      ASSERT_GE(plan.chunk * plan.count, length);
      ASSERT_LT(plan.chunk * (plan.count - 1), length) << "an empty chunk at " << length;
    }
  }
}

// A graph is captured for a capacity: no context below it may need more.
TEST(AttentionPlan, TheLargestServesEveryShorterContext) {
  for (const int element : {2, 4}) {
    for (const int capacity : {1, 64, 65, 256, 2047, 2048, 2049, 2304, 4096, 8192, 40960}) {
      const AttentionPlan largest = LargestAttentionPlan(capacity, element);
      for (int length = 1; length <= capacity; ++length) {
        const AttentionPlan plan = PlanAttention(length, element);
        ASSERT_LE(plan.count, largest.count) << length << " of " << capacity;
        ASSERT_LE(plan.chunk, largest.chunk) << length << " of " << capacity;
      }
    }
  }
  // The control: a capacity just past the change of the chunk needs more chunks than its own length does.
  EXPECT_GT(LargestAttentionPlan(2049, 2).count, PlanAttention(2049, 2).count);
}

TEST(AttentionPlan, ChunksFollowTheLengthAlone) {
  EXPECT_EQ(PlanAttention(2048, 2).chunk, 64);
  EXPECT_EQ(PlanAttention(2049, 2).chunk, 128);
  EXPECT_EQ(PlanAttention(2049, 4).chunk, 64);
  EXPECT_EQ(PlanAttention(1, 2).count, 1);
  EXPECT_EQ(PlanAttention(65, 2).count, 2);
}

TEST(AttentionPlan, HeadsArePaddedToAKnownSize) {
  EXPECT_EQ(PaddedHeadDim(8), 32);
  EXPECT_EQ(PaddedHeadDim(64), 64);
  EXPECT_EQ(PaddedHeadDim(96), 128);
  EXPECT_EQ(PaddedHeadDim(129), 0);
  EXPECT_EQ(HeadsAtOnce(1), 1);
  EXPECT_EQ(HeadsAtOnce(3), 4);
  EXPECT_EQ(HeadsAtOnce(7), 8);
  EXPECT_EQ(HeadsAtOnce(16), 8);
}

}  // namespace
}  // namespace suites::internal
