// The multiplication by wgmma, for sm_90a: y^T = W^T x^T. W^T is the first operand:
// a warpgroup takes 64 columns of W at a time, each of its warps a strip of 16, which
// it dequantizes from Marlin order to registers. The second operand is x in shared
// memory, rows of 128 bytes in the swizzle that wgmma reads.
//
// A block is kGroups warpgroups that multiply and one whose first thread starts the
// copies, stages ahead. While the tensor cores work on 64 rows of K, the
// warpgroup dequantizes the next 64. Every sum is over ascending K, 16 rows at a time:
//
//   splits  blocks of a cluster share out K; they add their sums in the order of the
//           splits, reading each other's shared memory
//   folds   one block adds up several parts of K in the same order, so that a
//           row has the bits that it has where the parts lie in several blocks
//
// The number of rows in a tile does not change a row's bits.
#ifndef KERNELS_CUDA_WGMMA_GEMM_CUH_
#define KERNELS_CUDA_WGMMA_GEMM_CUH_

#include "kernels/cuda/fragments.cuh"
#include "kernels/cuda/wgmma_copy.cuh"
#include "kernels/cuda/wgmma_instructions.cuh"

namespace kernels::cuda {

inline constexpr int kSwizzleRow = 128;  // bytes: 64 rows of K of one row of x

struct WgmmaArgs {
  CUtensorMap x, words, scales, zeros;
  __half* y;
  int m, n;
  int units, units_per_part;  // of K; a part is a split or a fold
  int splits, folds;          // one of them is 1
  int stages;
  std::uint32_t group_inverse;
  int column_tiles, row_tiles, raster;  // tiles are taken down `raster` row tiles, then along the columns
};

// kGroups warpgroups, each with kBlocks times 64 columns; kRows rows of x; stages of
// kStageTiles times 64 rows of K. Groups of rows of K end at multiples of kGroupRows
// (32 or 128).
template <int kGroupsOf, int kBlocksOf, int kRowsOf, int kStageTilesOf, int kGroupRowsOf, bool kFoldOf>
struct WgmmaShape {
  static constexpr int kGroups = kGroupsOf, kBlocks = kBlocksOf, kRows = kRowsOf, kStageTiles = kStageTilesOf;
  static constexpr int kGroupRows = kGroupRowsOf;
  static constexpr bool kFold = kFoldOf;
  static constexpr int kColumns = 64 * kGroups * kBlocks, kThreads = 128 * (kGroups + 1);
  static constexpr int kStagesPerUnit = kUnitK / kTileK / kStageTiles;

  // One stage: x, words, rows of group data.
  static constexpr int kParts = kGroupRows >= kTileK * kStageTiles ? 1 : kTileK * kStageTiles / kGroupRows;
  static constexpr int kTileBytes = kRows * kSwizzleRow, kXBytes = kStageTiles * kTileBytes;
  static constexpr int kStripBytes = kStageTiles * 512, kWordBytes = kColumns / 16 * kStripBytes;
  static constexpr int kScaleBytes = kParts * kColumns * 2;
  static constexpr int kZeroBytes = static_cast<int>(RoundUp(kParts * kColumns, 128));
  static constexpr int kStageBytes = kXBytes + kWordBytes + kScaleBytes + kZeroBytes;
  static constexpr int kCopiedBytes = kXBytes + kWordBytes + kParts * kColumns * 3;
  static_assert(kTileBytes % 1024 == 0 && kScaleBytes % 128 == 0, "alignment of the copies");

  // Results on their way out: each warpgroup's columns, kChunkRows rows at a time.
  static constexpr int kChunkRows = kRows < 32 ? kRows : 32, kChunkPitch = kBlocks * 128 + 16;
  static constexpr int kStagingBytes = kGroups * kChunkRows * kChunkPitch;
  // Sums of a split, [rows][columns] in place of the stages; the pitch keeps stores free of bank conflicts.
  static constexpr int kSumPitch = kColumns + 4, kSumBytes = kRows * kSumPitch * 4;

  // What a thread may hold at launch, in registers, by the number of warps on each of
  // the four schedulers; the warpgroups that multiply take some of the other's. Where
  // registers move, the compiler also keeps wgmma's descriptors in uniform registers.
  static constexpr int kAtLaunch = kGroups == 2 ? 168 : 128;
  static constexpr int kConsumerRegisters = kGroups == 2 ? 232 : 160, kProducerRegisters = kGroups == 2 ? 40 : 32;
  static_assert(kGroups * kConsumerRegisters + kProducerRegisters <= (kGroups + 1) * kAtLaunch);

