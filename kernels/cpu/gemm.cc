#include "kernels/cpu/gemm.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>

#include "kernels/cpu/arrival_pool.h"

namespace int4::cpu {
namespace {

// Rows of x in one task. The decoded panel is used for all of them, and with the
// panel they stay within a second-level cache: 96 rows x (128 of x + 128 sums)
// + 128 x 128 weights, in float32, are 160 KiB.
constexpr std::int64_t kTaskRows = 96;
// Fewer multiplications than this are not worth waking a thread for.
constexpr std::int64_t kLeastWork = 1 << 16;

constexpr std::size_t kAlignment = 64;
struct AlignedDelete {
  void operator()(float* p) const { ::operator delete[](p, std::align_val_t(kAlignment)); }
};
// Grows only, one for each thread and use.
class Buffer {
 public:
  float* Get(std::size_t floats) {
    if (floats > size_) {
      data_.reset(static_cast<float*>(::operator new[](floats * sizeof(float), std::align_val_t(kAlignment))));
      size_ = floats;
    }
    return data_.get();
  }

 private:
  std::unique_ptr<float, AlignedDelete> data_;
  std::size_t size_ = 0;
};

struct Scratch {
  Buffer totals, panel, x;
};
Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
}

// One multiplication, and how its rows and columns are cut into tasks.
struct Problem {
  Problem(const Weights& w, const std::uint16_t* x_in, std::int64_t m_in)
      : weights(w), kernels(MicrokernelsFor(ActiveIsa(), w.layout)), x(x_in), m(m_in) {
    if (m <= kMaxDotRows) {
      row_blocks = 1;
      rows_in_block = m;
      // Used by all tasks; owned by the calling thread, which outlives them.
      thread_local Buffer converted;
      float* const to = converted.Get(static_cast<std::size_t>(m * w.k));
      kernels.half_to_float(x, to, m * w.k);
      x_float = to;
    } else {
      row_blocks = (m + kTaskRows - 1) / kTaskRows;
      rows_in_block = (m + row_blocks - 1) / row_blocks;
    }
  }

  std::int64_t rows(std::int64_t row_block) const { return std::min(rows_in_block, m - row_block * rows_in_block); }
  std::int64_t tasks() const { return weights.tiles() * row_blocks; }
  std::int64_t columns(std::int64_t tile) const {
    return std::min<std::int64_t>(TileWidth(weights.layout), weights.n - tile * TileWidth(weights.layout));
  }

  GroupBlock Block(std::int64_t tile, std::int64_t k, std::int64_t end) const {
    const std::int64_t group = k / weights.group_size;
    const std::int64_t group_end = (group + 1) * weights.group_size;
    const std::int64_t at = group * weights.padded_n() + tile * TileWidth(weights.layout);
    const std::int64_t word_row = weights.layout == WordLayout::kAlongK ? k / 8 : k;
    return {weights.words + tile * weights.tile_stride + word_row * weights.row_stride, weights.row_stride,
            weights.zeros + at, weights.scales + at,
            static_cast<int>(std::min({end - k, group_end - k, std::int64_t{kMaxBlockRows}}))};
  }

  // totals[rows, tile width] = x[rows of the block, begin..end) . W[begin..end, tile)
  void Accumulate(std::int64_t tile, std::int64_t row_block, std::int64_t begin, std::int64_t end,
                  float* totals) const {
    const int rows_here = static_cast<int>(rows(row_block));
    const int width = TileWidth(weights.layout);
    std::fill_n(totals, static_cast<std::int64_t>(rows_here) * width, 0.0F);
    Scratch& scratch = ThreadScratch();
    for (std::int64_t k = begin; k < end;) {
      const GroupBlock block = Block(tile, k, end);
      if (x_float != nullptr) {
        kernels.dot(block, rows_here, x_float + k, weights.k, totals);
      } else {
        float* const panel = scratch.panel.Get(static_cast<std::size_t>(kMaxBlockRows) * width);
        float* const x_block = scratch.x.Get(kTaskRows * kMaxBlockRows);
        for (int r = 0; r < rows_here; ++r) {
          kernels.half_to_float(x + (row_block * rows_in_block + r) * weights.k + k, x_block + r * block.rows,
                                block.rows);
        }
        kernels.decode(block, panel);
        kernels.multiply_panel(block, panel, rows_here, x_block, block.rows, totals);
      }
      k += block.rows;
    }
  }

  float* Totals() const {
    return ThreadScratch().totals.Get(static_cast<std::size_t>(rows_in_block) * TileWidth(weights.layout));
  }

  std::int64_t Grain(std::int64_t work_of_task) const {
    return std::max<std::int64_t>(1, kLeastWork / std::max<std::int64_t>(1, work_of_task));
  }

