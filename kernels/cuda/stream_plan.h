// Sizes of the kernels for few rows of x (stream.cuh), as pure functions: the
// kernels use them on the device, their launches and plan.cc on the host.
#ifndef KERNELS_CUDA_STREAM_PLAN_H_
#define KERNELS_CUDA_STREAM_PLAN_H_

#include <cstdint>

#include "kernels/cuda/layout.h"

namespace kernels::cuda {

inline constexpr int kUnitK = 2 * kTileK;
inline constexpr int kUnitBytes = kUnitK * kMarlinColumns / 2;
inline constexpr int kGroupBytes = 48;  // of one group in a strip: 16 scales, 16 zero points
inline constexpr int kSharers = 8;      // warps that share out K
inline constexpr int kPieceUnits = kSharers;
inline constexpr int kPieceRowBytes = kPieceUnits * kUnitK * 2 + 16;  // 16: rows begin in other banks

// What becomes of the sums of a unit's rows: added in fp32, or rounded to half each
// and added in half, in ascending order or by atomics as they arrive.
enum class Sums : std::uint8_t { kFloat, kHalfOrdered, kHalfArrival };

// Rings of copies: stages, and units in one. Of one row three blocks share a
// multiprocessor, of several rows one has it.
constexpr int StreamStages(int /*row_blocks*/) { return 3; }
constexpr int StreamStageUnits(int row_blocks) { return row_blocks == 0 ? 2 : 1; }
constexpr int StreamResidentBlocks(int row_blocks) { return row_blocks == 0 ? 3 : 1; }

// Of a block: warps, and bytes of its shared memory.
INT4_HOST_DEVICE constexpr int StreamWarps(int row_blocks) { return row_blocks == 0 ? kSharers : 2 * kSharers; }
INT4_HOST_DEVICE constexpr int StreamRingBytes(int row_blocks, int ring_units, int groups) {
  return StreamWarps(row_blocks) * ring_units * (kUnitBytes + kGroupBytes * groups);
}
INT4_HOST_DEVICE constexpr int StreamXBytes(int row_blocks, int units, int m, int x_buffers) {
  return row_blocks == 0 ? units * (kUnitK * 2) : x_buffers * m * kPieceRowBytes;
}
// mbarriers: of each warp's part of one row, or of each piece in shared memory.
INT4_HOST_DEVICE constexpr int StreamBarrierBytes(int row_blocks, int x_buffers) {
  return row_blocks == 0 ? kSharers * 8 : RoundUp(x_buffers, 2) * 8;
}
// The blocks of a grid share out the strips (of several rows, pairs of strips)
// evenly: the first strip of block `block`.
INT4_HOST_DEVICE constexpr int StreamFirstStrip(int row_blocks, int strips, int block, int blocks) {
  const int step = row_blocks == 0 ? 1 : 2, steps = (strips + step - 1) / step;
  const int first = static_cast<int>(static_cast<std::int64_t>(steps) * block / blocks) * step;
  return first < strips ? first : strips;
}
INT4_HOST_DEVICE constexpr int StreamHandedBytes(int row_blocks, Sums sums, int units, int m, int block_strips) {
  const int per_strip = sums == Sums::kFloat         ? kSharers * m * 64
                        : sums == Sums::kHalfArrival ? 0
                                                     : (row_blocks == 0 ? units : kPieceUnits) * m * 32;
  return per_strip * (row_blocks == 0 ? block_strips : 2 * (StreamWarps(row_blocks) / kSharers));
}

// Groups in a unit of kUnitK rows that the kernel knows: 1, 2, 4; 0 for any others.
constexpr int StreamGroups(std::int64_t group_size) {
  return group_size % kUnitK == 0 ? 1 : group_size % (kUnitK / 2) == 0 ? 2 : group_size % (kUnitK / 4) == 0 ? 4 : 0;
}

struct StreamShape {
  int units = 0;         // of K
  int strips = 0;        // of 16 columns
  int pieces = 0;        // of K, in which x comes
  int x_buffers = 0;     // pieces that lie in shared memory
  int shared_bytes = 0;  // of a block
};
// For a grid of `blocks`. All pieces of x where `shared_limit` bytes have room for
// them, else two in turns; this changes no bits.
constexpr StreamShape StreamShapeFor(int row_blocks, Sums sums, std::int64_t m, std::int64_t k, std::int64_t n,
                                     std::int64_t group_size, std::int64_t blocks, std::int64_t shared_limit) {
  StreamShape shape;
  const int rows = static_cast<int>(m);
  shape.units = static_cast<int>((k + kUnitK - 1) / kUnitK);
  shape.strips = static_cast<int>((n + kMarlinColumns - 1) / kMarlinColumns);
  const int step = row_blocks == 0 ? 1 : 2, steps = (shape.strips + step - 1) / step;
  const int block_strips = static_cast<int>((steps + blocks - 1) / blocks) * step;
  shape.pieces = row_blocks == 0 ? 1 : (shape.units + kPieceUnits - 1) / kPieceUnits;
  const int fixed = StreamRingBytes(row_blocks, StreamStages(row_blocks) * StreamStageUnits(row_blocks),
                                    StreamGroups(group_size)) +
                    StreamHandedBytes(row_blocks, sums, shape.units, rows, block_strips);
  for (shape.x_buffers = shape.pieces;; shape.x_buffers = 2) {
    shape.shared_bytes = fixed + StreamXBytes(row_blocks, shape.units, rows, shape.x_buffers) +
                         StreamBarrierBytes(row_blocks, shape.x_buffers);
    if (shape.shared_bytes <= shared_limit || shape.x_buffers <= 2) return shape;
  }
}

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_STREAM_PLAN_H_