  static constexpr int SharedBytes(int stages, int splits) {
    const int held = stages * kStageBytes;
    const int used = splits == 1 ? held + kStagingBytes : held > kSumBytes ? held : kSumBytes;
    return 1024 + used + 16 * stages;  // to align, and two barriers for each stage
  }
};

__device__ __forceinline__ void PlaceOf(const WgmmaArgs& args, int tile, int& row_tile, int& column_tile) {
  const int per_band = args.raster * args.column_tiles, band = tile / per_band, rest = tile - band * per_band;
  const int rows = min(args.raster, args.row_tiles - band * args.raster);
  column_tile = rest / rows;
  row_tile = band * args.raster + rest - column_tile * rows;
}

// Where things lie in shared memory.
template <class Shape>
struct WgmmaShared {
  std::uint32_t base, x, words, scales, zeros, staging, full, empty;
  __device__ __forceinline__ WgmmaShared(const WgmmaArgs& args, const void* raw) {
    base = (SharedAddress(raw) + 1023) & ~1023u;
    x = base;
    words = x + args.stages * Shape::kXBytes;
    scales = words + args.stages * Shape::kWordBytes;
    zeros = scales + args.stages * Shape::kScaleBytes;
    staging = base + args.stages * Shape::kStageBytes;
    full = args.splits == 1 ? staging + Shape::kStagingBytes
                            : base + max(args.stages * Shape::kStageBytes, Shape::kSumBytes);
    empty = full + 8 * args.stages;
  }
};

// One thread: starts the copies of all stages of all tiles of this block.
template <class Shape>
__device__ __forceinline__ void WgmmaProduce(const WgmmaArgs& args, const WgmmaShared<Shape>& shared, int first,
                                             int last, int first_tile, int tile_step) {
  constexpr int kStageK = kTileK * Shape::kStageTiles;
  const auto copy_weights = [&](int stage, int at, int column) {
    const std::uint32_t barrier = shared.full + 8 * stage;
    BarrierExpect(barrier, Shape::kCopiedBytes);
    const int group = static_cast<int>(__umulhi(static_cast<unsigned>(at * kStageK), args.group_inverse));
    CopyBox(shared.words + stage * Shape::kWordBytes, args.words, 0, at * Shape::kStageTiles, column / 16, barrier);
    CopyBox(shared.scales + stage * Shape::kScaleBytes, args.scales, column, group, barrier);
    CopyBox(shared.zeros + stage * Shape::kZeroBytes, args.zeros, column, group, barrier);
  };
  // The weights of the first stages need not wait for earlier kernels; x does.
  int row_tile, column_tile, ahead = min(args.stages, last - first);
  PlaceOf(args, first_tile, row_tile, column_tile);
#pragma unroll 1
  for (int i = 0; i < ahead; ++i) copy_weights(i, first + i, column_tile * Shape::kColumns);
  WaitForEarlierKernels();
  int stage = 0;
  unsigned phase = 1;
#pragma unroll 1
  for (int tile = first_tile; tile < args.row_tiles * args.column_tiles; tile += tile_step) {
    PlaceOf(args, tile, row_tile, column_tile);
#pragma unroll 1
    for (int at = first; at < last; ++at) {
      if (ahead > 0) {
        --ahead;
      } else {
        BarrierWait(shared.empty + 8 * stage, phase);
        copy_weights(stage, at, column_tile * Shape::kColumns);
      }
#pragma unroll
      for (int i = 0; i < Shape::kStageTiles; ++i) {
        CopyBox(shared.x + stage * Shape::kXBytes + i * Shape::kTileBytes, args.x, at * kStageK + i * kTileK,
                row_tile * Shape::kRows, shared.full + 8 * stage);
      }
      if (++stage == args.stages) stage = 0, phase ^= 1;
    }
  }
}

// A warpgroup's view of the stages, and its place in them.
template <class Shape>
struct WgmmaConsumer {
  static constexpr int kBlocks = Shape::kBlocks;
  using Sums = float[kBlocks][Shape::kRows / 2];

  std::uint32_t words, scales, zeros, x;  // of this lane, in stage 0; x as wgmma's descriptor has it
  std::uint32_t full, empty, arrives;
  int stages, stage = 0;
  unsigned phase = 0;
  std::uint32_t done = 0;                             // barrier of the stage that the last group read
  std::uint32_t scale[kBlocks][2], bias[kBlocks][2];  // of the group in hand, each half twice

