#include "kernels/cpu/gemm.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "kernels/cpu/arrival_pool.h"

namespace kernels::cpu {
namespace {

// Rows of x whose digits are held at a time: up to 6 bytes for each of x.
constexpr std::int64_t kRowsAtOnce = 512;
// Rows of x in one task. An unpacked panel serves all of them, and their digits
// for K = 4096 (some 900 KiB) stay in a second-level cache while a thread goes
// from strip to strip.
constexpr std::int64_t kTaskRows = 64;
// Tiles of columns that one task takes together: they read the digits once.
constexpr std::int64_t kStripTiles = 4;
// Strips are cut narrower than that rather than leave fewer tasks than this.
constexpr std::int64_t kLeastTasks = 16;
// Fewer multiplications than this are not worth waking a thread for.
constexpr std::int64_t kLeastWork = 1 << 17;
// Splitting an element into digits costs as much as so many multiplications.
constexpr std::int64_t kSplitCost = 16;

constexpr std::size_t kAlignment = 64;
// Grows only, one for each thread and use.
class Buffer {
 public:
  template <class T>
  T* Get(std::size_t count) {
    const std::size_t bytes = count * sizeof(T);
    if (bytes > size_) {
      data_.reset();  // before the new one
      data_.reset(static_cast<std::byte*>(::operator new[](bytes, std::align_val_t(kAlignment))));
      size_ = bytes;
    }
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  struct Delete {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t(kAlignment)); }
  };
  std::unique_ptr<std::byte, Delete> data_;
  std::size_t size_ = 0;
};

// What a thread needs to multiply.
struct Scratch {
  Buffer totals, panel, halves, partial;
};
Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
}
// What a caller's digits lie in; the threads that multiply read it.
struct DigitMemory {
  Buffer digits, sums, units, places, arrived;
};
DigitMemory& CallerMemory() {
  thread_local DigitMemory memory;
  return memory;
}

// Rows of K that share a scale and, where K is split, a slice.
struct Block {
  std::int64_t k = 0, group = 0;
  int rows = 0;
  std::int64_t first_step = 0;  // steps of kStepRows before it

  int steps() const { return (rows + kStepRows - 1) / kStepRows; }
};

// Of a half that is not finite.
float SpecialValue(std::uint16_t half) {
  if ((half & 0x7FFF) != 0x7C00) return std::numeric_limits<float>::quiet_NaN();
  return (half & 0x8000) != 0 ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::infinity();
}

// One multiplication, and how its rows and columns are cut into tasks: a task is
// some tiles of rows of x and a strip of tiles of columns.
class Problem {
 public:
  // Writes the digits of all of x. slice: rows of K that end a block, too.
  Problem(const Weights& w, const std::uint16_t* x, std::int64_t m, std::int64_t slice)
      : weights(w), kernels(MicrokernelsFor(ActiveIsa())), by_dot(m <= kMaxDotRows), x_(x), m_(m) {
    std::int64_t steps = 0;
    for (std::int64_t k = 0; k < w.k; k += blocks.back().rows) {
      const std::int64_t group = k / w.group_size;
      const std::int64_t end =
          std::min({w.k, (group + 1) * w.group_size, (k / slice + 1) * slice, k + std::int64_t{kMaxBlockRows}});
      blocks.push_back({k, group, static_cast<int>(end - k), steps});
      steps += blocks.back().steps();
    }
    // Few rows, or as many in every tile, where the tiles need not be full.
    row_tiles = (m + kTileRows - 1) / kTileRows;
    height = kernels.full_tiles && !by_dot ? kTileRows : static_cast<int>((m + row_tiles - 1) / row_tiles);
    task_tiles = std::min(row_tiles, kTaskRows / height);
    row_blocks = (row_tiles + task_tiles - 1) / task_tiles;
    // A slice's strip is what threads take turns to add to: fewer, longer turns.
    const bool alone = by_dot && slice >= w.k;
    strip_tiles = std::clamp<std::int64_t>(w.tiles() * row_blocks / kLeastTasks, 1, alone ? 1 : kStripTiles);
    strips = (w.tiles() + strip_tiles - 1) / strip_tiles;
    Split(steps);
  }

