// How decode attention divides a context: a function of the context's length
// alone, so that the order of every sum is too.
#ifndef SUITES_MODEL_CUDA_ATTENTION_PLAN_H_
#define SUITES_MODEL_CUDA_ATTENTION_PLAN_H_

#include <initializer_list>

#if defined(__CUDACC__)
#define SUITES_HOST_DEVICE __host__ __device__
#else
#define SUITES_HOST_DEVICE
#endif

namespace suites::internal {

// Tensor cores take the two narrow types, in heads that fill their products, where a
// block has the shared memory (MmaAttentionFits()).
constexpr bool AttendsOnTensorCores(int element_bytes, int padded_head_dim) {
  return element_bytes == 2 && padded_head_dim >= 64;
}

// On tensor cores: the context in tiles of 16 positions, dealt out in turn to the
// blocks of a key-value head, and of a block's tiles to its warps: tile t is the
// business of block t % kShares, of its warp t / kShares % kShareWarps.
inline constexpr int kTile = 16;
inline constexpr int kShares = 8;
inline constexpr int kShareWarps = 8;

// The position at which a warp's tile of round r begins; it has those below the length.
SUITES_HOST_DEVICE constexpr int TileBegin(int share, int warp, int round) {
  return ((round * kShareWarps + warp) * kShares + share) * kTile;
}
SUITES_HOST_DEVICE constexpr int TilesOfWarp(int share, int warp, int length) {
  const int first = TileBegin(share, warp, 0);
  constexpr int kStep = kTile * kShares * kShareWarps;
  return first >= length ? 0 : (length - first + kStep - 1) / kStep;
}

// Else: chunks of it, each in the shared memory of a block as a whole.
inline constexpr int kChunk = 64;

SUITES_HOST_DEVICE constexpr int ChunksOf(int length) { return (length + kChunk - 1) / kChunk; }

// The cache holds heads padded to a size that the kernel knows; 0: none fits.
constexpr int PaddedHeadDim(int head_dim) {
  for (const int size : {32, 64, 128}) {
    if (head_dim <= size) return size;
  }
  return 0;
}

// Query heads of one key-value head that a block computes together.
constexpr int HeadsAtOnce(int group) {
  int heads = 1;
  while (heads < group && heads < 8) heads *= 2;
  return heads;
}

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_ATTENTION_PLAN_H_
