// The inner loops of the CPU matmuls, once for each instruction set.
//
// All of them compute, for one tile of columns and one block of at most 128
// rows of K that share a scale,
//
//   total[r, n] = fma(scale[n], sum over k of x[r, k] (q[k, n] - z[n]), total[r, n])
//
// in float32, where q - z is an exact integer and the sum is a chain of fused
// multiply-adds in ascending k that starts at +0. Vector lanes run along N only.
// So the bits of an output depend neither on the vector width, nor on how many
// rows are computed together, nor on whether the codes were decoded to a panel
// first: all paths give the same.
#ifndef KERNELS_CPU_MICROKERNELS_H_
#define KERNELS_CPU_MICROKERNELS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace kernels::cpu {

// How 32-bit words of eight codes lie in a tile.
enum class WordLayout : std::uint8_t {
  kAlongK,  // word [row of 8 k][column]: GPTQ's, and that of the Marlin tiles
  kAlongN,  // word [k][8 columns, kAwqOrder]: AWQ's
};

// Columns in a tile: one cache line and a half-line of words are too few to
// stream well, and more columns than this leave too few tasks for small layers.
inline constexpr int kTileAlongK = 64;
inline constexpr int kTileAlongN = 128;
constexpr int TileWidth(WordLayout layout) { return layout == WordLayout::kAlongK ? kTileAlongK : kTileAlongN; }

// In a tile of kAlongN a column's lane is not its position: lane 16 i + c holds
// column 8 c + kAwqOrder[i], since nibble i of 16 neighbouring words is one
// vector. Zero points, scales, panels and totals of that layout are in lane order.

// Rows that share one scale, in one tile.
struct GroupBlock {
  const std::uint32_t* words;   // the tile's first word of the block's first row
  std::ptrdiff_t row_stride;    // in words
  const std::uint8_t* zeros;    // [tile width], lane order
  const std::uint16_t* scales;  // fp16 bits, [tile width], lane order
  int rows;                     // of K, at most kMaxBlockRows, a multiple of 8
  // Words from each word to one that will be wanted soon: in a row-major layout
  // the rows of a tile lie pages apart, which hardware prefetchers do not follow.
  std::ptrdiff_t prefetch;
};
inline constexpr int kMaxBlockRows = 128;
// Rows of x that `dot` takes at once.
inline constexpr int kMaxDotRows = 4;

struct Microkernels {
  // Decodes in registers: for few rows of x, when reading the codes is the cost.
  // x: [m, block.rows] with stride ldx; totals: [m, tile width].
  void (*dot)(const GroupBlock& block, int m, const float* x, std::ptrdiff_t ldx, float* totals);
  // Writes q - z to panel [block.rows, tile width].
  void (*decode)(const GroupBlock& block, float* panel);
  // The same sum as `dot`, from a decoded panel, for any m.
  void (*multiply_panel)(const GroupBlock& block, const float* panel, int m, const float* x, std::ptrdiff_t ldx,
                         float* totals);
  // `count` is a multiple of 8 in all of these. Halves are bits of IEEE binary16,
  // rounded to nearest even.
  void (*half_to_float)(const std::uint16_t* from, float* to, std::ptrdiff_t count);
  void (*float_to_half)(const float* from, std::uint16_t* to, std::ptrdiff_t count);
  // y = half(y + half(addend)): each addend is rounded first, as a half2 atomic add has it.
  void (*accumulate_half)(const float* addend, std::uint16_t* y, std::ptrdiff_t count);
};

const Microkernels& PortableMicrokernels(WordLayout layout);
#if defined(__x86_64__)
const Microkernels& Avx2Microkernels(WordLayout layout);
const Microkernels& Avx512Microkernels(WordLayout layout);
#endif
const Microkernels& MicrokernelsFor(Isa isa, WordLayout layout);

}  // namespace kernels::cpu

#endif  // KERNELS_CPU_MICROKERNELS_H_
