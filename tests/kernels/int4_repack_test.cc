// From stored words to what the CPU's kernels read: every code in its place, over the edges of
// the blocks in which it is done.
#include <ATen/Parallel.h>
#include <ATen/ops/_convert_weight_to_int4pack_for_cpu.h>
#include <ATen/ops/_weight_int4pack_mm_for_cpu.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/cpu/microkernels.h"
#include "kernels/cpu/repack.h"
#include "kernels/int4_pack.h"
#include "tests/kernels/random_layer.h"

namespace kernels {
namespace {

struct Shape {
  std::int64_t k, n;
};
// Whole blocks of 32 rows of words and 16 tiles, some more of each, and columns that fill no tile.
constexpr Shape kShapes[] = {{8, 8}, {64, 64}, {296, 1112}, {512, 1024}};

std::vector<std::uint8_t> RandomCodes(std::int64_t count, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(count));
  for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random.Below(16));
  return codes;
}

// Codes that are not where they belong, in the tiles of `words`.
std::int64_t Misplaced(const std::vector<std::int32_t>& words, bool awq, const Shape& shape,
                       const std::vector<std::int64_t>& order, const std::vector<std::uint8_t>& codes) {
  constexpr std::int64_t kWidth = cpu::kTileColumns;
  const std::int64_t tiles = (shape.n + kWidth - 1) / kWidth, rows = shape.k / 8;
  std::vector<std::uint32_t> packed(static_cast<std::size_t>(tiles * rows * kWidth + 1), 0xdeadbeefu);
  cpu::StoredWords stored;
  stored.words = reinterpret_cast<const std::uint32_t*>(words.data());
  stored.awq = awq;
  stored.k = shape.k;
  stored.n = shape.n;
  stored.row_order = order.empty() ? nullptr : order.data();
  cpu::PackTiles(stored, packed.data());
  EXPECT_EQ(packed.back(), 0xdeadbeefu) << "writes behind its end";
  std::int64_t misplaced = 0;
  for (std::int64_t row = 0; row < shape.k; ++row) {
    const std::int64_t from = order.empty() ? row : order[row];
    for (std::int64_t column = 0; column < tiles * kWidth; ++column) {
      const std::uint32_t word = packed[(column / kWidth * rows + row / 8) * kWidth + column % kWidth];
      const std::uint32_t code = word >> cpu::ShiftOf(static_cast<int>(row % 8)) & 15u;
      misplaced += code != (column < shape.n ? codes[from * shape.n + column] : 0u);
    }
  }
  return misplaced;
}

TEST(PackTiles, PutsEveryCodeInItsPlace) {
  for (const Shape& shape : kShapes) {
    std::vector<std::uint8_t> codes = RandomCodes(shape.k * shape.n, 1);
    std::vector<std::int64_t> order(static_cast<std::size_t>(shape.k));
    std::iota(order.begin(), order.end(), 0);
    Random random(2);
    for (std::size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[random.Below(static_cast<std::uint32_t>(i))]);
    }
    const std::vector<std::int32_t> awq = PackAwq(codes, shape.k, shape.n), gptq = PackGptq(codes, shape.k, shape.n);
    EXPECT_EQ(Misplaced(awq, true, shape, {}, codes), 0) << shape.k << " x " << shape.n;
    EXPECT_EQ(Misplaced(gptq, false, shape, {}, codes), 0) << shape.k << " x " << shape.n;
    EXPECT_EQ(Misplaced(gptq, false, shape, order, codes), 0) << shape.k << " x " << shape.n;
    codes.back() ^= 1;
    EXPECT_EQ(Misplaced(awq, true, shape, {}, codes), 1) << "the control";
    EXPECT_EQ(Misplaced(gptq, false, shape, {}, codes), 1) << "the control";
    EXPECT_EQ(Misplaced(gptq, false, shape, order, codes), 1) << "the control";
  }
}

TEST(PackTiles, IsTheSameOnAnyNumberOfThreads) {
  const int threads = at::get_num_threads();
  const Shape shape = kShapes[2];
  const std::vector<std::uint8_t> codes = RandomCodes(shape.k * shape.n, 3);
  for (const int count : {1, 2, 5}) {
    at::set_num_threads(count);
    EXPECT_EQ(Misplaced(PackAwq(codes, shape.k, shape.n), true, shape, {}, codes), 0) << count;
  }
  at::set_num_threads(threads);
}

// tinygemm takes 64 columns at a time; ATen's own packing of all at once is the same, at the
// ends of pieces and with a last block that is not a whole one.
TEST(TinygemmPieces, AreTheWhole) {
  constexpr std::int64_t kK = 1024, kN = 1072, kGroup = 128;
  for (const Format format : {Format::kTorchaoTilePacked, Format::kTorchaoPlain}) {
    const QuantizedLinear layer = RandomLayer(format, {.k = kK, .n = kN, .group_size = kGroup}, 4);
    const bool tiled = format == Format::kTorchaoTilePacked;
    const at::Tensor stored = layer.qweight.contiguous();
    const auto size = static_cast<std::size_t>(stored.numel());
    const std::vector<std::uint8_t> codes =
        tiled ? UnpackTorchaoTile({stored.const_data_ptr<std::int32_t>(), size}, kK, kN)
              : UnpackTorchaoPlain({stored.const_data_ptr<std::int8_t>(), size}, kK, kN);
    at::Tensor by_column = at::empty({kN, kK}, at::kInt);
    auto* const to = by_column.mutable_data_ptr<std::int32_t>();
    for (std::int64_t n = 0; n < kN; ++n) {
      for (std::int64_t k = 0; k < kK; ++k) to[n * kK + k] = codes[static_cast<std::size_t>(k * kN + n)];
    }
    const at::Tensor scale_and_zero = tiled ? layer.scales.narrow(0, 0, kK / kGroup).narrow(1, 0, kN).contiguous()
                                            : at::stack({layer.scales, layer.qzeros}, 2);
    const at::Tensor x = RandomActivations(3, kK, at::kBFloat16, 5);
    const auto multiply = [&] {
      return at::_weight_int4pack_mm_for_cpu(x, at::_convert_weight_to_int4pack_for_cpu(by_column, 8), kGroup,
                                             scale_and_zero);
    };
    const at::Tensor y = MakeInt4Matmul({"tinygemm"}, layer)->Forward(x);
    EXPECT_TRUE(at::equal(y, multiply()));
    to[(kN - 1) * kK + 77] ^= 8;
    EXPECT_FALSE(at::equal(y, multiply())) << "the control";
  }
}

}  // namespace
}  // namespace kernels
