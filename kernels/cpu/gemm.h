// y[M, N] = x[M, K] . W on host memory, fp16 in and out, from the packed weights
// of one layer. No tensors here.
#ifndef KERNELS_CPU_GEMM_H_
#define KERNELS_CPU_GEMM_H_

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/microkernels.h"

namespace kernels::cpu {

// Packed weights, columns padded to whole tiles. Does not own.
struct Weights {
  const std::uint32_t* words = nullptr;   // [tiles, K / 8, kTileColumns], ShiftOf() within a word
  const std::uint8_t* zeros = nullptr;    // [K/G, padded N]
  const std::uint16_t* scales = nullptr;  // fp16 bits, likewise
  std::int64_t k = 0;
  std::int64_t n = 0;  // true columns, a multiple of 8
  std::int64_t group_size = 128;

  std::int64_t tiles() const { return (n + kTileColumns - 1) / kTileColumns; }
  std::int64_t padded_n() const { return tiles() * kTileColumns; }
};

// Rows of K in one partial sum of the split-K kernels: what a thread block of
// the GPTQ kernel of AutoGPTQ/vLLM takes.
inline constexpr std::int64_t kSplitK = 128;

// Blocks of K in ascending order, each summed exactly and added in float32. Threads
// (at::parallel_for) share out tiles of the output only, so the bits do not depend
// on how many there are. x: [m, k], y: [m, n], fp16 bits.
void OrderedGemm(const Weights& weights, const std::uint16_t* x, std::int64_t m, std::uint16_t* y);

// Split-K: each slice of kSplitK rows gives a partial sum that is rounded to
// fp16; y is the fp16 sum of those.
//
// Ascending slices, hence the same bits always.
void SplitKGemmOrdered(const Weights& weights, const std::uint16_t* x, std::int64_t m, std::uint16_t* y);
// Slices are added in the order in which the threads of RunSideBySide() arrive.
void SplitKGemmArrival(const Weights& weights, const std::uint16_t* x, std::int64_t m, std::uint16_t* y);

}  // namespace kernels::cpu

#endif  // KERNELS_CPU_GEMM_H_
