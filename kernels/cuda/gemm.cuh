// The two ways through a multiplication by mma.sync. `Tile` is MarlinTile of
// fragments.cuh. Sums are fp32 and none is ever added in arrival order.
#ifndef KERNELS_CUDA_GEMM_CUH_
#define KERNELS_CUDA_GEMM_CUH_

#include "kernels/cuda/fragments.cuh"

namespace kernels::cuda {

// Two neighbouring columns of one row: to y, or, where K is split, to this
// block's place in the workspace.
__device__ __forceinline__ void StoreSums(const Args& args, int split, int row, int column, float first, float second) {
  const Gemm& gemm = args.gemm;
  if (row >= gemm.m || column >= gemm.n) return;
  const std::size_t at = static_cast<std::size_t>(row) * gemm.n + column;
  if (args.splits == 1) {
    *reinterpret_cast<__half2*>(static_cast<__half*>(gemm.y) + at) = __floats2half2_rn(first, second);
  } else {
    float* const to = static_cast<float*>(args.partial) + static_cast<std::size_t>(split) * gemm.m * gemm.n + at;
    *reinterpret_cast<float2*>(to) = make_float2(first, second);
  }
}

// --- Tile: more rows, which a block copies to shared memory; each warp reads its
// --- own columns' weights straight to registers.
//
// Grid: (columns, splits of K, rows of x). A sum is of the split's tiles in
// ascending order.
inline constexpr int kTileWarps = 4, kTileStages = 3;
constexpr std::size_t TileSharedBytes(int row_blocks) {
  return static_cast<std::size_t>(kTileStages) * 8 * row_blocks * 8 * sizeof(uint4);
}

template <class Tile, int kRowBlocks>
__device__ __forceinline__ void MultiplyTile(const Args& args, const Tile& tile, const uint4* x, int lane,
                                             float (&sums)[Tile::kBlocks][kRowBlocks][4]) {
  constexpr int kBlocks = Tile::kBlocks;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    std::uint32_t a[2][kBlocks][4];
    tile.Expand(args, 2 * half, a[0]);
    tile.Expand(args, 2 * half + 1, a[1]);
#pragma unroll
    for (int r = 0; r < kRowBlocks; ++r) {
      const uint4 v = FromShared(x, 8 * r, half, lane);
#pragma unroll
      for (int b = 0; b < kBlocks; ++b) {
        MultiplyAdd(sums[b][r], a[0][b], v.x, v.y);
        MultiplyAdd(sums[b][r], a[1][b], v.z, v.w);
      }
    }
  }
}

template <class Tile, int kRowBlocks>
__device__ __forceinline__ void TileBody(const Args& args) {
  constexpr int kBlocks = Tile::kBlocks, kRows = 8 * kRowBlocks, kRing = 2;
  extern __shared__ uint4 x_stages[];  // [kTileStages][kRows][8]
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, split = blockIdx.y;
  const int column = (blockIdx.x * kTileWarps + warp) * Tile::kColumns;
  const int first_row = blockIdx.z * kRows;
  const int begin = split * args.tiles_per_split;
  const int end = min(begin + args.tiles_per_split, args.k_tiles);
  const auto copy = [&](int tile) {
    if (tile < end) {
      CopyToShared(args, tile, first_row, kRows, threadIdx.x, kTileWarps * 32,
                   x_stages + (tile - begin) % kTileStages * kRows * 8);
    }
    CommitCopies();
  };

  Tile tiles[kRing];
#pragma unroll
  for (int i = 0; i < kRing; ++i) {
    if (begin + i < end) tiles[i].Load(args, begin + i, column, lane);
  }
#pragma unroll
  for (int i = 0; i < kTileStages - 1; ++i) copy(begin + i);

  float sums[kBlocks][kRowBlocks][4] = {};
  for (int base = begin; base < end; base += kRing) {
#pragma unroll
    for (int i = 0; i < kRing; ++i) {
      const int tile = base + i;
      if (tile >= end) continue;  // the same for all threads of the block
      // This tile's x is there for all threads, and all are done with the stage
      // that the next copy overwrites.
      WaitForCopies<kTileStages - 2>();
      __syncthreads();
      copy(tile + kTileStages - 1);
      MultiplyTile<Tile, kRowBlocks>(args, tiles[i], x_stages + (tile - begin) % kTileStages * kRows * 8, lane, sums);
      if (tile + kRing < end) tiles[i].Load(args, tile + kRing, column, lane);
    }
  }
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
    for (int r = 0; r < kRowBlocks; ++r) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        StoreSums(args, split, first_row + 8 * r + 2 * (lane % 4) + h, column + Tile::Column(b, lane / 4),
                  sums[b][r][h], sums[b][r][h + 2]);
      }
    }
  }
}

// --- Dequantize. W as [n, k]. Lanes (g, 0..3) hold what one column has of eight
// --- neighbouring rows in one word each; they swap words such that lane (g, t) gets
// --- rows 8 t .. 8 t + 7 and 32 more, so that four lanes write 64 bytes together.
// --- Grid: (tiles of K, columns).
inline constexpr int kDequantizeWarps = 4;

// words[i] of lane t becomes words[t] of lane i, within each four lanes.
__device__ __forceinline__ void TransposeFours(std::uint32_t (&words)[4], int t) {
#pragma unroll
  for (int bit = 1; bit < 4; bit *= 2) {
    const bool upper = (t & bit) != 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if ((i & bit) != 0) continue;
      const std::uint32_t sent = upper ? words[i] : words[i + bit];
      const std::uint32_t got = __shfl_xor_sync(0xffffffffu, sent, bit);
      (upper ? words[i] : words[i + bit]) = got;
    }
  }
}

template <int kParts>
__device__ __forceinline__ void DequantizeBody(const Args& args, __half* w) {
  const Gemm& gemm = args.gemm;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int column = blockIdx.y * kMarlinColumns, tile_index = blockIdx.x * kDequantizeWarps + warp;
  if (tile_index >= args.k_tiles) return;
  MarlinTile<1, kParts> tile;
  tile.Load(args, tile_index, column, lane);
  // Word i: the eight rows 8 i of the tile in bytes 0 and 2, rows 32 + 8 i in bytes 1 and 3.
  const std::uint32_t(&word)[4] = tile.words[0];
  std::uint32_t eights[4] = {__byte_perm(word[0], word[2], 0x6240), __byte_perm(word[0], word[2], 0x7351),
                             __byte_perm(word[1], word[3], 0x6240), __byte_perm(word[1], word[3], 0x7351)};
  TransposeFours(eights, t);
#pragma unroll
  for (int part = 0; part < 2; ++part) {
    const int k = tile_index * kTileK + 32 * part + 8 * t;
    std::uint32_t scale, zero;
    tile.LoadGroup(args, k, 0, scale, zero);
    if (k >= gemm.k) continue;
#pragma unroll
    for (int upper = 0; upper < 2; ++upper) {
      const int n = column + 2 * g + upper;
      if (n >= gemm.n) continue;
      std::uint32_t pairs[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const std::uint32_t codes = eights[i] >> (8 * part);
        pairs[i] = upper == 0 ? ExpandLow(codes, LowBias(zero & 0xff), LowTwice(scale))
                              : ExpandHigh(codes, HighBias(zero >> 8), HighTwice(scale));
      }
      *reinterpret_cast<uint4*>(w + static_cast<std::size_t>(n) * gemm.k + k) =
          make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    }
  }
}

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_GEMM_CUH_
