// What a lane holds: codes, their expansion to the registers of a tensor-core
// instruction, and rows of x. layout.h says which element lies where.
//
// A code q with zero point z and scale s becomes half((q - z) s): q - z is exact
// in fp16, so that a weight is rounded once.
#ifndef KERNELS_CUDA_FRAGMENTS_CUH_
#define KERNELS_CUDA_FRAGMENTS_CUH_

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/layout.h"

namespace kernels::cuda {

struct Args {
  Gemm gemm;
  std::uint32_t group_inverse;
  int k_tiles;          // of kTileK rows
  int tiles_per_split;  // of those
  int splits;
  void* partial;  // workspace: float or half [splits, m, n]
};

__device__ __forceinline__ std::uint32_t Bits(__half2 value) { return *reinterpret_cast<std::uint32_t*>(&value); }
__device__ __forceinline__ __half2 Half2(std::uint32_t bits) { return *reinterpret_cast<__half2*>(&bits); }
__device__ __forceinline__ std::uint32_t LowTwice(std::uint32_t bits) { return __byte_perm(bits, 0, 0x1010); }
__device__ __forceinline__ std::uint32_t HighTwice(std::uint32_t bits) { return __byte_perm(bits, 0, 0x3232); }

// (a & b) | c
__device__ __forceinline__ std::uint32_t AndOr(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
  std::uint32_t d;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}

// fp16 0x6400 is 1024, whose unit in the last place is 1: or-ing a code into it
// adds the code. A code in bits 4..7 adds 16 times itself; a sixteenth of that is
// 64 + code. Then the bias -(1024 + z) or -(64 + z) leaves q - z, exactly.
inline constexpr std::uint32_t kLowCodes = 0x000f000f, kHighCodes = 0x00f000f0, k1024 = 0x64006400;
inline constexpr std::uint32_t kMinus1024 = 0xe400e400, kMinus64 = 0xd400d400;
inline constexpr std::uint32_t kSixteenth = 0x2c002c00;

__device__ __forceinline__ std::uint32_t LowBias(std::uint32_t zero) { return kMinus1024 + zero * 0x00010001u; }
__device__ __forceinline__ std::uint32_t HighBias(std::uint32_t zero) { return kMinus64 + zero * 0x00100010u; }

__device__ __forceinline__ std::uint32_t ExpandLow(std::uint32_t word, std::uint32_t bias, std::uint32_t scale) {
  const __half2 code = Half2(AndOr(word, kLowCodes, k1024));
  return Bits(__hmul2(__hadd2(code, Half2(bias)), Half2(scale)));
}
__device__ __forceinline__ std::uint32_t ExpandHigh(std::uint32_t word, std::uint32_t bias, std::uint32_t scale) {
  const __half2 code = Half2(AndOr(word, kHighCodes, k1024));
  return Bits(__hmul2(__hfma2(code, Half2(kSixteenth), Half2(bias)), Half2(scale)));
}

// c += a . b, fp32 sums: 16 columns x 16 rows of K x 8 rows of x.
__device__ __forceinline__ void MultiplyAdd(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                            std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Weights are read once: they need no place in the first-level cache.
__device__ __forceinline__ uint4 LoadOnce(const uint4* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}
__device__ __forceinline__ std::uint32_t LoadOnce(const std::uint32_t* from) {
  std::uint32_t v;
  asm volatile("ld.global.nc.L1::no_allocate.u32 %0, [%1];" : "=r"(v) : "l"(from));
  return v;
}

// Group of K row k, or -1 beyond the last (rows that pad a tile): its weights are
// then 0, whatever the words hold.
__device__ __forceinline__ int GroupOf(const Args& args, int k) {
  return k < args.gemm.k ? static_cast<int>(__umulhi(static_cast<unsigned>(k), args.group_inverse)) : -1;
}

// --- One Tile type for each family. `kBlocks` blocks of 16 columns; kParts is 2
// --- where a group may end within a lane's 16 rows. Load() starts the reads of a
// --- lane's codes and group data; Expand() gives the registers of instruction j.

template <int kBlocksOf, bool kSplitGroups>
struct MarlinTile {
  static constexpr int kBlocks = kBlocksOf, kParts = kSplitGroups ? 2 : 1, kColumns = 16 * kBlocks;
  std::uint32_t words[kBlocks][4];
  std::uint32_t scales[kBlocks][kParts];
  std::uint32_t zeros[kBlocks][kParts];

  __device__ __forceinline__ void Load(const Args& args, int tile, int column, int lane) {
    const Gemm& gemm = args.gemm;
    const int g = lane / 4, t = lane % 4;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const int first = column + 16 * b;
      const bool inside = first < gemm.padded_n && tile < args.k_tiles;
      uint4 four = make_uint4(0, 0, 0, 0);
      if (inside) {
        const std::size_t at = (static_cast<std::size_t>(first / 16) * args.k_tiles + tile) * 32 + lane;
        four = LoadOnce(reinterpret_cast<const uint4*>(gemm.words) + at);
      }
      words[b][0] = four.x, words[b][1] = four.y, words[b][2] = four.z, words[b][3] = four.w;
#pragma unroll
      for (int p = 0; p < kParts; ++p) {
        const int group = GroupOf(args, tile * kTileK + 16 * t + 8 * p);
        scales[b][p] = zeros[b][p] = 0;
        if (inside && group >= 0) {
          const std::size_t at = static_cast<std::size_t>(group) * gemm.padded_n + first + 2 * g;
          scales[b][p] = __ldg(reinterpret_cast<const std::uint32_t*>(static_cast<const __half*>(gemm.scales) + at));
          zeros[b][p] =
              __ldg(reinterpret_cast<const std::uint16_t*>(static_cast<const std::uint8_t*>(gemm.zeros) + at));
        }
      }
    }
  }
  __device__ __forceinline__ void Expand(int j, std::uint32_t (&a)[kBlocks][4]) const {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const int p = kSplitGroups ? j / 2 : 0;
      const std::uint32_t scale0 = LowTwice(scales[b][p]), scale1 = HighTwice(scales[b][p]);
      const std::uint32_t bias0 = LowBias(zeros[b][p] & 0xff), bias1 = HighBias(zeros[b][p] >> 8);
      const std::uint32_t word = words[b][j];
      a[b][0] = ExpandLow(word, bias0, scale0);
      a[b][1] = ExpandHigh(word, bias1, scale1);
      a[b][2] = ExpandLow(word >> 8, bias0, scale0);
      a[b][3] = ExpandHigh(word >> 8, bias1, scale1);
    }
  }
  // The first of the two neighbouring columns that block b gives lane g, from the tile's first.
  static __device__ __forceinline__ int Column(int b, int g) { return 16 * b + 2 * g; }
};