  const Weights& weights;
  const Microkernels& kernels;
  const std::uint16_t* x;
  const float* x_float = nullptr;  // set where rows are few
  std::int64_t m;
  std::int64_t row_blocks;
  std::int64_t rows_in_block;
};

// Rounds one row of a tile's sums to fp16, in column order.
void StoreRow(const Problem& problem, std::int64_t tile, const float* totals, std::uint16_t* y) {
  const std::int64_t columns = problem.columns(tile);
  if (problem.weights.layout == WordLayout::kAlongK) {
    problem.kernels.float_to_half(totals, y, columns);
    return;
  }
  constexpr int kLaneOfColumn[8] = {0, 4, 1, 5, 2, 6, 3, 7};  // the inverse of kAwqOrder
  constexpr int kWords = kTileAlongN / 8;
  float ordered[kTileAlongN];
  for (int c = 0; c < kWords; ++c) {
    for (int i = 0; i < 8; ++i) ordered[8 * c + i] = totals[kLaneOfColumn[i] * kWords + c];
  }
  problem.kernels.float_to_half(ordered, y, columns);
}

class SpinLock {
 public:
  void lock() {
    while (taken_.test_and_set(std::memory_order_acquire)) {
      // Its holder may have been preempted.
      std::this_thread::yield();
    }
  }
  void unlock() { taken_.clear(std::memory_order_release); }

 private:
  std::atomic_flag taken_;
};

}  // namespace

void OrderedGemm(const Weights& weights, const std::uint16_t* x, std::int64_t m, std::uint16_t* y) {
  if (m == 0) return;
  const Problem problem(weights, x, m);
  const int width = TileWidth(weights.layout);
  const std::int64_t grain = problem.Grain(problem.rows_in_block * width * weights.k);
  at::parallel_for(0, problem.tasks(), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t tile = task / problem.row_blocks, row_block = task % problem.row_blocks;
      float* const totals = problem.Totals();
      problem.Accumulate(tile, row_block, 0, weights.k, totals);
      std::uint16_t* const to = y + row_block * problem.rows_in_block * weights.n + tile * width;
      for (std::int64_t r = 0; r < problem.rows(row_block); ++r) {
        StoreRow(problem, tile, totals + r * width, to + r * weights.n);
      }
    }
  });
}

void SplitKGemmOrdered(const Weights& weights, const std::uint16_t* x, std::int64_t m, std::uint16_t* y) {
  if (m == 0) return;
  const Problem problem(weights, x, m);
  const std::int64_t grain = problem.Grain(problem.rows_in_block * kTileAlongK * weights.k);
  at::parallel_for(0, problem.tasks(), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      const std::int64_t tile = task / problem.row_blocks, row_block = task % problem.row_blocks;
      float* const totals = problem.Totals();
      std::uint16_t* const to = y + row_block * problem.rows_in_block * weights.n + tile * kTileAlongK;
      const std::int64_t rows = problem.rows(row_block), columns = problem.columns(tile);
      for (std::int64_t r = 0; r < rows; ++r) std::fill_n(to + r * weights.n, columns, std::uint16_t{0});
      for (std::int64_t k = 0; k < weights.k; k += kSplitK) {
        problem.Accumulate(tile, row_block, k, std::min(k + kSplitK, weights.k), totals);
        for (std::int64_t r = 0; r < rows; ++r) {
          problem.kernels.accumulate_half(totals + r * kTileAlongK, to + r * weights.n, columns);
        }
      }
    }
  });
}

void SplitKGemmArrival(const Weights& weights, const std::uint16_t* x, std::int64_t m, std::uint16_t* y) {
  if (m == 0) return;
  const Problem problem(weights, x, m);
  ArrivalPool& pool = ArrivalPool::Instance();
  const std::int64_t slices = (weights.k + kSplitK - 1) / kSplitK;
  const std::int64_t tasks = problem.tasks() * slices;
  std::memset(y, 0, static_cast<std::size_t>(m * weights.n) * sizeof(std::uint16_t));
  // One for each tile of the output: the CPU's stand-in for an atomic add of half2.
  const std::unique_ptr<SpinLock[]> locks(new SpinLock[problem.tasks()]);
  pool.RunOnAll([&](int worker) {
    // The slices of a tile go to different workers, as they go to different
    // thread blocks on a GPU; all workers pass over the tiles at the same time.
    for (std::int64_t task = worker; task < tasks; task += pool.workers()) {
      const std::int64_t output = task / slices, slice = task % slices;
      const std::int64_t tile = output / problem.row_blocks, row_block = output % problem.row_blocks;
      float* const totals = problem.Totals();
      problem.Accumulate(tile, row_block, slice * kSplitK, std::min((slice + 1) * kSplitK, weights.k), totals);
      std::uint16_t* const to = y + row_block * problem.rows_in_block * weights.n + tile * kTileAlongK;
      const std::lock_guard lock(locks[output]);
      for (std::int64_t r = 0; r < problem.rows(row_block); ++r) {
        problem.kernels.accumulate_half(totals + r * kTileAlongK, to + r * weights.n, problem.columns(tile));
      }
    }
  });
}

}  // namespace int4::cpu
