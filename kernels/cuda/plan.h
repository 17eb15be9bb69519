// How a multiplication is cut into thread blocks: pure functions of the shape and
// of the number of multiprocessors, so that a device always does the same.
//
//   rows of x   marlin, awq, gptq's ordered twin                       gptq
//   1..16       stream: a block takes strips of columns and all of K,     the same; 17 to 50 rows:
//               its warps share out K, their sums meet in a fixed order   slices of 128 rows of K;
//                                                                         then as marlin
//   17 and up   sm_90: wgmma, tiles of 16 to 256 rows and 128 or 192
//               columns, K split within a cluster where the tiles do not
//               fill the device (plan_wgmma.cc)
//               other devices, or groups that are no multiple of 32 rows:
//               mma.sync up to 256 rows, then dequantize to fp16 and at::mm
//
// A stream that a block's shared memory has no room for takes the way of more rows.
// gptq's ordered twin adds the same rounded sums of 128 rows as gptq does up to 16 rows; beyond, where it is
// marlin, its sums are fp32 from end to end.
// Its order of summation depends on K alone. The number of splits depends on K, N, the device and, for wgmma, M. Sums
// meet in ascending order.
//
// Batch invariance: K is split by K, N and the device alone, all row counts take one
// path, and a row has the same bits in any batch.
#ifndef KERNELS_CUDA_PLAN_H_
#define KERNELS_CUDA_PLAN_H_

#include <cstdint>
#include <string>

namespace kernels::cuda {

enum class Family : std::uint8_t { kMarlin, kAwq, kGptq, kGptqOrdered };
enum class Path : std::uint8_t { kStream, kTile, kWgmma, kSlices, kDequantize };

inline constexpr std::int64_t kMaxStreamRows = 16;
inline constexpr std::int64_t kMaxTileRows = 256;
// As the GPTQ kernel of exllama and vLLM has it.
inline constexpr std::int64_t kMaxSliceRows = 50;
// wgmma takes groups of a multiple of so many rows of K.
inline constexpr std::int64_t kWgmmaGroupRows = 32;
// Splits of K in one launch of wgmma, which are blocks of a cluster: more took longer. A folded
// plan has no more, since it has the bits of one that is not.
inline constexpr int kMaxWgmmaSplits = 4;
// Rows of K in one partial sum of the gptq kernel.
inline constexpr std::int64_t kSliceK = 128;

struct Plan {
  Path path = Path::kStream;
  int row_blocks = 1;                // of eight rows of x, in one thread block; 0: a stream of one row
  int column_blocks = 1;             // of 16 columns, in one warp
  int columns = 0;                   // in one thread block
  std::int64_t splits = 1;           // of K; slices for gptq
  std::int64_t tiles_per_split = 0;  // of 64 rows of K
  bool folded = false;               // wgmma: one thread block adds up all splits, one after another
  int blocks = 0;                    // of a stream; wgmma: at most, where K is not split among them
};

// Shared memory that a thread block may have, in bytes, on sm_90.
inline constexpr int kSharedLimit90 = 227 * 1024;

// m, k, n > 0; multiprocessors > 0. `sm` is 90 where wgmma runs: a device of compute
// capability 9.0 and a build with code for sm_90a; else 80. batch_invariant: marlin and awq only.
Plan PlanFor(Family family, std::int64_t m, std::int64_t k, std::int64_t n, int multiprocessors, int sm = 80,
             std::int64_t group_size = 128, bool batch_invariant = false, int shared_limit = kSharedLimit90);

// Columns and rows of x of the wgmma kernel's tiles; the folded one is 128 x 128.
struct WgmmaTile {
  int columns, rows;
};
inline constexpr WgmmaTile kWgmmaTiles[] = {{192, 16},  {192, 32},  {128, 64},  {192, 64}, {128, 128},
                                            {192, 128}, {128, 192}, {192, 192}, {128, 256}};

// The wgmma path for m rows, and the splits of K that batch invariance fixes.
Plan WgmmaPlanFor(std::int64_t m, std::int64_t k, std::int64_t n, int multiprocessors, bool batch_invariant);
std::int64_t InvariantSplits(std::int64_t k, std::int64_t n, int multiprocessors);

// For people: "stream", "tiles of 64 rows", "wgmma, tiles of 64 rows x 192 columns, K in 3
// splits", "slices of 128 rows of K", "dequantize, then at::mm".
std::string NameOf(const Plan& plan);

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_PLAN_H_
