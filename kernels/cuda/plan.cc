#include "kernels/cuda/plan.h"

#include <algorithm>

#include "kernels/cuda/layout.h"
#include "kernels/cuda/stream_plan.h"

namespace kernels::cuda {
namespace {

std::int64_t CeilDiv(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Splits of K, of at least `least` tiles each, for about `blocks` thread blocks in all.
void SplitK(std::int64_t k, std::int64_t n, std::int64_t blocks, std::int64_t least, Plan& plan) {
  const std::int64_t k_tiles = CeilDiv(k, kTileK), column_tiles = CeilDiv(n, plan.columns);
  const std::int64_t wanted =
      std::clamp<std::int64_t>(blocks / column_tiles, 1, std::max<std::int64_t>(1, k_tiles / least));
  plan.tiles_per_split = CeilDiv(k_tiles, wanted);
  plan.splits = CeilDiv(k_tiles, plan.tiles_per_split);
}

// As many blocks as find room at once, or fewer: of one row a block takes 64 units of
// kUnitK rows at least, where that leaves no multiprocessor idle, of several rows a
// pair of strips. Of one row the sums of all of a block's strips lie in shared memory:
// no more than 16 strips. False where a block has no room.
bool Stream(std::int64_t m, std::int64_t k, std::int64_t n, int multiprocessors, std::int64_t group_size,
            int shared_limit, Plan& plan) {
  plan.path = Path::kStream;
  plan.row_blocks = m == 1 ? 0 : m <= 8 ? 1 : 2;
  const std::int64_t columns = m == 1 ? kMarlinColumns : 2 * kMarlinColumns, steps = CeilDiv(n, columns);
  const std::int64_t most = static_cast<std::int64_t>(multiprocessors) * StreamResidentBlocks(plan.row_blocks);
  if (m == 1) {
    const std::int64_t least = std::clamp<std::int64_t>(64 / CeilDiv(k, kUnitK), 1,
                                                        std::max<std::int64_t>(1, CeilDiv(steps, multiprocessors)));
    plan.blocks = static_cast<int>(std::min(CeilDiv(steps, least), std::max(most, CeilDiv(steps, 16))));
  } else {
    plan.blocks = static_cast<int>(std::min(steps, most));
  }
  plan.columns = static_cast<int>(columns * CeilDiv(steps, plan.blocks));
  // Those that take the most room: all families go the same way.
  return StreamShapeFor(plan.row_blocks, Sums::kFloat, m, k, n, group_size, plan.blocks, shared_limit).shared_bytes <=
         shared_limit;
}

}  // namespace

Plan PlanFor(Family family, std::int64_t m, std::int64_t k, std::int64_t n, int multiprocessors, int sm,
             std::int64_t group_size, bool batch_invariant, int shared_limit) {
  const bool wgmma = sm == 90 && group_size % kWgmmaGroupRows == 0;
  Plan plan;
  if (m <= kMaxStreamRows && !batch_invariant && Stream(m, k, n, multiprocessors, group_size, shared_limit, plan)) {
    return plan;
  }
  plan = Plan();
  if (family == Family::kGptq && m <= kMaxSliceRows) {
    plan.path = Path::kSlices;
    plan.row_blocks = m <= 8 ? 1 : m <= 16 ? 2 : m <= 32 ? 4 : 7;
    plan.column_blocks = 2;
    plan.columns = 128;
    plan.tiles_per_split = kSliceK / kTileK;
    plan.splits = CeilDiv(k, kSliceK);
    return plan;
  }
  if (wgmma) return WgmmaPlanFor(m, k, n, multiprocessors, batch_invariant);
  if (m <= kMaxTileRows || batch_invariant) {
    plan.path = Path::kTile;
    plan.row_blocks = m <= 32 ? 4 : m <= 64 ? 8 : 16;
    plan.column_blocks = 2;
    plan.columns = 4 * 16 * plan.column_blocks;
    SplitK(k, n, 2LL * multiprocessors, 4, plan);
    return plan;
  }
  plan.path = Path::kDequantize;
  return plan;
}

std::string NameOf(const Plan& plan) {
  const std::string splits = plan.splits > 1 ? ", K in " + std::to_string(plan.splits) + " splits" : "";
  switch (plan.path) {
    case Path::kStream:
      return "stream";
    case Path::kTile:
      return "tiles of " + std::to_string(8 * plan.row_blocks) + " rows" + splits;
    case Path::kWgmma:
      return "wgmma, tiles of " + std::to_string(8 * plan.row_blocks) + " rows x " + std::to_string(plan.columns) +
             " columns" + splits + (plan.folded ? " of one block" : "");
    case Path::kSlices:
      return "slices of " + std::to_string(kSliceK) + " rows of K";
    case Path::kDequantize:
      return "dequantize, then at::mm";
  }
  return "unknown";
}

}  // namespace kernels::cuda
