#include "kernels/cpu/gemm.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <new>

#include "kernels/cpu/arrival_pool.h"

namespace kernels::cpu {
namespace {

// Rows of x in one task. The decoded panel is used for all of them, and with the
// panel they stay within a second-level cache: 96 rows x (128 of x + 128 sums)
// + 128 x 128 weights, in float32, are 160 KiB.
constexpr std::int64_t kTaskRows = 96;
// Tiles that one task of few rows takes together where the tiles of a row of
// words are neighbours: it then reads 512 bytes or more at a time, and each page
// serves them all.
constexpr std::int64_t kStripTiles = 8;
// Strips are cut narrower than that rather than leave fewer of them than this.
constexpr std::int64_t kLeastStrips = 16;
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

// One multiplication, and how its rows and columns are cut into tasks: a task is
// some rows of x and a strip of tiles, and either the rows or the tiles are few.
struct Problem {
  Problem(const Weights& w, const std::uint16_t* x_in, std::int64_t m_in)
      : weights(w), kernels(MicrokernelsFor(ActiveIsa(), w.layout)), width(TileWidth(w.layout)), x(x_in), m(m_in) {
    if (m <= kMaxDotRows) {
      rows_in_block = m;
      const bool row_major = w.tile_stride < w.row_stride;
      if (row_major) strip_tiles = std::clamp<std::int64_t>(w.tiles() / kLeastStrips, 1, kStripTiles);
      // Used by all tasks; owned by the calling thread, which outlives them.
      thread_local Buffer converted;
      float* const to = converted.Get(static_cast<std::size_t>(m * w.k));
      kernels.half_to_float(x, to, m * w.k);
      x_float = to;
    } else {
      row_blocks = (m + kTaskRows - 1) / kTaskRows;
      rows_in_block = (m + row_blocks - 1) / row_blocks;
    }
    strips = (w.tiles() + strip_tiles - 1) / strip_tiles;
  }

  std::int64_t tasks() const { return strips * row_blocks; }
  std::int64_t Grain() const {
    return std::max<std::int64_t>(1, kLeastWork / (rows_in_block * strip_tiles * width * weights.k));
  }

  const Weights& weights;
  const Microkernels& kernels;
  const int width;
  const std::uint16_t* x;
  const float* x_float = nullptr;  // set where rows are few
  const std::int64_t m;
  std::int64_t row_blocks = 1;
  std::int64_t rows_in_block = 0;
  std::int64_t strip_tiles = 1;
  std::int64_t strips = 0;
};

class Task {
 public:
  Task(const Problem& problem, std::int64_t index)
      : problem_(problem),
        row_block_(index % problem.row_blocks),
        first_tile_(index / problem.row_blocks * problem.strip_tiles),
        tiles_(std::min(problem.strip_tiles, problem.weights.tiles() - first_tile_)),
        totals_(ThreadScratch().totals.Get(
            static_cast<std::size_t>(problem.rows_in_block * problem.strip_tiles * problem.width))) {}

  std::int64_t tiles() const { return tiles_; }
  std::int64_t tile(std::int64_t i) const { return first_tile_ + i; }
  std::int64_t rows() const {
    return std::min(problem_.rows_in_block, problem_.m - row_block_ * problem_.rows_in_block);
  }
  std::int64_t columns(std::int64_t i) const {
    return std::min<std::int64_t>(problem_.width, problem_.weights.n - tile(i) * problem_.width);
  }
  const float* totals(std::int64_t i, std::int64_t row) const { return totals_ + (i * rows() + row) * problem_.width; }
  std::uint16_t* result(std::uint16_t* y, std::int64_t i, std::int64_t row) const {
    return y + (row_block_ * problem_.rows_in_block + row) * problem_.weights.n + tile(i) * problem_.width;
  }

  // totals = x[rows, begin..end) . W[begin..end, tiles)
  void Accumulate(std::int64_t begin, std::int64_t end) const {
    std::fill_n(totals_, tiles_ * rows() * problem_.width, 0.0F);
    for (std::int64_t k = begin; k < end;) {
      int block_rows = 0;
      for (std::int64_t i = 0; i < tiles_; ++i) {
        const GroupBlock block = Block(i, k, end);
        block_rows = block.rows;
        float* const totals = totals_ + i * rows() * problem_.width;
        if (problem_.x_float != nullptr) {
          problem_.kernels.dot(block, static_cast<int>(rows()), problem_.x_float + k, problem_.weights.k, totals);
        } else {
          MultiplyByPanel(block, k, totals);
        }
      }
      k += block_rows;
    }
  }