  std::int64_t tasks() const { return strips * row_blocks; }
  std::int64_t Grain() const {
    return std::max<std::int64_t>(
        1, kLeastWork / (std::min<std::int64_t>(task_tiles * height, m_) * strip_tiles * kTileColumns * weights.k));
  }
  const RowTile* TilesOf(std::int64_t block, std::int64_t row_tile) const {
    return &tiles_[static_cast<std::size_t>(block * row_tiles + row_tile)];
  }
  bool all_finite() const { return all_finite_.load(std::memory_order_relaxed); }
  bool IsFinite(std::int64_t block, std::int64_t row) const {
    return finite_[static_cast<std::size_t>(block * m_ + row)] != 0;
  }
  std::int64_t m() const { return m_; }
  const std::uint16_t* RowOf(std::int64_t row) const { return x_ + row * weights.k; }

  const Weights& weights;
  const Microkernels& kernels;
  const bool by_dot;
  std::vector<Block> blocks;
  int height = 0;  // rows of a tile of x
  std::int64_t row_tiles = 0;
  std::int64_t task_tiles = 0;  // of rows, in a task
  std::int64_t row_blocks = 0;
  std::int64_t strip_tiles = 0;  // of columns, in a task
  std::int64_t strips = 0;

 private:
  void Split(std::int64_t steps) {
    DigitMemory& memory = CallerMemory();
    const auto block_count = static_cast<std::int64_t>(blocks.size());
    const std::int64_t step_bytes = std::int64_t{kMaxDigits} * height * kStepRows;
    auto* const digits = memory.digits.Get<std::int8_t>(static_cast<std::size_t>(row_tiles * steps * step_bytes));
    auto* const sums =
        memory.sums.Get<std::int32_t>(static_cast<std::size_t>(row_tiles * block_count * kMaxDigits * height));
    auto* const units = memory.units.Get<float>(static_cast<std::size_t>(row_tiles * block_count * height));
    tiles_.resize(static_cast<std::size_t>(row_tiles * block_count));
    finite_.assign(static_cast<std::size_t>(m_ * block_count), 1);
    auto* const places = memory.places.Get<std::int16_t>(static_cast<std::size_t>(row_tiles * block_count * height));
    const std::int64_t grain = std::max<std::int64_t>(
        1, kLeastWork / (kSplitCost * std::min<std::int64_t>(task_tiles * height, m_) * kMaxBlockRows));
    at::parallel_for(0, row_blocks * block_count, grain, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t b = i % block_count, first = i / block_count * task_tiles;
        const Block& block = blocks[static_cast<std::size_t>(b)];
        const std::int64_t count = std::min(task_tiles, row_tiles - first);
        RowTile* const tiles = &tiles_[static_cast<std::size_t>(b * row_tiles + first)];
        for (std::int64_t t = 0; t < count; ++t) {
          const std::int64_t row_tile = first + t, index = row_tile * block_count + b;
          tiles[t].digits = digits + (row_tile * steps + block.first_step) * step_bytes;
          tiles[t].minus_sums = sums + index * kMaxDigits * height;
          tiles[t].units = units + index * height;
          tiles[t].places = places + index * height;
          tiles[t].height = height;
          tiles[t].rows = static_cast<int>(std::min<std::int64_t>(height, m_ - row_tile * height));
        }
        SplitTiles(block, b, first * height, tiles, static_cast<int>(count));
      }
    });
  }

  // The rows of a task in one block of K. Those that need many digits go into tiles
  // of their own: a tile costs what its longest row does.
  void SplitTiles(const Block& block, std::int64_t b, std::int64_t first_row, RowTile* tiles, int tile_count) {
    RowInBlock rows[kTaskRows];
    int begin[kMaxDigits + 2] = {};  // where rows of so many digits begin, longest first
    const auto count = static_cast<int>(std::min<std::int64_t>(std::int64_t{tile_count} * height, m_ - first_row));
    for (int r = 0; r < count; ++r) {
      rows[r] = kernels.measure(RowOf(first_row + r) + block.k, block.rows);
      ++begin[kMaxDigits - rows[r].count + 1];
      if (!rows[r].finite) {
        finite_[static_cast<std::size_t>(b * m_ + first_row + r)] = 0;
        all_finite_.store(false, std::memory_order_relaxed);
      }
    }
    for (int d = 1; d <= kMaxDigits; ++d) begin[d] += begin[d - 1];
    for (int r = 0; r < count; ++r) {
      const int at = begin[kMaxDigits - rows[r].count]++;
      tiles[at / height].places[at % height] = static_cast<std::int16_t>(r);
    }
    for (int t = 0; t < tile_count; ++t) {
      RowTile& tile = tiles[t];
      tile.count = rows[tile.places[0]].count;
      for (int r = 0; r < tile.rows; ++r) {
        const int row = tile.places[r];
        kernels.split(RowOf(first_row + row) + block.k, block.rows, rows[row], tile, r);
      }
      // Rows that only fill the tile.
      for (int r = tile.rows; r < height; ++r) {
        for (int d = 0; d < tile.count; ++d) {
          for (int step = 0; step < block.steps(); ++step) {
            std::memset(tile.digits + ((step * kMaxDigits + d) * height + r) * kStepRows, 0, kStepRows);
          }
        }
      }
    }
  }

  const std::uint16_t* x_;
  const std::int64_t m_;
  std::vector<RowTile> tiles_;        // [block][row tile]
  std::vector<std::uint8_t> finite_;  // [block][row]
  std::atomic<bool> all_finite_{true};
};

