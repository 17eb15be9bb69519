// Sizes of the kernels for few rows of x (stream.cuh), as pure functions: the
// kernels use them on the device, their launches and plan.cc on the host.
#ifndef KERNELS_CUDA_STREAM_PLAN_H_
#define KERNELS_CUDA_STREAM_PLAN_H_

#include <cstdint>

#include "kernels/cuda/layout.h"

namespace kernels::cuda {

inline constexpr int kUnitBytes = kUnitK * kMarlinColumns / 2;
inline constexpr int kGroupBytes = 48;  // of one group in a strip: 16 scales, 16 zero points
inline constexpr int kSharers = 8;      // warps that share out K

// What becomes of the sums of a unit's rows: added in fp32, or rounded to half each
// and added in half, in a fixed order (units of a sharer ascending, then the sharers
// ascending) or by atomics as they arrive.
enum class Sums : std::uint8_t { kFloat, kHalfOrdered, kHalfArrival };

// Rings of copies: stages, and units in one. Of one row two blocks share a
// multiprocessor, which may be of two launches; of several rows one has it.
constexpr int StreamStages(int /*row_blocks*/) { return 3; }
constexpr int StreamStageUnits(int row_blocks) { return row_blocks == 0 ? 2 : 1; }
constexpr int StreamResidentBlocks(int row_blocks) { return row_blocks == 0 ? 2 : 1; }

// Of a block: warps, and bytes of its shared memory.
INT4_HOST_DEVICE constexpr int StreamWarps(int row_blocks) { return row_blocks == 0 ? kSharers : 2 * kSharers; }
INT4_HOST_DEVICE constexpr int StreamRingBytes(int row_blocks, int ring_units, int groups) {
  return StreamWarps(row_blocks) * ring_units * (kUnitBytes + kGroupBytes * groups);
}
// Units of a sharer's part of K.
INT4_HOST_DEVICE constexpr int StreamPartUnits(int units) { return (units + kSharers - 1) / kSharers; }
// A row of a piece of x; sixteen bytes more, so that rows begin in other banks.
INT4_HOST_DEVICE constexpr int StreamRowBytes(int row_blocks, int piece_units) {
  return piece_units * kUnitK * 2 + (row_blocks == 0 ? 0 : 16);
}
// Pieces of x, and an mbarrier for each.
INT4_HOST_DEVICE constexpr int StreamXBytes(int row_blocks, int m, int piece_units, int x_buffers) {
  return kSharers * x_buffers * (m * StreamRowBytes(row_blocks, piece_units) + 8);
}
// The blocks of a grid share out the strips (of several rows, pairs of strips)
// evenly: the first strip of block `block`.
INT4_HOST_DEVICE constexpr int StreamFirstStrip(int row_blocks, int strips, int block, int blocks) {
  const int step = row_blocks == 0 ? 1 : 2, steps = (strips + step - 1) / step;
  const int first = static_cast<int>(static_cast<std::int64_t>(steps) * block / blocks) * step;
  return first < strips ? first : strips;
}
// The sums that warps hand on: of one row those of all strips of the block, else of two.
INT4_HOST_DEVICE constexpr int StreamHandedBytes(int row_blocks, Sums sums, int m, int block_strips) {
  const int per_strip = kSharers * m * (sums == Sums::kFloat ? 64 : sums == Sums::kHalfOrdered ? 32 : 0);
  return per_strip * (row_blocks == 0 ? block_strips : 2);
}

// Groups in a unit of kUnitK rows that the kernel knows: 1, 2, 4; 0 for any others.
constexpr int StreamGroups(std::int64_t group_size) {
  return group_size % kUnitK == 0 ? 1 : group_size % (kUnitK / 2) == 0 ? 2 : group_size % (kUnitK / 4) == 0 ? 4 : 0;
}

struct StreamShape {
  int units = 0;         // of K
  int strips = 0;        // of 16 columns
  int piece_units = 0;   // of a piece of x
  int x_buffers = 0;     // pieces of each sharer in shared memory
  int shared_bytes = 0;  // of a block; more than the limit where nothing fits
};
// For a grid of `blocks`. As many pieces of x as `shared_limit` bytes have room for;
// this changes no bits.
constexpr StreamShape StreamShapeFor(int row_blocks, Sums sums, std::int64_t m, std::int64_t k, std::int64_t n,
                                     std::int64_t group_size, std::int64_t blocks, std::int64_t shared_limit) {
  StreamShape shape;
  const int rows = static_cast<int>(m);
  shape.units = static_cast<int>((k + kUnitK - 1) / kUnitK);
  shape.strips = static_cast<int>((n + kMarlinColumns - 1) / kMarlinColumns);
  const int step = row_blocks == 0 ? 1 : 2, steps = (shape.strips + step - 1) / step;
  const int block_strips = static_cast<int>((steps + blocks - 1) / blocks) * step;
  const int fixed =
      StreamRingBytes(row_blocks, StreamStages(row_blocks) * StreamStageUnits(row_blocks), StreamGroups(group_size)) +
      StreamHandedBytes(row_blocks, sums, rows, block_strips);
  const int part = StreamPartUnits(shape.units);
  const auto fits = [&](int piece_units, int x_buffers) {
    shape.piece_units = piece_units, shape.x_buffers = x_buffers;
    shape.shared_bytes = fixed + StreamXBytes(row_blocks, rows, piece_units, x_buffers);
    return shape.shared_bytes <= shared_limit;
  };
  if (row_blocks == 0) {
    fits(part, 1);
    return shape;
  }
  for (const int piece_units : {2, 1}) {
    const int pieces = (part + piece_units - 1) / piece_units;
    if (fits(piece_units, pieces)) return shape;
    for (int x_buffers = 4; x_buffers >= 2; --x_buffers) {
      if (x_buffers < pieces && fits(piece_units, x_buffers)) return shape;
    }
  }
  return shape;
}

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_STREAM_PLAN_H_