// AutoAWQ's words: eight columns of one row of K. Blocks 0..3 of a lane are its
// word's column pairs (0, 1), (2, 3), (4, 5), (6, 7).
template <bool kSplitGroups>
struct AwqTile {
  static constexpr int kBlocks = 4, kParts = kSplitGroups ? 2 : 1, kColumns = 64;
  std::uint32_t words[16];
  std::uint32_t scales[kParts][4];
  std::uint32_t zeros[kParts];

  __device__ __forceinline__ void Load(const Args& args, int tile, int column, int lane) {
    const Gemm& gemm = args.gemm;
    const int g = lane / 4, t = lane % 4;
    const int word_column = column / 8 + g, stride = gemm.n / 8;
    const bool inside = word_column < stride;
    const int first = tile * kTileK + 16 * t;
    const std::uint32_t* const from = gemm.words + static_cast<std::size_t>(first) * stride + word_column;
    // K is a multiple of 8: eight rows are there or not.
#pragma unroll
    for (int r = 0; r < 16; ++r) {
      words[r] = inside && first + r / 8 * 8 < gemm.k ? LoadOnce(from + static_cast<std::size_t>(r) * stride) : 0;
    }
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      const int group = GroupOf(args, first + 8 * p);
      uint4 four = make_uint4(0, 0, 0, 0);
      zeros[p] = 0;
      if (inside && group >= 0) {
        const std::size_t at = static_cast<std::size_t>(group) * stride + word_column;
        four = __ldg(static_cast<const uint4*>(gemm.scales) + at);
        zeros[p] = __ldg(static_cast<const std::uint32_t*>(gemm.zeros) + at);
      }
      scales[p][0] = four.x, scales[p][1] = four.y, scales[p][2] = four.z, scales[p][3] = four.w;
    }
  }
  // Columns (2 i, 2 i + 1) of one word.
  __device__ __forceinline__ std::uint32_t Pair(int i, std::uint32_t word, int p) const {
    const std::uint32_t shifted = i < 2 ? word : word >> 8, zero = i < 2 ? zeros[p] : zeros[p] >> 8;
    return i % 2 == 0 ? ExpandLow(shifted, AndOr(zero, kLowCodes, kMinus1024), scales[p][i])
                      : ExpandHigh(shifted, AndOr(zero, kHighCodes, kMinus64), scales[p][i]);
  }
  __device__ __forceinline__ void Expand(int j, std::uint32_t (&a)[kBlocks][4]) const {
    const int p = kSplitGroups ? j / 2 : 0;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
#pragma unroll
      for (int i = 0; i < kBlocks; ++i) {
        const std::uint32_t even = Pair(i, words[4 * j + 2 * pair], p), odd = Pair(i, words[4 * j + 2 * pair + 1], p);
        a[i][2 * pair] = __byte_perm(even, odd, 0x5410);      // column 2 i, both rows
        a[i][2 * pair + 1] = __byte_perm(even, odd, 0x7632);  // column 2 i + 1
      }
    }
  }
  static __device__ __forceinline__ int Column(int b, int g) { return 8 * g + 2 * b; }
};

// Words of eight rows of K of one column, nibbles in the order of GptqRowOfNibble().
// A lane reads four columns; blocks 0 and 1 are the first and the second two.
template <bool kSplitGroups>
struct GptqTile {
  static constexpr int kBlocks = 2, kParts = kSplitGroups ? 2 : 1, kColumns = 32;
  std::uint32_t words[2][4];
  std::uint32_t scales[kParts][2];
  std::uint32_t zeros[kParts];

