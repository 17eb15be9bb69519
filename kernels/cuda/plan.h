// How a multiplication is cut into thread blocks: pure functions of the shape and
// of the number of multiprocessors, so that a device always does the same.
//
//   rows of x   marlin, awq                       gptq
//   1..16       stream: a block takes strips of columns and all of K, its warps share
//               out K, their sums meet in a fixed order; gptq: in slices of K
//   17..256     tile: a block takes 32, 64 or 128 rows of x, its warps share out
//               the columns; all of K, or one of its splits, in ascending order
//   17..50                                        slices of 128 rows of K
//   more        dequantize to fp16, then at::mm (cuBLAS)
//
// A card whose blocks have too little shared memory for a stream takes the way of
// more rows. Where K is split, the partial sums go to a workspace and a second kernel adds
// them in ascending order. The number of splits depends on K, N and the device
// only, and neither path's order of summation on the number of rows, but that a
// stream of one row has another: else a row has the same bits in any batch that
// takes the same path.
#ifndef KERNELS_CUDA_PLAN_H_
#define KERNELS_CUDA_PLAN_H_

#include <cstdint>
#include <string>

namespace kernels::cuda {

enum class Family : std::uint8_t { kMarlin, kAwq, kGptq };
enum class Path : std::uint8_t { kStream, kTile, kSlices, kDequantize };

inline constexpr std::int64_t kMaxStreamRows = 16;
inline constexpr std::int64_t kMaxTileRows = 256;
// As the GPTQ kernel of exllama and vLLM has it.
inline constexpr std::int64_t kMaxSliceRows = 50;
// Rows of K in one partial sum of the gptq kernel.
inline constexpr std::int64_t kSliceK = 128;

struct Plan {
  Path path = Path::kStream;
  int row_blocks = 1;                // of eight rows of x, in one thread block; 0: a stream of one row
  int blocks = 0;                    // of a stream
  int column_blocks = 1;             // of 16 columns, in one warp
  int columns = 0;                   // in one thread block
  std::int64_t splits = 1;           // of K; slices for gptq
  std::int64_t tiles_per_split = 0;  // of 64 rows of K
};

// Shared memory that a thread block may have, in bytes, on sm_90.
inline constexpr int kSharedLimit90 = 227 * 1024;

// m, k, n > 0; multiprocessors > 0.
Plan PlanFor(Family family, std::int64_t m, std::int64_t k, std::int64_t n, int multiprocessors,
             int shared_limit = kSharedLimit90);

// For people: "stream", "tiles of 64 rows", "slices of 128 rows of
// K", "dequantize, then at::mm".
std::string NameOf(const Plan& plan);

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_PLAN_H_
