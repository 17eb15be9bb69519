#include "kernels/cpu/repack.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/microkernels.h"

namespace kernels::cpu {
namespace {

constexpr std::int64_t kWidth = kTileColumns;

// Word c of `tile` holds eight consecutive rows of one column: byte i has row i in its low
// four bits and row i + 4 in the others.
static_assert(ShiftOf(0) == 0 && ShiftOf(3) == 24 && ShiftOf(4) == 4 && ShiftOf(7) == 28);

// Four 4-bit values in the low half, each to a byte of its own.
constexpr std::uint32_t Spread(std::uint32_t x) {
  x = (x | x << 8) & 0x00ff00ffu;
  return (x | x << 4) & 0x0f0f0f0fu;
}

// A word of GPTQ holds the same eight rows, in order.
void FromGptq(const std::uint32_t* words, std::int64_t columns, std::uint32_t* tile) {
  for (std::int64_t c = 0; c < columns; ++c) tile[c] = Spread(words[c] & 0xffffu) | Spread(words[c] >> 16) << 4;
}

// Rows of codes, a byte each, to the words of a tile.
using Codes = std::uint8_t[8][kWidth];
void Combine(const Codes& codes, std::int64_t columns, std::uint32_t* tile) {
  for (std::int64_t c = 0; c < columns; ++c) {
    tile[c] = static_cast<std::uint32_t>(codes[0][c] | codes[4][c] << 4) |
              static_cast<std::uint32_t>(codes[1][c] | codes[5][c] << 4) << 8 |
              static_cast<std::uint32_t>(codes[2][c] | codes[6][c] << 4) << 16 |
              static_cast<std::uint32_t>(codes[3][c] | codes[7][c] << 4) << 24;
  }
}

// Row `row` of the tiles, columns from `first` on.
void GptqRow(const StoredWords& stored, std::int64_t row, std::int64_t first, std::int64_t columns,
             std::uint8_t* codes) {
  const std::int64_t from = stored.row_order[row];
  const std::uint32_t* const words = stored.words + from / 8 * stored.n + first;
  const int shift = static_cast<int>(from % 8 * 4);
  for (std::int64_t c = 0; c < columns; ++c) codes[c] = static_cast<std::uint8_t>(words[c] >> shift & 15u);
}

// A word of AWQ holds eight columns of a row: the even ones in its low half, the odd ones
// in the other.
void AwqRow(const StoredWords& stored, std::int64_t row, std::int64_t first, std::int64_t columns,
            std::uint8_t* codes) {
  const std::uint32_t* const words = stored.words + (row * stored.n + first) / 8;
  const auto apart = [](std::uint64_t x) {  // four 4-bit values, each to every other byte
    x = (x | x << 24) & 0x000000ff000000ffu;
    return (x | x << 12) & 0x000f000f000f000fu;
  };
  for (std::int64_t w = 0; w < columns / 8; ++w) {
    const std::uint64_t bytes = apart(words[w] & 0xffffu) | apart(words[w] >> 16) << 8;
    std::memcpy(codes + 8 * w, &bytes, 8);  // little-endian, as the files
  }
}

void PackPart(const StoredWords& stored, std::int64_t word_row, std::int64_t first, std::int64_t columns,
              std::uint32_t* tile) {
  if (!stored.awq && stored.row_order == nullptr) {
    FromGptq(stored.words + word_row * stored.n + first, columns, tile);
  } else {
    Codes codes;
    for (int i = 0; i < 8; ++i) {
      (stored.awq ? AwqRow : GptqRow)(stored, 8 * word_row + i, first, columns, codes[i]);
    }
    Combine(codes, columns, tile);
  }
  std::fill(tile + columns, tile + kWidth, 0u);
}

}  // namespace

void PackTiles(const StoredWords& stored, std::uint32_t* tiles) {
  // Blocks of some tiles and some rows: what is read lies in pieces of pages, and so does
  // what is written, wherever in the strides of both the block is.
  constexpr std::int64_t kTiles = 16, kRows = 32;
  const std::int64_t rows = stored.k / 8, all_tiles = (stored.n + kWidth - 1) / kWidth;
  const std::int64_t row_blocks = (rows + kRows - 1) / kRows, tile_blocks = (all_tiles + kTiles - 1) / kTiles;
  at::parallel_for(0, row_blocks * tile_blocks, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t first_tile = block / row_blocks * kTiles, first_row = block % row_blocks * kRows;
      for (std::int64_t row = first_row; row < std::min(rows, first_row + kRows); ++row) {
        for (std::int64_t tile = first_tile; tile < std::min(all_tiles, first_tile + kTiles); ++tile) {
          PackPart(stored, row, tile * kWidth, std::min(kWidth, stored.n - tile * kWidth),
                   tiles + (tile * rows + row) * kWidth);
        }
      }
    }
  });
}

}  // namespace kernels::cpu