  __device__ __forceinline__ WgmmaConsumer(const WgmmaArgs& args, const WgmmaShared<Shape>& shared, int first_strip,
                                           int lane) {
    words = shared.words + first_strip * Shape::kStripBytes + lane * 16;
    scales = shared.scales + (first_strip * 16 + lane / 4 * 2) * 2;
    zeros = shared.zeros + first_strip * 16 + lane / 4 * 2;
    x = (shared.x >> 4 & 0x3fff) | 1u << 16;
    full = shared.full, empty = shared.empty, stages = args.stages;
    arrives = lane == 0;
    // Kept in registers, instead of being worked out again for each stage; x is the same
    // in all threads, and the compiler must see that.
    asm volatile("" : "+r"(words), "+r"(scales), "+r"(zeros), "+r"(arrives));
  }

  __device__ __forceinline__ void LoadGroup(int part) {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      std::uint32_t both;
      std::uint16_t zero;
      asm volatile("ld.shared.u16 %0, [%1];"
                   : "=h"(zero)
                   : "r"(zeros + stage * Shape::kZeroBytes + part * Shape::kColumns + b * 64));
      asm volatile("ld.shared.u32 %0, [%1];"
                   : "=r"(both)
                   : "r"(scales + stage * Shape::kScaleBytes + part * Shape::kColumns * 2 + b * 128));
      scale[b][0] = LowTwice(both), scale[b][1] = HighTwice(both);
      bias[b][0] = LowBias(zero & 0xff), bias[b][1] = HighBias(zero >> 8);
    }
  }

  // sums += one unit of K: its two tiles of 64 rows, each one group of wgmmas. When a
  // tile's group is issued, the group before it is waited for, so that one is at work
  // while the next tile is dequantized.
  __device__ __forceinline__ void MultiplyUnit(const WgmmaArgs& args, int unit, Sums& sums) {
    constexpr bool kOneBarrier = Shape::kStageTiles == 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int tile_in_stage = kOneBarrier ? half : 0;
      if (half == 0 || !kOneBarrier) BarrierWait(full + 8 * stage, phase);
      std::uint32_t code[kBlocks][4], a[kBlocks][4][4];
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                     : "=r"(code[b][0]), "=r"(code[b][1]), "=r"(code[b][2]), "=r"(code[b][3])
                     : "r"(words + stage * Shape::kWordBytes + b * 4 * Shape::kStripBytes + tile_in_stage * 512));
      }
      constexpr int kTileParts = Shape::kGroupRows < kTileK ? kTileK / Shape::kGroupRows : 1;
#pragma unroll
      for (int p = 0; p < kTileParts; ++p) {
        if constexpr (Shape::kGroupRows < kTileK) {
          const unsigned first = static_cast<unsigned>(unit * kUnitK + (kOneBarrier ? 0 : half * kTileK));
          const unsigned k = static_cast<unsigned>(unit * kUnitK + half * kTileK + p * Shape::kGroupRows);
          LoadGroup(static_cast<int>(__umulhi(k, args.group_inverse) - __umulhi(first, args.group_inverse)));
        } else if (half == 0 || !kOneBarrier) {
          LoadGroup(0);
        }
#pragma unroll
        for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
          for (int j = 4 / kTileParts * p; j < 4 / kTileParts * (p + 1); ++j) {
            a[b][j][0] = ExpandLow(code[b][j], bias[b][0], scale[b][0]);
            a[b][j][1] = ExpandHigh(code[b][j], bias[b][1], scale[b][1]);
            a[b][j][2] = ExpandLow(code[b][j] >> 8, bias[b][0], scale[b][0]);
            a[b][j][3] = ExpandHigh(code[b][j] >> 8, bias[b][1], scale[b][1]);
          }
        }
      }
      const std::uint32_t at = x + stage * (Shape::kXBytes / 16) + tile_in_stage * (Shape::kTileBytes / 16);
      WgmmaFence();
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        // 128-byte swizzle, 1,024 bytes from eight rows to the next eight; 16 rows of K are 32 bytes.
        std::uint64_t descriptor;
        asm volatile("mov.b64 %0, {%1, %2};" : "=l"(descriptor) : "r"(at + 2 * j), "r"(0x40000040u));