// Around the work of one thread.
class KernelScope {
 public:
  explicit KernelScope(const Microkernels& kernels) : kernels_(kernels) {
    if (kernels_.enter != nullptr) kernels_.enter();
  }
  ~KernelScope() {
    if (kernels_.leave != nullptr) kernels_.leave();
  }
  KernelScope(const KernelScope&) = delete;
  KernelScope& operator=(const KernelScope&) = delete;

 private:
  const Microkernels& kernels_;
};

class Task {
 public:
  Task(const Problem& problem, std::int64_t index)
      : problem_(problem),
        first_row_tile_(index / problem.strips * problem.task_tiles),
        row_tiles_(std::min(problem.task_tiles, problem.row_tiles - first_row_tile_)),
        first_tile_(index % problem.strips * problem.strip_tiles),
        tiles_(std::min(problem.strip_tiles, problem.weights.tiles() - first_tile_)),
        totals_(ThreadScratch().totals.Get<float>(
            static_cast<std::size_t>(problem.task_tiles * problem.height * problem.strip_tiles * kTileColumns))) {}

  std::int64_t tiles() const { return tiles_; }
  std::int64_t tile(std::int64_t i) const { return first_tile_ + i; }
  std::int64_t first_row() const { return first_row_tile_ * problem_.height; }
  std::int64_t rows() const { return std::min(row_tiles_ * problem_.height, problem_.m() - first_row()); }
  std::int64_t columns(std::int64_t i) const {
    return std::min<std::int64_t>(kTileColumns, problem_.weights.n - tile(i) * kTileColumns);
  }
  const float* totals(std::int64_t i, std::int64_t row) const { return TotalsOf(i) + row * kTileColumns; }
  std::uint16_t* result(std::uint16_t* y, std::int64_t i, std::int64_t row) const {
    return y + (first_row() + row) * problem_.weights.n + tile(i) * kTileColumns;
  }

  // totals = x[rows, K of blocks begin..end) . W[K of the blocks, tiles)
  void Accumulate(std::int64_t begin, std::int64_t end) const {
    std::fill_n(totals_, tiles_ * row_tiles_ * problem_.height * kTileColumns, 0.0F);
    // Block by block, so that the digits of one serve all tiles.
    for (std::int64_t b = begin; b < end; ++b) {
      for (std::int64_t i = 0; i < tiles_; ++i) AddBlock(i, b);
    }
  }
  // halves[rows(), kTileColumns] = half(the same for tile i alone).
  void RoundedSums(std::int64_t i, std::int64_t begin, std::int64_t end, std::uint16_t* halves) const {
    if (end - begin == 1 && problem_.all_finite()) return AddBlock(i, begin, halves);
    std::fill_n(TotalsOf(i), row_tiles_ * problem_.height * kTileColumns, 0.0F);
    for (std::int64_t b = begin; b < end; ++b) AddBlock(i, b);
    problem_.kernels.float_to_half(TotalsOf(i), halves, tile_halves());
  }
  std::int64_t tile_halves() const { return rows() * kTileColumns; }
  // y = halves[tiles(), rows(), kTileColumns].
  void Write(const std::uint16_t* halves, std::uint16_t* y) const {
    for (std::int64_t i = 0; i < tiles_; ++i, halves += tile_halves()) {
      for (std::int64_t r = 0; r < rows(); ++r) {
        std::copy_n(halves + r * kTileColumns, columns(i), result(y, i, r));
      }
    }
  }

 private:
  float* TotalsOf(std::int64_t i) const { return totals_ + i * row_tiles_ * problem_.height * kTileColumns; }

