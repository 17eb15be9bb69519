// The inner loops of the CPU matmuls, once for each instruction set.
//
// All of them compute, for one tile of columns and one block of at most 128
// rows of K that share a scale,
//
//   total[r, n] = fma(scale[n], round(sum over k of x[r, k] (q[k, n] - z[n])), total[r, n])
//
// where the sum is exact and `round` goes to the nearest float32, once. A half is
// a multiple of 2^-24 below 2^16, and q - z an integer of at most 15, so the sum
// of 128 products is a multiple of 2^-24 below 2^27: an integer of 51 bits. It is
// computed in integers: x is written in digits of base 256, -128 to 127, above
// the lowest bit that the row uses in the block; the digits times the codes are
// added in 32 bits; the sums of the digits meet in a float32 by one rounding.
//
// An exact sum knows no order. So the bits of an output depend neither on the
// instruction set, nor on how many rows are computed together, nor on threads.
#ifndef KERNELS_CPU_MICROKERNELS_H_
#define KERNELS_CPU_MICROKERNELS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace kernels::cpu {

// Columns in a tile: one row of words is four cache lines.
inline constexpr int kTileColumns = 64;
inline constexpr int kMaxBlockRows = 128;
// Rows of x that are computed together, and the bytes of K, or rows of K, that an
// AMX tile holds of each.
inline constexpr int kTileRows = 16;
inline constexpr int kStepRows = 64;
inline constexpr int kMaxSteps = kMaxBlockRows / kStepRows;
// 41 bits and a sign, in balanced digits of 8.
inline constexpr int kMaxDigits = 6;
// Most rows of x that `dot` takes.
inline constexpr int kMaxDotRows = 4;

// A 32-bit word holds the codes of eight consecutive k of one column, k + i in
// bits 8 i .. 8 i + 3 and k + 4 + i in the four bits above them (i = 0..3): a mask
// gives four codes, each in a byte, in ascending k.
constexpr int ShiftOf(int k_in_word) { return k_in_word < 4 ? 8 * k_in_word : 8 * (k_in_word - 4) + 4; }

// Rows of W that share one scale, in one tile.
struct GroupBlock {
  const std::uint32_t* words;   // [rows / 8, kTileColumns], contiguous
  const std::uint8_t* zeros;    // [kTileColumns]
  const std::uint16_t* scales;  // fp16 bits, [kTileColumns]
  int rows;                     // of K, at most kMaxBlockRows, a multiple of 8

  int steps() const { return (rows + kStepRows - 1) / kStepRows; }
};

// What a row of x is in the rows of K of one block.
struct RowInBlock {
  int lowest_bit = 24;  // the unit is 2^(lowest_bit - 24)
  int count = 1;        // digits that it needs
  bool finite = true;   // false: its digits are those of a row of zeros
};

// Some rows of x, in the rows of K of one block. Does not own.
struct RowTile {
  // [step][kMaxDigits][height][kStepRows]; digit 0 weighs least. Zero after the
  // block's last row of K, and in rows that are only there to fill the tile.
  std::int8_t* digits;
  // [kMaxDigits][height], minus the sum of a row's digits, as 16 bits, zeros above.
  std::int32_t* minus_sums;
  float* units;          // [height], what digit 0 counts: a power of 2
  std::int16_t* places;  // [height], which row of the totals a row is
  int height;            // rows of memory, at most kTileRows
  int rows;              // true rows of x
  int count;             // digits that any of the rows needs
};

struct Microkernels {
  // `rows` of K of one row of x.
  RowInBlock (*measure)(const std::uint16_t* x, int rows);
  // Writes them as digits into row `row` of the tile, all tile.count, with their
  // sums and their unit. `as` is what measure() said.
  void (*split)(const std::uint16_t* x, int rows, const RowInBlock& as, const RowTile& tile, int row);
  // Unpacks codes in registers: for few rows of x, when reading the codes is the
  // cost. totals: [rows, kTileColumns], by place. tile.height <= kMaxDotRows.
  // Where `halves` is not null it gets half(scale[n] * round(sum)), what rounding a
  // total that was 0 before gives, and totals are neither read nor written.
  void (*dot)(const GroupBlock& block, const RowTile& tile, float* totals, std::uint16_t* halves);
  // Unpacks the codes to a panel of kPanelBytes, in an order of the instruction
  // set's own.
  void (*unpack)(const GroupBlock& block, void* panel);
  // What `dot` computes, from a panel, for several tiles.
  void (*multiply_panel)(const GroupBlock& block, const void* panel, const RowTile* tiles, int tile_count,
                         float* totals, std::uint16_t* halves);
  // multiply_panel needs tiles of the height kTileRows.
  bool full_tiles;
  // Around the calls of multiply_panel of one thread; null where nothing is needed.
  void (*enter)();
  void (*leave)();
  // `count` is a multiple of 8 in both. Halves are bits of IEEE binary16, rounded
  // to nearest even.
  void (*float_to_half)(const float* from, std::uint16_t* to, std::ptrdiff_t count);
  // y = half(y + addend), as a half2 atomic add has it.
  void (*add_halves)(const std::uint16_t* addend, std::uint16_t* y, std::ptrdiff_t count);
};
inline constexpr std::size_t kPanelBytes = std::size_t{kMaxBlockRows} * kTileColumns;

const Microkernels& PortableMicrokernels();
#if defined(__x86_64__)
const Microkernels& Avx2Microkernels();
const Microkernels& Avx512Microkernels();
const Microkernels& AmxMicrokernels();
#endif
const Microkernels& MicrokernelsFor(Isa isa);

}  // namespace kernels::cpu

#endif  // KERNELS_CPU_MICROKERNELS_H_