#pragma unroll
        for (int b = 0; b < kBlocks; ++b) Wgmma<Shape::kRows>::Issue(sums[b], a[b][j], descriptor);
      }
      WgmmaCommit();
      WgmmaWait<1>();
      if (half == 0 || !kOneBarrier) {
        ReleaseDone();
        done = empty + 8 * stage;
      }
      if (half == 1 || !kOneBarrier) {
        if (++stage == stages) stage = 0, phase ^= 1;
      }
    }
  }
  __device__ __forceinline__ void ReleaseDone() {
    if (arrives != 0 && done != 0) BarrierArrive(done);
  }
  __device__ __forceinline__ void Finish() {
    WgmmaWait<0>();
    ReleaseDone();
    done = 0;
  }
};

// Results to y through shared memory, so that a row's columns are stored together.
template <class Shape>
__device__ __forceinline__ void WgmmaStore(const WgmmaArgs& args, std::uint32_t staging, int group, int first_row,
                                           int first_column, const float (&sums)[Shape::kBlocks][Shape::kRows / 2]) {
  constexpr int kChunk = Shape::kChunkRows, kPitch = Shape::kChunkPitch, kPerRow = Shape::kBlocks * 8;
  const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const std::uint32_t mine = staging + group * kChunk * kPitch;
#pragma unroll
  for (int c = 0; c < Shape::kRows / kChunk; ++c) {
#pragma unroll
    for (int b = 0; b < Shape::kBlocks; ++b) {
#pragma unroll
      for (int i = 0; i < kChunk / 8; ++i) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int at = (c * (kChunk / 8) + i) * 4 + h;
          const std::uint32_t pair = Bits(__floats2half2_rn(sums[b][at], sums[b][at + 2]));
          asm volatile(
              "st.shared.u32 [%0], %1;" ::"r"(mine + (8 * i + 2 * t + h) * kPitch + b * 128 + warp * 32 + g * 4),
              "r"(pair)
              : "memory");
        }
      }
    }
    SyncSome(2 + group, 128);
#pragma unroll
    for (int at = threadIdx.x % 128; at < kChunk * kPerRow; at += 128) {
      const int r = at / kPerRow, eight = at % kPerRow, row = first_row + c * kChunk + r,
                column = first_column + 8 * eight;
      uint4 v;
      asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
                   : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                   : "r"(mine + r * kPitch + eight * 16)
                   : "memory");
      if (row < args.m && column < args.n) {
        *reinterpret_cast<uint4*>(args.y + static_cast<std::size_t>(row) * args.n + column) = v;
      }
    }
    SyncSome(2 + group, 128);
  }
}

// The sums of a split in place of its stages, which all warpgroups have read.
template <class Shape>
__device__ __forceinline__ void WgmmaKeepSums(std::uint32_t base, int first_strip, int lane,
                                              const float (&sums)[Shape::kBlocks][Shape::kRows / 2]) {
  const int g = lane / 4, t = lane % 4;
  SyncSome(1, Shape::kGroups * 128);
#pragma unroll
  for (int b = 0; b < Shape::kBlocks; ++b) {
#pragma unroll
    for (int i = 0; i < Shape::kRows / 8; ++i) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const std::uint32_t at =
            base + ((8 * i + 2 * t + h) * Shape::kSumPitch + (first_strip + 4 * b) * 16 + 2 * g) * 4;
        asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(at), "f"(sums[b][4 * i + h]), "f"(sums[b][4 * i + h + 2])
                     : "memory");
      }
    }
  }
}

// Block `rank` of the cluster adds every splits-th row.
template <class Shape>
__device__ __forceinline__ void WgmmaAddSplits(const WgmmaArgs& args, std::uint32_t base, int rank, int first_row,
                                               int first_column) {
  constexpr int kPerRow = Shape::kColumns / 4;
  const int splits = args.splits, rows = min(Shape::kRows, args.m - first_row);
  const int mine = (rows - rank + splits - 1) / splits;
#pragma unroll 1
  for (int at = threadIdx.x; at < mine * kPerRow; at += Shape::kGroups * 128) {
    const int row = rank + at / kPerRow * splits, column = at % kPerRow * 4;
    const std::uint32_t from = base + (row * Shape::kSumPitch + column) * 4;
    float4 v[kMaxWgmmaSplits];  // all on their way together; those beyond the last repeat it
#pragma unroll
    for (int i = 0; i < kMaxWgmmaSplits; ++i) v[i] = ReadOfBlock(from, min(i, splits - 1));
    float4 sum = v[0];
#pragma unroll
    for (int i = 1; i < kMaxWgmmaSplits; ++i) {
      if (i < splits) sum.x += v[i].x, sum.y += v[i].y, sum.z += v[i].z, sum.w += v[i].w;
    }
    if (first_column + column < args.n) {
      *reinterpret_cast<uint2*>(args.y + static_cast<std::size_t>(first_row + row) * args.n + first_column + column) =
          make_uint2(Bits(__floats2half2_rn(sum.x, sum.y)), Bits(__floats2half2_rn(sum.z, sum.w)));
    }
  }
}