  GroupBlock BlockOf(std::int64_t i, const Block& of) const {
    const Weights& w = problem_.weights;
    const std::int64_t lane = of.group * w.padded_n() + tile(i) * kTileColumns;
    GroupBlock block;
    block.words = w.words + (tile(i) * w.k + of.k) / 8 * kTileColumns;
    block.zeros = w.zeros + lane;
    block.scales = w.scales + lane;
    block.rows = of.rows;
    return block;
  }

  // halves: null, or where the rounded sum goes instead of onto the totals.
  void AddBlock(std::int64_t i, std::int64_t b, std::uint16_t* halves = nullptr) const {
    const RowTile* const rows_of_x = problem_.TilesOf(b, first_row_tile_);
    const GroupBlock block = BlockOf(i, problem_.blocks[static_cast<std::size_t>(b)]);
    if (problem_.by_dot) {
      problem_.kernels.dot(block, *rows_of_x, TotalsOf(i), halves);
    } else {
      void* const panel = ThreadScratch().panel.Get<std::byte>(kPanelBytes);
      problem_.kernels.unpack(block, panel);
      problem_.kernels.multiply_panel(block, panel, rows_of_x, static_cast<int>(row_tiles_), TotalsOf(i), halves);
    }
    if (!problem_.all_finite()) AddSpecialValues(i, b, block);
  }

  // Rows with an infinity or a NaN count as zeros until here. Beside those a finite
  // sum has no say: products of infinities and codes, in ascending k.
  void AddSpecialValues(std::int64_t i, std::int64_t b, const GroupBlock& block) const {
    const Block& of = problem_.blocks[static_cast<std::size_t>(b)];
    for (std::int64_t r = 0; r < rows(); ++r) {
      if (problem_.IsFinite(b, first_row() + r)) continue;
      const std::uint16_t* const x = problem_.RowOf(first_row() + r) + of.k;
      float sums[kTileColumns] = {};
      for (int k = 0; k < of.rows; ++k) {
        if ((x[k] & 0x7C00) != 0x7C00) continue;
        for (int c = 0; c < kTileColumns; ++c) {
          const int code = block.words[k / 8 * kTileColumns + c] >> ShiftOf(k % 8) & 15;
          sums[c] += SpecialValue(x[k]) * static_cast<float>(code - block.zeros[c]);
        }
      }
      // A scale turns the sign or makes it a NaN; its size does not matter.
      float* const totals = TotalsOf(i) + r * kTileColumns;
      for (int c = 0; c < kTileColumns; ++c) {
        const std::uint16_t scale = block.scales[c];
        const bool spoilt = (scale & 0x7FFF) == 0 || (scale & 0x7FFF) > 0x7C00;
        totals[c] += spoilt ? std::numeric_limits<float>::quiet_NaN() : (scale & 0x8000) != 0 ? -sums[c] : sums[c];
      }
    }
  }

  const Problem& problem_;
  const std::int64_t first_row_tile_;
  const std::int64_t row_tiles_;
  const std::int64_t first_tile_;
  const std::int64_t tiles_;
  float* const totals_;
};

// The blocks of each slice of kSplitK rows.
std::vector<std::int64_t> FirstBlocksOfSlices(const Problem& problem) {
  std::vector<std::int64_t> first;
  for (std::size_t b = 0; b < problem.blocks.size(); ++b) {
    if (problem.blocks[b].k % kSplitK == 0) first.push_back(static_cast<std::int64_t>(b));
  }
  first.push_back(static_cast<std::int64_t>(problem.blocks.size()));
  return first;
}

// The sum of an output's slices that have arrived, the CPU's stand-in for what
// atomic adds of half2 find in memory.
class ArrivedSum {
 public:
  // Adds what `task` has summed of a slice; the last of `slices` writes y.
  void Add(const Problem& problem, const Task& task, const std::uint16_t* partial, std::uint16_t* sum,
           std::int64_t slices, std::uint16_t* y) {
    const std::int64_t halves = task.tiles() * task.tile_halves();
    const std::lock_guard lock(lock_);
    if (arrived_ == 0) std::fill_n(sum, halves, std::uint16_t{0});
    problem.kernels.add_halves(partial, sum, halves);
    if (++arrived_ == slices) task.Write(sum, y);
  }

 private:
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
  SpinLock lock_;
  std::int64_t arrived_ = 0;
};

// gemm(first row, rows) for pieces of x.
template <class Gemm>
void InPieces(std::int64_t m, const Gemm& gemm) {
  for (std::int64_t first = 0; first < m; first += kRowsAtOnce) gemm(first, std::min(kRowsAtOnce, m - first));
}

}  // namespace

