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

// Codes of 64 rows of K and kBlocks times 16 columns, and their groups' data.
// kParts says where groups may end: 1, at tiles; 2, at halves of a tile; 8, after
// any eight rows. Load() starts the reads; Expand() gives the registers of
// instruction j. Where kParts is 8, Expand() reads the groups' data.
template <int kBlocksOf, int kPartsOf>
struct MarlinTile {
  static constexpr int kBlocks = kBlocksOf, kParts = kPartsOf, kKept = kParts == 8 ? 1 : kParts,
                       kColumns = 16 * kBlocks;
  std::uint32_t words[kBlocks][4];
  std::uint32_t scales[kBlocks][kKept];
  std::uint32_t zeros[kBlocks][kKept];
  int first_row, first_column;

  __device__ __forceinline__ void LoadGroup(const Args& args, int k, int b, std::uint32_t& scale,
                                            std::uint32_t& zero) const {
    const Gemm& gemm = args.gemm;
    const int group = GroupOf(args, k), column = first_column + 16 * b;
    scale = zero = 0;
    if (group < 0 || column >= gemm.padded_n) return;
    const std::size_t at = static_cast<std::size_t>(group) * gemm.padded_n + column;
    scale = __ldg(reinterpret_cast<const std::uint32_t*>(static_cast<const __half*>(gemm.scales) + at));
    zero = __ldg(reinterpret_cast<const std::uint16_t*>(static_cast<const std::uint8_t*>(gemm.zeros) + at));
  }
  __device__ __forceinline__ void Load(const Args& args, int tile, int column, int lane) {
    const Gemm& gemm = args.gemm;
    first_row = tile * kTileK;
    first_column = column + 2 * (lane / 4);
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      uint4 four = make_uint4(0, 0, 0, 0);
      if (column + 16 * b < gemm.padded_n && tile < args.k_tiles) {
        const std::size_t at = (static_cast<std::size_t>(column / 16 + b) * args.k_tiles + tile) * 32 + lane;
        four = LoadOnce(reinterpret_cast<const uint4*>(gemm.words) + at);
      }
      words[b][0] = four.x, words[b][1] = four.y, words[b][2] = four.z, words[b][3] = four.w;
      if constexpr (kParts != 8) {
#pragma unroll
        for (int p = 0; p < kParts; ++p) {
          LoadGroup(args, first_row + kTileK / kParts * p, b, scales[b][p], zeros[b][p]);
        }
      }
    }
  }
  __device__ __forceinline__ void Expand(const Args& args, int j, std::uint32_t (&a)[kBlocks][4]) const {
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
      for (int pair = 0; pair < 2; ++pair) {
        std::uint32_t scale, zero;
        if constexpr (kParts == 8) {
          LoadGroup(args, first_row + 16 * j + 8 * pair, b, scale, zero);
        } else {
          scale = scales[b][j * kParts / 4], zero = zeros[b][j * kParts / 4];
        }
        const std::uint32_t word = words[b][j] >> (8 * pair);
        a[b][2 * pair] = ExpandLow(word, LowBias(zero & 0xff), LowTwice(scale));
        a[b][2 * pair + 1] = ExpandHigh(word, HighBias(zero >> 8), HighTwice(scale));
      }
    }
  }
  // The first of the two neighbouring columns that block b gives lane g, from the tile's first.
  static __device__ __forceinline__ int Column(int b, int g) { return 16 * b + 2 * g; }
};

// x in shared memory: [rows][8 chunks of eight rows of K], chunks permuted such
// that the same chunk of eight rows of x meets in no bank.
__device__ __forceinline__ int ChunkAt(int row, int chunk) { return row * 8 + (chunk ^ (row & 7)); }

// Registers of instructions 2 half and 2 half + 1 for eight rows of x.
__device__ __forceinline__ uint4 FromShared(const uint4* tile, int first_row, int half, int lane) {
  const unsigned at =
      static_cast<unsigned>(__cvta_generic_to_shared(tile + ChunkAt(first_row + lane % 8, 4 * half + lane / 8)));
  uint4 v;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(at)
               : "memory");
  return v;
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
