// Tiles of the wgmma kernel, by an estimate of the time that each takes.
#include <algorithm>
#include <iterator>

#include "kernels/cuda/layout.h"
#include "kernels/cuda/plan.h"

namespace kernels::cuda {
namespace {

// Microseconds for one unit of K, all multiprocessors at work, as measured on an
// H100; in the order of kWgmmaTiles.
constexpr double kUnitTimes[] = {0.50, 0.56, 0.50, 0.70, 0.76, 1.07, 1.13, 1.60, 1.40};
static_assert(std::size(kUnitTimes) == std::size(kWgmmaTiles));
constexpr WgmmaTile kFoldTile = {128, 128};
constexpr double kFoldTime = 0.80;

std::int64_t CeilDiv(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Blocks that run at a time as clusters of `splits`: a cluster lies within one of the
// groups of 14 to 18 multiprocessors that a GPU is made of.
std::int64_t BlocksAtATime(std::int64_t splits, int multiprocessors) {
  if (splits == 1) return multiprocessors;
  if (splits == 2) return std::max<std::int64_t>(2, (multiprocessors - 4) / 2 * 2);
  return std::max(splits, multiprocessors * 7 / 8 / splits * splits);
}

// A block takes `units` units of K.
double Microseconds(const WgmmaTile& tile, double unit_time, std::int64_t m, std::int64_t n, std::int64_t splits,
                    std::int64_t units, int multiprocessors) {
  const std::int64_t blocks = CeilDiv(m, tile.rows) * CeilDiv(n, tile.columns) * splits;
  const auto waves = static_cast<double>(CeilDiv(blocks, BlocksAtATime(splits, multiprocessors)));
  const double addition = splits == 1 ? 0.0 : 2.0 + tile.rows / 85.0;
  const double another = splits == 1 ? 0.0 : 5.0;  // for each wave of clusters after the first
  return waves * (static_cast<double>(units) * unit_time + addition) + (waves - 1) * another;
}

}  // namespace

std::int64_t InvariantSplits(std::int64_t k, std::int64_t n, int multiprocessors) {
  const std::int64_t units = CeilDiv(k, kUnitK);
  const std::int64_t wanted = std::clamp<std::int64_t>(multiprocessors * 7 / 8 / CeilDiv(n, 192), 1, kMaxWgmmaSplits);
  return CeilDiv(units, CeilDiv(units, std::min(wanted, units)));
}

Plan WgmmaPlanFor(std::int64_t m, std::int64_t k, std::int64_t n, int multiprocessors, bool batch_invariant) {
  const std::int64_t units = CeilDiv(k, kUnitK);
  const std::int64_t fixed = batch_invariant ? InvariantSplits(k, n, multiprocessors) : 0;
  Plan best;
  double least = 0;
  const auto consider = [&](const WgmmaTile& tile, double unit_time, std::int64_t splits, bool folded) {
    const std::int64_t part = CeilDiv(units, splits);
    if (CeilDiv(units, part) != splits) return;  // a split would be empty
    const double time =
        Microseconds(tile, unit_time, m, n, folded ? 1 : splits, folded ? units : part, multiprocessors);
    if (best.columns != 0 && time >= least) return;
    least = time;
    best.path = Path::kWgmma;
    best.row_blocks = tile.rows / 8;
    best.columns = tile.columns;
    best.splits = splits;
    best.tiles_per_split = part * (kUnitK / kTileK);
    best.folded = folded;
    best.blocks = multiprocessors;
  };
  for (std::size_t i = 0; i < std::size(kWgmmaTiles); ++i) {
    const WgmmaTile& tile = kWgmmaTiles[i];
    if (batch_invariant) {
      consider(tile, kUnitTimes[i], fixed, false);
      continue;
    }
    for (std::int64_t splits = 1; splits <= std::min<std::int64_t>(kMaxWgmmaSplits, units); ++splits) {
      // Several waves of clusters would only add sums.
      const std::int64_t blocks = CeilDiv(m, tile.rows) * CeilDiv(n, tile.columns) * splits;
      if (splits == 1 || blocks <= BlocksAtATime(splits, multiprocessors)) consider(tile, kUnitTimes[i], splits, false);
    }
  }
  if (batch_invariant && fixed > 1) consider(kFoldTile, kFoldTime, fixed, true);
  return best;
}

}  // namespace kernels::cuda