void OrderedGemm(const Weights& weights, const std::uint16_t* x, std::int64_t m, std::uint16_t* y) {
  InPieces(m, [&](std::int64_t first, std::int64_t rows) {
    const Problem problem(weights, x + first * weights.k, rows, weights.k);
    std::uint16_t* const to = y + first * weights.n;
    at::parallel_for(0, problem.tasks(), problem.Grain(), [&](std::int64_t begin, std::int64_t end) {
      const KernelScope scope(problem.kernels);
      for (std::int64_t index = begin; index < end; ++index) {
        const Task task(problem, index);
        task.Accumulate(0, static_cast<std::int64_t>(problem.blocks.size()));
        for (std::int64_t i = 0; i < task.tiles(); ++i) {
          for (std::int64_t r = 0; r < task.rows(); ++r) {
            problem.kernels.float_to_half(task.totals(i, r), task.result(to, i, r), task.columns(i));
          }
        }
      }
    });
  });
}

void SplitKGemmOrdered(const Weights& weights, const std::uint16_t* x, std::int64_t m, std::uint16_t* y) {
  InPieces(m, [&](std::int64_t first, std::int64_t rows) {
    const Problem problem(weights, x + first * weights.k, rows, kSplitK);
    const std::vector<std::int64_t> slices = FirstBlocksOfSlices(problem);
    std::uint16_t* const to = y + first * weights.n;
    at::parallel_for(0, problem.tasks(), problem.Grain(), [&](std::int64_t begin, std::int64_t end) {
      const KernelScope scope(problem.kernels);
      for (std::int64_t index = begin; index < end; ++index) {
        const Task task(problem, index);
        // Summed where it stays in the first-level cache; rows of y lie pages apart.
        const std::int64_t halves = task.tiles() * task.tile_halves();
        auto* const sums = ThreadScratch().halves.Get<std::uint16_t>(static_cast<std::size_t>(halves));
        auto* const partial = ThreadScratch().partial.Get<std::uint16_t>(static_cast<std::size_t>(task.tile_halves()));
        std::fill_n(sums, halves, std::uint16_t{0});
        for (std::size_t slice = 0; slice + 1 < slices.size(); ++slice) {
          for (std::int64_t i = 0; i < task.tiles(); ++i) {
            task.RoundedSums(i, slices[slice], slices[slice + 1], partial);
            problem.kernels.add_halves(partial, sums + i * task.tile_halves(), task.tile_halves());
          }
        }
        task.Write(sums, to);
      }
    });
  });
}

void SplitKGemmArrival(const Weights& weights, const std::uint16_t* x, std::int64_t m, std::uint16_t* y) {
  InPieces(m, [&](std::int64_t first, std::int64_t rows) {
    const Problem problem(weights, x + first * weights.k, rows, kSplitK);
    const std::vector<std::int64_t> first_blocks = FirstBlocksOfSlices(problem);
    const auto slices = static_cast<std::int64_t>(first_blocks.size()) - 1;
    const std::int64_t task_halves =
        problem.task_tiles * problem.height * problem.strip_tiles * std::int64_t{kTileColumns};
    auto* const sums =
        CallerMemory().arrived.Get<std::uint16_t>(static_cast<std::size_t>(problem.tasks() * task_halves));
    const std::unique_ptr<ArrivedSum[]> arrived(new ArrivedSum[static_cast<std::size_t>(problem.tasks())]);
    std::uint16_t* const to = y + first * weights.n;
    // The slices of an output go to different threads, as they go to different thread
    // blocks on a GPU.
    SharedTasks shared(problem.tasks() * slices);
    const auto add_slice = [&](std::int64_t index) {
      const std::int64_t output = index / slices, slice = index % slices;
      const Task task(problem, output);
      auto* const partial = ThreadScratch().partial.Get<std::uint16_t>(static_cast<std::size_t>(task_halves));
      for (std::int64_t i = 0; i < task.tiles(); ++i) {
        task.RoundedSums(i, first_blocks[static_cast<std::size_t>(slice)],
                         first_blocks[static_cast<std::size_t>(slice + 1)], partial + i * task.tile_halves());
      }
      arrived[output].Add(problem, task, partial, sums + output * task_halves, slices, to);
    };
    RunSideBySide([&](int worker) {
      const KernelScope scope(problem.kernels);
      shared.Run(worker, add_slice);
    });
  });
}

}  // namespace kernels::cpu
