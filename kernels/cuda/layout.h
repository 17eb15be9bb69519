// Which element each thread of a warp holds, as pure functions: the kernels and
// the repacking use them on the device, the tests on the host.
//
// A tensor-core instruction here is m16n8k16 with the weights as its first
// operand: 16 columns of W x 16 rows of K, times 16 rows of K x 8 rows of x. A
// lane is (g, t) = (lane / 4, lane % 4). Rows of K keep their order within an
// instruction, so that the same registers serve mma.sync and wgmma, which reads x
// from shared memory as it lies. Places g and g + 8 of the 16 columns are two
// neighbouring columns, so that a result is stored as half2.
#ifndef KERNELS_CUDA_LAYOUT_H_
#define KERNELS_CUDA_LAYOUT_H_

#include <cstdint>

#if defined(__CUDACC__)
#define INT4_HOST_DEVICE __host__ __device__
#else
#define INT4_HOST_DEVICE
#endif

namespace kernels::cuda {

inline constexpr int kTileK = 64;          // rows of K in a tile
inline constexpr int kUnitK = 2 * kTileK;  // in a unit, of which shares, splits and folds of K are made
inline constexpr int kMarlinColumns = 16;  // columns of a tile in Marlin order

// Row of K, within the tile, behind half `h` (0, 1) of register pair `pair`
// (0, 1) of instruction `j` (0..3), for lanes with this t. Both operands.
INT4_HOST_DEVICE constexpr int RowOfPlace(int t, int j, int pair, int h) { return 16 * j + 8 * pair + 2 * t + h; }

// The 16 columns of one instruction: register a[2 * pair + upper] of lane g
// belongs to column 2 g + upper of them.
INT4_HOST_DEVICE constexpr int ColumnOfPlace(int g, int upper) { return 2 * g + upper; }

// Marlin order: I32 [padded n / 16, padded k / 64, lane 32, j 4], one 16-byte
// load for each lane and tile. In a word, nibble upper + 2 pair + 4 h is the code
// of (RowOfPlace(t, j, pair, h), ColumnOfPlace(g, upper)): two masks and one
// shift expand the word to the four half2 registers of instruction j.
struct WordPosition {
  std::int64_t word = 0;
  int shift = 0;
};
INT4_HOST_DEVICE constexpr WordPosition MarlinPosition(std::int64_t k, std::int64_t n, std::int64_t padded_k) {
  const int row = static_cast<int>(k % kTileK), column = static_cast<int>(n % kMarlinColumns);
  const int j = row / 16, pair = row % 16 / 8, t = row % 8 / 2, h = row % 2;
  const int g = column / 2, upper = column % 2;
  const std::int64_t tile = n / kMarlinColumns * (padded_k / kTileK) + k / kTileK;
  return {(tile * 32 + 4 * g + t) * 4 + j, 4 * (upper + 2 * pair + 4 * h)};
}

// The column of an AWQ word that nibble i holds; kAwqOrder of int4_pack.h.
INT4_HOST_DEVICE constexpr int AwqColumnOfNibble(int i) { return 2 * (i % 4) + i / 4; }
INT4_HOST_DEVICE constexpr int AwqNibbleOfColumn(int c) { return c / 2 + 4 * (c % 2); }

INT4_HOST_DEVICE constexpr std::int64_t RoundUp(std::int64_t value, std::int64_t to) {
  return (value + to - 1) / to * to;
}
// x / group for 0 <= x < 2^16 is the upper half of x * GroupInverse(group), for
// any group up to 2^16: the error x / 2^32 is less than 1 / group.
INT4_HOST_DEVICE constexpr std::uint32_t GroupInverse(std::uint32_t group) {
  return static_cast<std::uint32_t>((0x100000000ULL + group - 1) / group);
}
inline constexpr std::int64_t kMaxK = 65535;
// Columns are counted in int, also with those of the last tile.
inline constexpr std::int64_t kMaxN = std::int64_t{1} << 30;

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_LAYOUT_H_
