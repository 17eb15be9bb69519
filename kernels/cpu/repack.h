// From the words of a checkpoint to the tiles of the CPU's kernels, with all threads.
// No tensors here.
#ifndef KERNELS_CPU_REPACK_H_
#define KERNELS_CPU_REPACK_H_

#include <cstdint>

namespace kernels::cpu {

// A layer's 4-bit codes as AWQ and GPTQ store them (kernels/int4_pack.h). Does not own.
struct StoredWords {
  const std::uint32_t* words = nullptr;  // AWQ [k, n / 8], GPTQ [k / 8, n]
  bool awq = false;                      // else GPTQ
  std::int64_t k = 0, n = 0;             // multiples of 8
  // [k]: row i of the tiles is row row_order[i] of the words (GPTQ alone); null: as they lie.
  const std::int64_t* row_order = nullptr;
};

// Writes [tiles, k / 8, kTileColumns], as Weights::words; columns beyond n are 0. The
// codes themselves are never in memory as a whole.
void PackTiles(const StoredWords& stored, std::uint32_t* tiles);

}  // namespace kernels::cpu

#endif  // KERNELS_CPU_REPACK_H_