template <class Shape>
__device__ __forceinline__ void WgmmaBody(const WgmmaArgs& args) {
  extern __shared__ std::uint8_t wgmma_shared[];
  constexpr int kBlocks = Shape::kBlocks, kSums = Shape::kRows / 2;
  const WgmmaShared<Shape> shared(args, wgmma_shared);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = warp / 4;
  LetNextKernelStart();
  if (threadIdx.x == 0) {
    for (int i = 0; i < args.stages; ++i) {
      BarrierInit(shared.full + 8 * i, 1);
      BarrierInit(shared.empty + 8 * i, Shape::kGroups * 4);
    }
    BarrierInitDone();
  }
  if (warp == Shape::kGroups * 4 && lane == 0) {
    PrefetchMap(args.words);
    PrefetchMap(args.scales);
    PrefetchMap(args.zeros);
    PrefetchMap(args.x);
  }
  __syncthreads();

  const int splits = args.splits, rank = static_cast<int>(blockIdx.x) % splits;
  const int first_tile = static_cast<int>(blockIdx.x) / splits;
  const int tile_step = static_cast<int>(gridDim.x) / splits;
  const int tiles = args.row_tiles * args.column_tiles;
  const int begin = rank * args.units_per_part;
  const int end = splits == 1 ? args.units : min(begin + args.units_per_part, args.units);
  int row_tile, column_tile;
  if (group == Shape::kGroups) {
    GiveRegisters<Shape::kProducerRegisters>();
    if (warp == Shape::kGroups * 4 && lane == 0) {
      WgmmaProduce<Shape>(args, shared, begin * Shape::kStagesPerUnit, end * Shape::kStagesPerUnit, first_tile,
                          tile_step);
    }
    __syncwarp();
  } else {
    TakeRegisters<Shape::kConsumerRegisters>();
    const int first_strip = group * kBlocks * 4 + warp % 4;
    WgmmaConsumer<Shape> consumer(args, shared, first_strip, lane);
    for (int tile = first_tile; tile < tiles; tile += tile_step) {
      float sums[kBlocks][kSums];
      [[maybe_unused]] float total[Shape::kFold ? kBlocks : 1][Shape::kFold ? kSums : 1];
      const int folds = Shape::kFold ? args.folds : 1;
#pragma unroll 1
      for (int fold = 0; fold < folds; ++fold) {
#pragma unroll
        for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
          for (int i = 0; i < kSums; ++i) sums[b][i] = 0.f;
        }
        const int from = Shape::kFold ? fold * args.units_per_part : begin;
        const int to = Shape::kFold ? min(from + args.units_per_part, end) : end;
#pragma unroll 1
        for (int unit = from; unit < to; ++unit) consumer.MultiplyUnit(args, unit, sums);
        consumer.Finish();
        if constexpr (Shape::kFold) {
#pragma unroll
          for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
            for (int i = 0; i < kSums; ++i) total[b][i] = fold == 0 ? sums[b][i] : total[b][i] + sums[b][i];
          }
        }
      }
      WaitForEarlierKernels();  // before y is written
      PlaceOf(args, tile, row_tile, column_tile);
      if (splits > 1) {
        WgmmaKeepSums<Shape>(shared.base, first_strip, lane, sums);
      } else {
        const int row = row_tile * Shape::kRows, column = column_tile * Shape::kColumns + group * kBlocks * 64;
        if constexpr (Shape::kFold) {
          WgmmaStore<Shape>(args, shared.staging, group, row, column, total);
        } else {
          WgmmaStore<Shape>(args, shared.staging, group, row, column, sums);
        }
      }
    }
  }
  if (splits > 1) {
    ClusterSync();
    PlaceOf(args, first_tile, row_tile, column_tile);
    if (group < Shape::kGroups) {
      WgmmaAddSplits<Shape>(args, shared.base, rank, row_tile * Shape::kRows, column_tile * Shape::kColumns);
    }
    ClusterSyncBeforeExit();
  }
}

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1) MarlinGemmWgmma(const __grid_constant__ WgmmaArgs args) {
  WgmmaBody<Shape>(args);
}

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_WGMMA_GEMM_CUH_