  __device__ __forceinline__ void Load(const Args& args, int tile, int column, int lane) {
    const Gemm& gemm = args.gemm;
    const int g = lane / 4, t = lane % 4;
    const int first_column = column + 4 * g, first = tile * kTileK + 16 * t;
    const bool inside = first_column < gemm.n;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      uint4 four = make_uint4(0, 0, 0, 0);
      if (inside && first + 8 * r < gemm.k) {
        const std::size_t at = static_cast<std::size_t>(first / 8 + r) * gemm.n + first_column;
        four = LoadOnce(reinterpret_cast<const uint4*>(gemm.words + at));
      }
      words[r][0] = four.x, words[r][1] = four.y, words[r][2] = four.z, words[r][3] = four.w;
    }
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      const int group = GroupOf(args, first + 8 * p);
      uint2 two = make_uint2(0, 0);
      zeros[p] = 0;
      if (inside && group >= 0) {
        const std::size_t at = static_cast<std::size_t>(group) * gemm.n + first_column;
        two = __ldg(reinterpret_cast<const uint2*>(static_cast<const __half*>(gemm.scales) + at));
        zeros[p] = __ldg(reinterpret_cast<const std::uint32_t*>(static_cast<const std::uint8_t*>(gemm.zeros) + at));
      }
      scales[p][0] = two.x, scales[p][1] = two.y;
    }
  }
  __device__ __forceinline__ void Expand(int j, std::uint32_t (&a)[kBlocks][4]) const {
    const int p = kSplitGroups ? j / 2 : 0;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      const std::uint32_t scale[2] = {LowTwice(scales[p][b]), HighTwice(scales[p][b])};
#pragma unroll
      for (int upper = 0; upper < 2; ++upper) {
        const std::uint32_t zero = (zeros[p] >> (16 * b + 8 * upper)) & 0xff;
        const std::uint32_t word = words[j / 2][2 * b + upper] >> (8 * (j % 2));
        a[b][upper] = ExpandLow(word, LowBias(zero), scale[upper]);
        a[b][2 + upper] = ExpandHigh(word, HighBias(zero), scale[upper]);
      }
    }
  }
  static __device__ __forceinline__ int Column(int b, int g) { return 4 * g + 2 * b; }
};

// x of one tile and eight rows: a lane holds rows 16 t .. + 15 of K for row g.
// Instruction j takes registers 2 j and 2 j + 1.
struct Activations {
  std::uint32_t values[8];

  __device__ __forceinline__ void Set(const uint4& low, const uint4& high) {
    values[0] = low.x, values[1] = low.y, values[2] = low.z, values[3] = low.w;
    values[4] = high.x, values[5] = high.y, values[6] = high.z, values[7] = high.w;
  }
  // From global memory; zero beyond the last row and the end of K.
  __device__ __forceinline__ void Load(const Args& args, int tile, int first_row, int lane) {
    const Gemm& gemm = args.gemm;
    const int row = first_row + lane / 4, k = tile * kTileK + 16 * (lane % 4);
    uint4 part[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      part[i] = make_uint4(0, 0, 0, 0);
      if (row < gemm.m && k + 8 * i < gemm.k) {
        const __half* const from = static_cast<const __half*>(gemm.x) + static_cast<std::size_t>(row) * gemm.k + k;
        part[i] = __ldg(reinterpret_cast<const uint4*>(from) + i);
      }
    }
    Set(part[0], part[1]);
  }
};

// x in shared memory: [rows][8 chunks of eight rows of K]. Odd rows have their
// chunks swapped in pairs, so that the eight lanes of one access, which are two
// rows of four even (or odd) chunks, meet in no bank.
__device__ __forceinline__ int ChunkAt(int row, int chunk) { return row * 8 + (chunk ^ (row & 1)); }

__device__ __forceinline__ Activations FromShared(const uint4* tile, int first_row, int lane) {
  const int row = first_row + lane / 4, chunk = 2 * (lane % 4);
  Activations x;
  x.Set(tile[ChunkAt(row, chunk)], tile[ChunkAt(row, chunk + 1)]);
  return x;
}

// Starts the copy of `rows` rows of x of one tile to shared memory, by `threads`
// threads; zero beyond the last row and the end of K.
__device__ __forceinline__ void CopyToShared(const Args& args, int tile, int first_row, int rows, int thread,
                                             int threads, uint4* to) {
  const Gemm& gemm = args.gemm;
  for (int i = thread; i < rows * 8; i += threads) {
    const int r = i / 8, chunk = i % 8;
    const int row = first_row + r, k = tile * kTileK + 8 * chunk;
    const bool inside = row < gemm.m && k < gemm.k;
    const __half* const from =
        static_cast<const __half*>(gemm.x) + (inside ? static_cast<std::size_t>(row) * gemm.k + k : 0);
    const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(to + ChunkAt(r, chunk)));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(inside ? 16 : 0) : "memory");
  }
}
__device__ __forceinline__ void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_FRAGMENTS_CUH_
