#include "suites/model/cuda/attention_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace suites::internal {
namespace {

// How often each position of a context is dealt out.
std::vector<int> Dealt(int length) {
  std::vector<int> times(static_cast<std::size_t>(length), 0);
  for (int share = 0; share < kShares; ++share) {
    for (int warp = 0; warp < kShareWarps; ++warp) {
      for (int round = 0; round < TilesOfWarp(share, warp, length); ++round) {
        const int begin = TileBegin(share, warp, round);
        EXPECT_LT(begin, length) << "an empty tile";
        for (int p = begin; p < std::min(begin + kTile, length); ++p) ++times[static_cast<std::size_t>(p)];
      }
    }
  }
  return times;
}

TEST(AttentionPlan, DealsOutEveryPositionOnce) {
  for (int length = 1; length <= 9000; length += length < 3000 ? 1 : 37) {
    const std::vector<int> times = Dealt(length);
    ASSERT_EQ(std::count(times.begin(), times.end(), 1), length) << length;
  }
}

TEST(AttentionPlan, NoShareHasMoreThanATileMoreThanAnother) {
  for (const int length : {1, 16, 17, 128, 129, 1024, 3800, 4096, 9000}) {
    int fewest = length, most = 0;
    for (int share = 0; share < kShares; ++share) {
      int tiles = 0;
      for (int warp = 0; warp < kShareWarps; ++warp) tiles += TilesOfWarp(share, warp, length);
      fewest = std::min(fewest, tiles);
      most = std::max(most, tiles);
    }
    EXPECT_LE(most - fewest, 1) << length;
  }
  // The control: a whole round of one warp is more.
  EXPECT_EQ(TilesOfWarp(0, 0, kTile * kShares * kShareWarps + 1), 2);
  EXPECT_EQ(TilesOfWarp(1, 0, kTile * kShares * kShareWarps + 1), 1);
}

TEST(AttentionPlan, ChunksCoverTheContext) {
  EXPECT_EQ(ChunksOf(1), 1);
  EXPECT_EQ(ChunksOf(kChunk), 1);
  EXPECT_EQ(ChunksOf(kChunk + 1), 2);
}

TEST(AttentionPlan, TensorCoresTakeNarrowTypesInWideHeads) {
  EXPECT_TRUE(AttendsOnTensorCores(2, 64));
  EXPECT_TRUE(AttendsOnTensorCores(2, 128));
  EXPECT_FALSE(AttendsOnTensorCores(2, 32));
  EXPECT_FALSE(AttendsOnTensorCores(4, 128));
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
