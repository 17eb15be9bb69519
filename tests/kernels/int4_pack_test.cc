#include "kernels/int4_pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <stdexcept>
#include <utility>
#include <vector>

namespace kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Codes = std::vector<std::uint8_t>;

// Every code, in an order in which neighbours, rows and columns all differ.
Codes MixedCodes(std::int64_t k, std::int64_t n) {
  Codes codes(static_cast<std::size_t>(k * n));
  for (std::int64_t row = 0; row < k; ++row) {
    for (std::int64_t col = 0; col < n; ++col)
      codes[row * n + col] = static_cast<std::uint8_t>((7 * row + 3 * col + row * col / 5) % 16);
  }
  return codes;
}

std::int32_t Word(std::uint32_t bits) { return static_cast<std::int32_t>(bits); }

// By hand from the format: position i holds column {0, 2, 4, 6, 1, 3, 5, 7}[i],
// so from the low end the columns 0 2 4 6 1 3 5 7.
TEST(PackAwq, InterleavesColumnsByHand) {
  EXPECT_THAT(PackAwq(Codes{0, 1, 2, 3, 4, 5, 6, 7}, 1, 8), ElementsAre(Word(0x75316420)));
  EXPECT_THAT(UnpackAwq(std::vector<std::int32_t>{Word(0x75316420)}, 1, 8), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
}

TEST(PackGptq, PutsEightRowsInAWordByHand) {
  // Two columns: rows 0..7 and 8..15.
  Codes codes(16);
  for (int row = 0; row < 8; ++row) {
    codes[2 * row] = static_cast<std::uint8_t>(row);
    codes[2 * row + 1] = static_cast<std::uint8_t>(8 + row);
  }
  EXPECT_THAT(PackGptq(codes, 8, 2), ElementsAre(Word(0x76543210), Word(0xFEDCBA98)));
  EXPECT_EQ(UnpackGptq(PackGptq(codes, 8, 2), 8, 2), codes);
}

TEST(PackGptqZeros, KeepsColumnsInOrderByHand) {
  EXPECT_THAT(PackGptqZeros(Codes{1, 2, 3, 4, 5, 6, 7, 8}, 1, 8, /*v1=*/false), ElementsAre(Word(0x87654321)));
  EXPECT_THAT(PackGptqZeros(Codes{1, 2, 3, 4, 5, 6, 7, 8}, 1, 8, /*v1=*/true), ElementsAre(Word(0x76543210)));
  EXPECT_THAT(PackGptqZeros(Codes(8, 8), 1, 8, /*v1=*/true), ElementsAre(Word(0x77777777)));
}

// 0x...10 - 0x...11: the zero of 0 borrows from its neighbour; done nibble by
// nibble the word would be 0x7777770F.
TEST(PackGptqZeros, ZeroOfZeroBorrowsAcrossTheWord) {
  const Codes zeros = {0, 1, 8, 8, 8, 8, 8, 8};
  const std::vector<std::int32_t> words = PackGptqZeros(zeros, 1, 8, /*v1=*/true);
  EXPECT_THAT(words, ElementsAre(Word(0x888888'10u - 0x11111111u)));
  EXPECT_NE(words[0], Word(0x7777770F));
  EXPECT_EQ(UnpackGptqZeros(words, 1, 8, /*v1=*/true), zeros);
  EXPECT_NE(UnpackGptqZeros(words, 1, 8, /*v1=*/false), zeros);
}

TEST(PackGptqZeros, AllZerosWrapAround) {
  const Codes zeros(8, 0);
  EXPECT_THAT(PackGptqZeros(zeros, 1, 8, true), ElementsAre(Word(0xEEEEEEEF)));
  EXPECT_EQ(UnpackGptqZeros(PackGptqZeros(zeros, 1, 8, true), 1, 8, true), zeros);
}

// Word [nt][ko][t][j] by hand: n = 8 nt + t / 4, kb = 128 ko + 32 j + 2 (t % 4);
// bits 0, 4, 8, 12 are rows kb + 0, 8, 16, 24 and bits 16 .. 28 the rows after them.
TEST(PackTorchaoTile, FollowsTheTensorCoreOrderByHand) {
  const std::int64_t k = 256, n = 16;
  Codes codes(static_cast<std::size_t>(k * n));
  // nt = 1, t = 9, j = 2, ko = 1: n = 8 + 2 = 10, kb = 128 + 64 + 2 = 194.
  const int rows[8] = {194, 202, 210, 218, 195, 203, 211, 219};
  for (int i = 0; i < 8; ++i) codes[rows[i] * n + 10] = static_cast<std::uint8_t>(i + 1);
  const std::vector<std::int32_t> words = PackTorchaoTile(codes, k, n);
  ASSERT_EQ(words.size(), 2u * 8 * 32 * 4);  // K padded to 1024
  const std::size_t at = ((1 * 8 + 1) * 32 + 9) * 4 + 2;
  for (std::size_t w = 0; w < words.size(); ++w) EXPECT_EQ(words[w], w == at ? Word(0x87654321) : 0) << w;
}

TEST(PackTorchaoPlain, StoresTwosComplementLowNibbleFirstByHand) {
  // Codes 0, 15, 8, 9 are -8, 7, 0, 1.
  const std::vector<std::int8_t> bytes = PackTorchaoPlain(Codes{0, 15, 8, 9}, 4, 1);
  EXPECT_THAT(bytes, ElementsAre(static_cast<std::int8_t>(0x78), static_cast<std::int8_t>(0x10)));
}

TEST(RoundTrip, EveryLayoutOnSizesThatAreNotSquare) {
  const Codes codes = MixedCodes(48, 24);
  EXPECT_EQ(UnpackAwq(PackAwq(codes, 48, 24), 48, 24), codes);
  EXPECT_EQ(UnpackGptq(PackGptq(codes, 48, 24), 48, 24), codes);
  EXPECT_EQ(UnpackGptqZeros(PackGptqZeros(codes, 48, 24, true), 48, 24, true), codes);
  EXPECT_EQ(UnpackGptqZeros(PackGptqZeros(codes, 48, 24, false), 48, 24, false), codes);
  EXPECT_EQ(UnpackTorchaoPlain(PackTorchaoPlain(codes, 48, 24), 48, 24), codes);
}

TEST(RoundTrip, TorchaoTileDropsItsPadding) {
  const Codes codes = MixedCodes(1152, 20);  // K pads to 2048, N to 24
  EXPECT_EQ(UnpackTorchaoTile(PackTorchaoTile(codes, 1152, 20), 1152, 20), codes);
}

// The layouts differ: a reader that takes one for the other must not pass.
TEST(RoundTrip, LayoutsAreNotInterchangeable) {
  const Codes codes = MixedCodes(8, 8);
  EXPECT_NE(UnpackAwq(PackGptq(codes, 8, 8), 8, 8), codes);
  EXPECT_NE(UnpackGptqZeros(PackAwq(codes, 8, 8), 8, 8, false), codes);
}

template <typename Call>
std::string ErrorOf(Call call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

// Some columns are those of the whole, and nothing else is written.
TEST(RoundTrip, ColumnsOfTorchaoAreThoseOfTheWhole) {
  const std::int64_t k = 1152, n = 20, first = 8, columns = 12;
  const Codes codes = MixedCodes(k, n);
  const std::vector<std::int32_t> tiles = PackTorchaoTile(codes, k, n);
  const std::vector<std::int8_t> plain = PackTorchaoPlain(codes, k, n);
  std::vector<std::int32_t> from_tiles(static_cast<std::size_t>(columns * k + 1), -1), from_plain = from_tiles;
  UnpackTorchaoTileColumns(tiles, k, n, first, columns, from_tiles.data());
  UnpackTorchaoPlainColumns(plain, k, n, first, columns, from_plain.data());
  std::int64_t different = 0;
  for (std::int64_t column = 0; column < columns; ++column) {
    for (std::int64_t row = 0; row < k; ++row) {
      const int code = codes[static_cast<std::size_t>(row * n + first + column)];
      const auto at = static_cast<std::size_t>(column * k + row);
      different += (from_tiles[at] != code) + (from_plain[at] != code);
    }
  }
  EXPECT_EQ(different, 0);
  EXPECT_EQ(from_tiles.back(), -1);
  EXPECT_EQ(from_plain.back(), -1);
  for (const auto& [from, count] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{4, 8}, {-8, 8}, {16, 8}, {0, 0}}) {
    EXPECT_THAT(ErrorOf([&] { UnpackTorchaoTileColumns(tiles, k, n, from, count, from_tiles.data()); }),
                HasSubstr("are not some of 20"));
  }
}

TEST(Errors, NameTheSizeThatDoesNotFit) {
  EXPECT_THAT(ErrorOf([] { PackAwq(Codes(12), 1, 12); }), HasSubstr("n = 12 is not a positive multiple of 8"));
  EXPECT_THAT(ErrorOf([] { PackGptq(Codes(12), 12, 1); }), HasSubstr("k = 12 is not a positive multiple of 8"));
  EXPECT_THAT(ErrorOf([] { PackAwq(Codes(9), 1, 8); }), HasSubstr("has 9 elements, its shape needs 8"));
  EXPECT_THAT(ErrorOf([] { UnpackAwq(std::vector<std::int32_t>(2), 1, 8); }), HasSubstr("has 2 elements"));
  EXPECT_THAT(ErrorOf([] { UnpackTorchaoTile(std::vector<std::int32_t>(7), 128, 8); }), HasSubstr("has 7 elements"));
  EXPECT_THAT(ErrorOf([] { PackAwq(Codes{0, 0, 0, 0, 0, 0, 0, 16}, 1, 8); }), HasSubstr("above 15"));
  EXPECT_EQ(ErrorOf([] { PackAwq(Codes{0, 0, 0, 0, 0, 0, 0, 15}, 1, 8); }), "");
}

}  // namespace
}  // namespace kernels
