// Index maps and plans of the CUDA kernels, on the host: no device is needed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "kernels/cuda/layout.h"
#include "kernels/cuda/plan.h"
#include "kernels/cuda/stream_plan.h"
#include "kernels/int4_pack.h"
#include "tests/kernels/random_layer.h"

namespace kernels::cuda {
namespace {

TEST(MarlinOrder, GivesEachCodeANibbleOfItsOwn) {
  constexpr std::int64_t kK = 192, kN = 48;
  std::set<std::pair<std::int64_t, int>> seen;
  for (std::int64_t k = 0; k < kK; ++k) {
    for (std::int64_t n = 0; n < kN; ++n) {
      const WordPosition at = MarlinPosition(k, n, kK);
      EXPECT_GE(at.word, 0);
      EXPECT_LT(at.word, kK * kN / 8);
      EXPECT_EQ(at.shift % 4, 0);
      EXPECT_LT(at.shift, 32);
      EXPECT_TRUE(seen.emplace(at.word, at.shift).second) << k << ", " << n;
    }
  }
}

// The instruction m16n8k16 by its definition in the PTX manual, on integers, fed as
// the kernels feed it: registers from Marlin words by two masks and a shift, x from
// rows 2 t, 2 t + 1, 2 t + 8 and 2 t + 9 of the instruction's sixteen.
std::vector<int> EmulateTile(const std::vector<std::uint32_t>& words, std::int64_t k_tiles, std::int64_t block,
                             const std::vector<int>& x) {
  std::vector<int> result(16 * 8);  // [column][row of x]
  for (std::int64_t tile = 0; tile < k_tiles; ++tile) {
    for (int j = 0; j < 4; ++j) {
      int a[16][16], b[16][8];
      for (int lane = 0; lane < 32; ++lane) {
        const int g = lane / 4, t = lane % 4;
        const std::uint32_t word = words[((block * k_tiles + tile) * 32 + lane) * 4 + j];
        for (int reg = 0; reg < 4; ++reg) {
          const std::uint32_t shifted = reg < 2 ? word : word >> 8;
          const int low = reg % 2 == 0 ? 0 : 4;  // the mask 0x000f000f or 0x00f000f0
          for (int h = 0; h < 2; ++h) {
            a[g + 8 * (reg % 2)][2 * t + 8 * (reg / 2) + h] = static_cast<int>(shifted >> (low + 16 * h) & 15u);
          }
        }
        for (int reg = 0; reg < 2; ++reg) {
          for (int h = 0; h < 2; ++h) {
            const std::int64_t k = tile * kTileK + 16 * j + 8 * reg + 2 * t + h;
            b[2 * t + 8 * reg + h][g] = x[k * 8 + g];
          }
        }
      }
      for (int row = 0; row < 16; ++row) {
        const int column = row < 8 ? ColumnOfPlace(row, 0) : ColumnOfPlace(row - 8, 1);
        for (int c = 0; c < 8; ++c) {
          for (int k = 0; k < 16; ++k) result[column * 8 + c] += a[row][k] * b[k][c];
        }
      }
    }
  }
  return result;
}

TEST(MarlinOrder, FeedsTheInstructionTheProductOfTheMatrices) {
  constexpr std::int64_t kK = 128, kN = 32;
  Random random(5);
  std::vector<std::uint32_t> words(kK * kN / 8);
  std::vector<int> codes(kK * kN), x(kK * 8);
  for (std::int64_t k = 0; k < kK; ++k) {
    for (std::int64_t n = 0; n < kN; ++n) {
      const std::uint32_t code = random.Below(16);
      codes[k * kN + n] = static_cast<int>(code);
      const WordPosition at = MarlinPosition(k, n, kK);
      words[at.word] |= code << at.shift;
    }
    for (int r = 0; r < 8; ++r) x[k * 8 + r] = static_cast<int>(random.Below(100));
  }
  for (std::int64_t block = 0; block < kN / 16; ++block) {
    const std::vector<int> result = EmulateTile(words, kK / kTileK, block, x);
    for (int column = 0; column < 16; ++column) {
      for (int r = 0; r < 8; ++r) {
        int expected = 0;
        for (std::int64_t k = 0; k < kK; ++k) expected += codes[k * kN + block * 16 + column] * x[k * 8 + r];
        EXPECT_EQ(result[column * 8 + r], expected) << block << " " << column << " " << r;
      }
    }
  }
}

TEST(MarlinOrder, IsWhatTheRepackingKernelWrites) {
  // A nibble's place in its word, from both sides.
  for (int lane = 0; lane < 32; ++lane) {
    for (int j = 0; j < 4; ++j) {
      for (int i = 0; i < 8; ++i) {
        const WordPosition at =
            MarlinPosition(RowOfPlace(lane % 4, j, i / 2 % 2, i / 4), ColumnOfPlace(lane / 4, i % 2), kTileK);
        EXPECT_EQ(at.word, lane * 4 + j);
        EXPECT_EQ(at.shift, 4 * i);
      }
    }
  }
}

TEST(NibbleOrder, IsAPermutationAndThatOfTheFormat) {
  std::set<int> columns;
  for (int i = 0; i < 8; ++i) {
    columns.insert(AwqColumnOfNibble(i));
    EXPECT_EQ(AwqColumnOfNibble(i), kAwqOrder[i]);
    EXPECT_EQ(AwqNibbleOfColumn(AwqColumnOfNibble(i)), i);
  }
  EXPECT_EQ(columns.size(), 8u);
}

TEST(GroupInverse, DividesExactly) {
  for (std::uint32_t group = 8; group <= 65535; group += 8) {
    const std::uint64_t inverse = GroupInverse(group);
    const auto quotient = [&](std::uint64_t k) { return static_cast<std::uint32_t>(k * inverse >> 32); };
    // Both sides of every multiple are enough: the quotient grows with k.
    for (std::uint32_t k = 0; k <= static_cast<std::uint32_t>(kMaxK); k += group) {
      ASSERT_EQ(quotient(k), k / group) << group;
      if (k > 0) {
        ASSERT_EQ(quotient(k - 1), (k - 1) / group) << group;
      }
    }
    ASSERT_EQ(quotient(kMaxK), kMaxK / group) << group;
  }
}

constexpr int kH100 = 132;
constexpr std::pair<std::int64_t, std::int64_t> kShapes[] = {{4096, 6144},  {4096, 4096}, {4096, 24576}, {12288, 4096},
                                                             {1024, 256},   {8, 8},       {72, 40},      {65528, 8},
                                                             {256, 200000}, {64, 1032}};

TEST(Plan, SplitsCoverKOnce) {
  for (const Family family : {Family::kMarlin, Family::kAwq, Family::kGptq, Family::kGptqOrdered}) {
    for (const auto& [k, n] : kShapes) {
      for (const int sms : {1, 108, kH100, 192}) {
        for (const std::int64_t m : {1, 8, 9, 16, 17, 32, 33, 50, 64, 65, 256}) {
          const Plan plan = PlanFor(family, m, k, n, sms);
          if (plan.path == Path::kDequantize || plan.path == Path::kStream) continue;
          const std::int64_t tiles = (k + kTileK - 1) / kTileK;
          EXPECT_GE(plan.splits * plan.tiles_per_split, tiles);
          EXPECT_LT((plan.splits - 1) * plan.tiles_per_split, tiles) << "no split is empty";
          if (plan.path != Path::kTile) {
            EXPECT_GE(8 * plan.row_blocks, m);
          }
        }
      }
    }
  }
}

// Every strip of 16 columns belongs to one block, no block is without one, and all
// fits into a block's shared memory; what does not takes another path.
TEST(Plan, AStreamTakesEachStripOnce) {
  constexpr int kSm80 = 163 * 1024, kSmall = 99 * 1024;
  int elsewhere = 0;
  for (const Family family : {Family::kMarlin, Family::kGptq}) {
    for (const auto& [k, n] : kShapes) {
      for (const std::int64_t group : {8, 32, 64, 128, 256}) {
        for (const int limit : {kSmall, kSm80, kSharedLimit90}) {
          for (std::int64_t m = 1; m <= kMaxStreamRows; ++m) {
            const Plan plan = PlanFor(family, m, k, n, kH100, 80, group, false, limit);
            if (plan.path != Path::kStream) {
              EXPECT_TRUE(limit == kSmall || (limit == kSm80 && m > 8) || k > 32768) << m << " " << k << " " << n;
              ++elsewhere;
              continue;
            }
            EXPECT_EQ(plan.row_blocks, m == 1 ? 0 : m <= 8 ? 1 : 2);
            const int strips = static_cast<int>((n + kMarlinColumns - 1) / kMarlinColumns);
            int next = 0;
            for (int b = 0; b < plan.blocks; ++b) {
              const int first = StreamFirstStrip(plan.row_blocks, strips, b, plan.blocks);
              const int end = StreamFirstStrip(plan.row_blocks, strips, b + 1, plan.blocks);
              ASSERT_EQ(first, next);
              ASSERT_GT(end, first);
              ASSERT_LE((end - first) * kMarlinColumns, plan.columns);
              next = end;
            }
            EXPECT_EQ(next, strips);
            for (const Sums sums : {Sums::kFloat, Sums::kHalfOrdered, Sums::kHalfArrival}) {
              const StreamShape shape = StreamShapeFor(plan.row_blocks, sums, m, k, n, group, plan.blocks, limit);
              EXPECT_LE(shape.shared_bytes, limit);
              EXPECT_EQ(shape.shared_bytes % 16, 0);
              EXPECT_GE(shape.x_buffers,
                        std::min(2, (StreamPartUnits(shape.units) + shape.piece_units - 1) / shape.piece_units));
              EXPECT_LE(shape.x_buffers, 32) << "a lane for each barrier";
            }
          }
        }
      }
    }
  }
  EXPECT_GT(elsewhere, 0);
}

// Where a block may have 99 KiB: few rows stream, as many as groups of that size leave room for;
// the others take the way of more rows, gptq's slices of 8 and 16 rows among them.
TEST(Plan, PathsByRowsWhereSharedMemoryIsSmall) {
  constexpr int kSmall = 99 * 1024;
  const auto plan = [](Family family, std::int64_t m, std::int64_t group, int limit) {
    return PlanFor(family, m, 4096, 4096, 82, 80, group, false, limit);
  };
  for (const Family family : {Family::kMarlin, Family::kAwq, Family::kGptq, Family::kGptqOrdered}) {
    for (const auto& [group, most] : {std::pair<std::int64_t, std::int64_t>{128, 9}, {64, 8}, {32, 7}, {8, 9}}) {
      for (std::int64_t m = 1; m <= kMaxStreamRows; ++m) {
        const Plan here = plan(family, m, group, kSmall);
        const bool gptq = family == Family::kGptq;
        EXPECT_EQ(here.path, m <= most ? Path::kStream : gptq ? Path::kSlices : Path::kTile) << m << ", " << group;
        if (m > most) {
          EXPECT_EQ(here.row_blocks, !gptq ? 4 : m <= 8 ? 1 : 2);
        }
        // The control: with more memory they all stream, with none nobody does.
        EXPECT_EQ(plan(family, m, group, kSharedLimit90).path, Path::kStream);
        EXPECT_EQ(plan(family, m, group, 0).path, gptq ? Path::kSlices : Path::kTile);
      }
    }
  }
}

// The batch must not choose the order of summation within a path.
TEST(Plan, SplitsDoNotFollowTheNumberOfRows) {
  for (const Family family : {Family::kMarlin, Family::kAwq}) {
    for (const auto& [k, n] : kShapes) {
      for (std::int64_t m = 17; m <= kMaxTileRows; ++m) {
        EXPECT_EQ(PlanFor(family, m, k, n, kH100).splits, PlanFor(family, 17, k, n, kH100).splits);
      }
    }
  }
}

TEST(Plan, PathsByRows) {
  EXPECT_EQ(PlanFor(Family::kMarlin, 16, 4096, 4096, kH100).path, Path::kStream);
  EXPECT_EQ(PlanFor(Family::kMarlin, 17, 4096, 4096, kH100).path, Path::kTile);
  EXPECT_EQ(PlanFor(Family::kAwq, 256, 4096, 4096, kH100).path, Path::kTile);
  EXPECT_EQ(PlanFor(Family::kMarlin, 257, 4096, 4096, kH100).path, Path::kDequantize);
  EXPECT_EQ(PlanFor(Family::kGptq, 50, 4096, 4096, kH100).path, Path::kSlices);
  EXPECT_EQ(PlanFor(Family::kGptq, 51, 4096, 4096, kH100).path, Path::kTile);
  EXPECT_EQ(PlanFor(Family::kGptqOrdered, 17, 4096, 4096, kH100).path, Path::kTile);
  EXPECT_EQ(PlanFor(Family::kGptqOrdered, 16, 4096, 4096, kH100).path, Path::kStream);
  EXPECT_EQ(PlanFor(Family::kGptq, 16, 4096, 4096, kH100).path, Path::kStream);
  EXPECT_EQ(PlanFor(Family::kGptq, 17, 12288, 4096, kH100).splits, 96);
  EXPECT_EQ(NameOf(PlanFor(Family::kGptq, 17, 12288, 4096, kH100)), "slices of 128 rows of K");
  EXPECT_EQ(NameOf(PlanFor(Family::kAwq, 1, 12288, 1024, kH100)), "stream");
  EXPECT_EQ(NameOf(PlanFor(Family::kMarlin, 100, 4096, 24576, kH100)), "tiles of 128 rows");
  EXPECT_EQ(NameOf(PlanFor(Family::kMarlin, 512, 4096, 24576, kH100)), "dequantize, then at::mm");
}

constexpr int kHopper = 90;

TEST(WgmmaPlan, IsForDevicesThatHaveIt) {
  EXPECT_EQ(PlanFor(Family::kMarlin, 64, 4096, 4096, kH100, kHopper).path, Path::kWgmma);
  EXPECT_EQ(PlanFor(Family::kAwq, 4000, 4096, 4096, kH100, kHopper).path, Path::kWgmma);
  EXPECT_EQ(PlanFor(Family::kGptq, 51, 4096, 4096, kH100, kHopper).path, Path::kWgmma);
  EXPECT_EQ(PlanFor(Family::kGptq, 50, 4096, 4096, kH100, kHopper).path, Path::kSlices);
  EXPECT_EQ(PlanFor(Family::kGptqOrdered, 17, 4096, 4096, kH100, kHopper).path, Path::kWgmma);
  EXPECT_EQ(PlanFor(Family::kMarlin, 16, 4096, 4096, kH100, kHopper).path, Path::kStream);
  EXPECT_EQ(PlanFor(Family::kMarlin, 64, 4096, 4096, kH100, 80).path, Path::kTile);
  EXPECT_EQ(PlanFor(Family::kMarlin, 64, 4096, 4096, kH100, kHopper, 48).path, Path::kTile) << "groups of 48";
  EXPECT_EQ(PlanFor(Family::kMarlin, 64, 4096, 4096, kH100, kHopper, 96).path, Path::kWgmma);
  EXPECT_EQ(NameOf(PlanFor(Family::kMarlin, 3790, 4096, 24576, kH100, kHopper)),
            "wgmma, tiles of 256 rows x 128 columns");
  EXPECT_EQ(NameOf(PlanFor(Family::kMarlin, 32, 4096, 4096, kH100, kHopper)),
            "wgmma, tiles of 32 rows x 192 columns, K in 4 splits");
}

TEST(WgmmaPlan, SplitsCoverKOnceAndFitACluster) {
  for (const auto& [k, n] : kShapes) {
    for (const int sms : {1, 78, kH100}) {
      for (const bool invariant : {false, true}) {
        for (std::int64_t m = 1; m <= 5000; m = m * 5 / 4 + 1) {
          const Plan plan = WgmmaPlanFor(m, k, n, sms, invariant);
          const std::int64_t tiles = (k + kTileK - 1) / kTileK;
          ASSERT_EQ(plan.path, Path::kWgmma);
          EXPECT_EQ(plan.tiles_per_split % 2, 0) << "units of 128 rows";
          EXPECT_GE(plan.splits * plan.tiles_per_split, tiles);
          EXPECT_LT((plan.splits - 1) * plan.tiles_per_split, tiles) << "no split is empty";
          EXPECT_LE(plan.splits, kMaxWgmmaSplits);
          EXPECT_GT(plan.blocks, 0);
          EXPECT_TRUE(!plan.folded || plan.splits > 1);
          if (plan.folded) {
            EXPECT_EQ(plan.columns, 128);
            EXPECT_EQ(plan.row_blocks, 16);
          }
        }
      }
    }
  }
}

// What a row's bits depend on is where K is cut.
TEST(BatchInvariance, CutsKByTheLayerAlone) {
  for (const auto& [k, n] : kShapes) {
    for (const int sm : {80, kHopper}) {
      for (const std::int64_t group : {128, 32, 8}) {
        const Plan one = PlanFor(Family::kMarlin, 1, k, n, kH100, sm, group, true);
        for (std::int64_t m = 2; m <= 4096; m = m < 300 ? m + 1 : m * 5 / 4) {
          const Plan plan = PlanFor(Family::kMarlin, m, k, n, kH100, sm, group, true);
          ASSERT_EQ(plan.path, one.path) << m;
          ASSERT_EQ(plan.splits, one.splits) << m;
          ASSERT_EQ(plan.tiles_per_split, one.tiles_per_split) << m;
        }
      }
    }
  }
}

// The negative control: without the option the cuts follow the rows.
TEST(BatchInvariance, IsNotThereByItself) {
  EXPECT_NE(PlanFor(Family::kMarlin, 1, 4096, 4096, kH100, kHopper).path,
            PlanFor(Family::kMarlin, 64, 4096, 4096, kH100, kHopper).path);
  EXPECT_NE(PlanFor(Family::kMarlin, 32, 4096, 4096, kH100, kHopper).splits,
            PlanFor(Family::kMarlin, 512, 4096, 4096, kH100, kHopper).splits);
}

}  // namespace
}  // namespace kernels::cuda