 private:
  // Rows from k on that share a scale, of tile i of the strip.
  GroupBlock Block(std::int64_t i, std::int64_t k, std::int64_t end) const {
    const Weights& w = problem_.weights;
    const std::int64_t group = k / w.group_size;
    const std::int64_t group_end = (group + 1) * w.group_size;
    const std::int64_t lane = group * w.padded_n() + tile(i) * problem_.width;
    const int rows_of_word = w.layout == WordLayout::kAlongK ? 8 : 1;
    GroupBlock block;
    block.words = w.words + tile(i) * w.tile_stride + k / rows_of_word * w.row_stride;
    block.row_stride = w.row_stride;
    block.zeros = w.zeros + lane;
    block.scales = w.scales + lane;
    block.rows = static_cast<int>(std::min({end - k, group_end - k, std::int64_t{kMaxBlockRows}}));
    // The same rows of the next tile; after the last, the next rows of the first.
    if (i + 1 < tiles_) {
      block.prefetch = w.tile_stride;
    } else if (k + block.rows < end) {
      block.prefetch = block.rows / rows_of_word * w.row_stride - i * w.tile_stride;
    } else {
      block.prefetch = 0;
    }
    return block;
  }

  void MultiplyByPanel(const GroupBlock& block, std::int64_t k, float* totals) const {
    Scratch& scratch = ThreadScratch();
    float* const panel = scratch.panel.Get(static_cast<std::size_t>(kMaxBlockRows) * problem_.width);
    float* const x_block = scratch.x.Get(kTaskRows * kMaxBlockRows);
    for (std::int64_t r = 0; r < rows(); ++r) {
      const std::int64_t row = row_block_ * problem_.rows_in_block + r;
      problem_.kernels.half_to_float(problem_.x + row * problem_.weights.k + k, x_block + r * block.rows, block.rows);
    }
    problem_.kernels.decode(block, panel);
    problem_.kernels.multiply_panel(block, panel, static_cast<int>(rows()), x_block, block.rows, totals);
  }

  const Problem& problem_;
  const std::int64_t row_block_;
  const std::int64_t first_tile_;
  const std::int64_t tiles_;
  float* const totals_;
};

// Rounds one row of a tile's sums to fp16, in column order.
void StoreRow(const Problem& problem, std::int64_t columns, const float* totals, std::uint16_t* y) {
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

// y += half(totals), tile i of a task.
void AddTile(const Problem& problem, const Task& task, std::int64_t i, std::uint16_t* y) {
  for (std::int64_t r = 0; r < task.rows(); ++r) {
    problem.kernels.accumulate_half(task.totals(i, r), task.result(y, i, r), task.columns(i));
  }
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
  at::parallel_for(0, problem.tasks(), problem.Grain(), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      const Task task(problem, index);
      task.Accumulate(0, weights.k);
      for (std::int64_t i = 0; i < task.tiles(); ++i) {
        for (std::int64_t r = 0; r < task.rows(); ++r) {
          StoreRow(problem, task.columns(i), task.totals(i, r), task.result(y, i, r));
        }
      }
    }
  });
}

void SplitKGemmOrdered(const Weights& weights, const std::uint16_t* x, std::int64_t m, std::uint16_t* y) {
  if (m == 0) return;
  const Problem problem(weights, x, m);
  at::parallel_for(0, problem.tasks(), problem.Grain(), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t index = begin; index < end; ++index) {
      const Task task(problem, index);
      for (std::int64_t i = 0; i < task.tiles(); ++i) {
        for (std::int64_t r = 0; r < task.rows(); ++r) {
          std::fill_n(task.result(y, i, r), task.columns(i), std::uint16_t{0});
        }
      }
      for (std::int64_t k = 0; k < weights.k; k += kSplitK) {
        task.Accumulate(k, std::min(k + kSplitK, weights.k));
        for (std::int64_t i = 0; i < task.tiles(); ++i) AddTile(problem, task, i, y);
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
  // One for each task of the output: the CPU's stand-in for atomic adds of half2.
  const std::unique_ptr<SpinLock[]> locks(new SpinLock[problem.tasks()]);
  pool.RunOnAll([&](int worker) {
    // The slices of an output go to different workers, as they go to different
    // thread blocks on a GPU; all workers pass over the outputs at the same time.
    for (std::int64_t index = worker; index < tasks; index += pool.workers()) {
      const std::int64_t output = index / slices, slice = index % slices;
      const Task task(problem, output);
      task.Accumulate(slice * kSplitK, std::min((slice + 1) * kSplitK, weights.k));
      const std::lock_guard lock(locks[output]);
      for (std::int64_t i = 0; i < task.tiles(); ++i) AddTile(problem, task, i, y);
    }
  });
}

}  // namespace kernels::cpu
