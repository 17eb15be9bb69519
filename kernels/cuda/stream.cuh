// Few rows of x, 1 to 16: reading the weights is the cost, so that all is about
// keeping many bytes on their way.
//
// A block takes some strips of 16 columns and all of K. Eight warps, the sharers, take
// a contiguous part of K each, in units of kUnitK = 128 rows; of several rows of x
// sixteen, two for each part, which take every other strip. Each warp copies its
// units' words, zero points and scales to a ring of its own in shared memory, some
// stages ahead, without regard to the other warps, strip after strip. What it copies
// first does not wait for the kernel before it (programmatic dependent launch):
// weights are not written by kernels that let others start. x is read, and y
// written, after griddepcontrol.wait.
//
// A sharer's part of x comes in pieces, all of them at once where there is room, else
// some in turns. On sm_90 the copy engine brings them: an ordinary load would queue
// behind the words that are on their way.
//
// The sums of a unit are of integers times halves, added by tensor cores in fp32 and
// multiplied by the group's scale in fp32: no weight is rounded, except where a group
// may end within 32 rows of K: there each is rounded to half once.
//
// Order of summation: a sharer's units ascending, then the sharers ascending, also
// where the sums of units are rounded to half and added in half. It depends on K alone.
#ifndef KERNELS_CUDA_STREAM_CUH_
#define KERNELS_CUDA_STREAM_CUH_

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/fragments.cuh"
#include "kernels/cuda/stream_memory.cuh"
#include "kernels/cuda/stream_plan.h"

namespace kernels::cuda {

namespace stream {

// The first operand: 16 columns x 16 rows of q - z, exact; the upper columns' times 16.
__device__ __forceinline__ void ExpandIntegers(std::uint32_t word, std::uint32_t zeros, std::uint32_t (&a)[4]) {
  const std::uint32_t low = kMinus1024 + (zeros & 0xff) * 0x00010001u, high = kMinus1024 + (zeros >> 8) * 0x00100010u;
  const std::uint32_t upper = word >> 8;
  a[0] = Bits(__hadd2(Half2(AndOr(word, kLowCodes, k1024)), Half2(low)));
  a[1] = Bits(__hadd2(Half2(AndOr(word, kHighCodes, k1024)), Half2(high)));
  a[2] = Bits(__hadd2(Half2(AndOr(upper, kLowCodes, k1024)), Half2(low)));
  a[3] = Bits(__hadd2(Half2(AndOr(upper, kHighCodes, k1024)), Half2(high)));
}

// half((q - z) s), where each eight rows may have a group of their own.
__device__ __forceinline__ void ExpandRounded(const StreamArgs& args, std::uint32_t word, int row, int column,
                                              std::uint32_t (&a)[4]) {
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    const std::uint32_t group =
        __umulhi(static_cast<unsigned>(min(row + 8 * pair, args.gemm.k - 1)), args.group_inverse);
    const std::size_t at = static_cast<std::size_t>(group) * args.gemm.padded_n + column;
    const std::uint32_t scales =
        __ldg(reinterpret_cast<const std::uint32_t*>(static_cast<const __half*>(args.gemm.scales) + at));
    const std::uint32_t zeros =
        __ldg(reinterpret_cast<const std::uint16_t*>(static_cast<const std::uint8_t*>(args.gemm.zeros) + at));
    a[2 * pair] = ExpandLow(word >> 8 * pair, LowBias(zeros & 0xff), LowTwice(scales));
    a[2 * pair + 1] = ExpandHigh(word >> 8 * pair, HighBias(zeros >> 8), HighTwice(scales));
  }
}

// A warp begins to copy a piece of x: from `first_k` on `columns` of each row, a
// multiple of 128, to rows of `row_bytes` from `to` on; zeros beyond K. The piece is
// there when the barrier says so, and, on a device before sm_90 and where K ends
// within it, for those threads that have met this warp since.
__device__ __forceinline__ void StartPiece(const Gemm& gemm, int first_k, int columns, std::uint32_t to, int row_bytes,
                                           std::uint32_t barrier, int lane) {
  const int there = min(columns, gemm.k - first_k);
  const __half* const from = static_cast<const __half*>(gemm.x) + first_k;
#if __CUDA_ARCH__ >= 900
  FenceAsync();  // zeros that an earlier piece ended with
  if (lane == 0) ExpectBytes(barrier, gemm.m * there * 2);
  __syncwarp();
  if (lane < gemm.m) {
    CopyBytes(to + lane * row_bytes, from + static_cast<std::size_t>(lane) * gemm.k, there * 2, barrier);
  }
  const int copied = there / 8;
#else
  const int copied = 0;
#endif
  const int chunks = columns / 8 - copied;  // of eight columns
  for (int i = lane; i < chunks * gemm.m; i += 32) {
    const int row = i / chunks, chunk = copied + i % chunks;
    Store16(to + row * row_bytes + chunk * 16, chunk * 8 < there
                                                   ? LoadX(from + static_cast<std::size_t>(row) * gemm.k + chunk * 8)
                                                   : make_uint4(0, 0, 0, 0));
  }
  __syncwarp();
}

// sums += scale * c, group by group. Of one row, a lane's sums are its two columns';
// of eight, rows 2 t and 2 t + 1 of the lower, then of the upper column.
template <int kRowBlocks, int kGroups, int kChains, int kBlocks, int kSumCount>
__device__ __forceinline__ void AddScaled(const float (&c)[kChains][kBlocks][4], const std::uint32_t* scales,
                                          float (&sums)[kSumCount]) {
  constexpr int kSteps = kGroups == 0 ? 1 : kGroups;
#pragma unroll
  for (int i = 0; i < kSteps; ++i) {
    float lower = 1, upper = 1;
    if constexpr (kGroups > 0) {
      const float2 both = __half22float2(Half2(scales[i]));
      lower = both.x, upper = both.y * 0.0625f;
    }
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
      float v[4];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        v[n] = c[i * kChains / kSteps][b][n];
#pragma unroll
        for (int chain = i * kChains / kSteps + 1; chain < (i + 1) * kChains / kSteps; ++chain) v[n] += c[chain][b][n];
      }
      if constexpr (kRowBlocks == 0) {
        sums[0] = fmaf(lower, v[0], sums[0]), sums[1] = fmaf(upper, v[2], sums[1]);
      } else {
        sums[4 * b] = fmaf(lower, v[0], sums[4 * b]), sums[4 * b + 1] = fmaf(lower, v[1], sums[4 * b + 1]);
        sums[4 * b + 2] = fmaf(upper, v[2], sums[4 * b + 2]), sums[4 * b + 3] = fmaf(upper, v[3], sums[4 * b + 3]);
      }
    }
  }
}

// For each row that this lane holds: f(row, lower column, upper column).
template <int kRowBlocks, int kSumCount, class Function>
__device__ __forceinline__ void ForEachRow(const float (&sums)[kSumCount], int m, int t, Function f) {
  if constexpr (kRowBlocks == 0) {
    if (t == 0) f(0, sums[0], sums[1]);
  } else {
#pragma unroll
    for (int b = 0; b < kRowBlocks; ++b) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int row = 8 * b + 2 * t + h;
        if (row < m) f(row, sums[4 * b + h], sums[4 * b + 2 + h]);
      }
    }
  }
}

__device__ __forceinline__ void StoreResult(const Gemm& gemm, int row, int column, std::uint32_t pair) {
  if (column >= gemm.n) return;
  __half* const y = static_cast<__half*>(gemm.y) + static_cast<std::size_t>(row) * gemm.n + column;
  *reinterpret_cast<std::uint32_t*>(y) = pair;
}

// Two halves added to memory as they arrive. Asked for by name: atomicAdd() on half2
// gives the sum back, which takes longer.
__device__ __forceinline__ void AddToMemory(__half* to, std::uint32_t pair) {
  asm volatile("red.relaxed.gpu.global.add.noftz.f16x2 [%0], %1;" ::"l"(__cvta_generic_to_global(to)), "r"(pair)
               : "memory");
}

// What the sharers handed on for `strips` strips from `first_strip` on, added in
// ascending order and stored.
template <Sums kSums>
__device__ __forceinline__ void AddHandedOn(const StreamArgs& args, std::uint32_t handed, int first_strip, int strips,
                                            int threads) {
  const Gemm& gemm = args.gemm;
  const int pairs = gemm.m * 8;  // of columns, in a strip
  const int one = gemm.m * (kSums == Sums::kFloat ? 64 : 32);
  for (int i = threadIdx.x; i < strips * pairs; i += threads) {
    const int strip = i / pairs, pair = i - strip * pairs;
    const std::uint32_t from = handed + strip * kSharers * one + pair * (kSums == Sums::kFloat ? 8 : 4);
    std::uint32_t result = 0;
    if constexpr (kSums == Sums::kFloat) {
      float2 sum = LoadSums(from);
#pragma unroll
      for (int w = 1; w < kSharers; ++w) {
        const float2 v = LoadSums(from + w * one);
        sum.x += v.x, sum.y += v.y;
      }
      result = Bits(__floats2half2_rn(sum.x, sum.y));
    } else {
#pragma unroll
      for (int w = 0; w < kSharers; ++w) result = Bits(__hadd2(Half2(result), Half2(Load4(from + w * one))));
    }
    StoreResult(gemm, pair / 8, (first_strip + strip) * 16 + 2 * (pair % 8), result);
  }
}

}  // namespace stream

// kRowBlocks: 0 for one row of x, by eight warps; else blocks of eight rows, by sixteen
// warps. kGroups: groups of one unit, 1, 2 or 4; 0 where a group may end within 32 rows.
template <int kRowBlocks, int kGroups, Sums kSums, int kStages = StreamStages(kRowBlocks),
          int kStageUnits = StreamStageUnits(kRowBlocks)>
__device__ __forceinline__ void StreamBody(const StreamArgs& args) {
  using namespace stream;
  extern __shared__ __align__(128) std::uint8_t stream_shared[];
  constexpr int kWarps = StreamWarps(kRowBlocks), kThreads = kWarps * 32, kStripWarps = kWarps / kSharers;
  constexpr int kBlocks = kRowBlocks == 0 ? 1 : kRowBlocks, kSumCount = kRowBlocks == 0 ? 2 : 4 * kRowBlocks;
  constexpr int kChains = kGroups == 4 ? 4 : 2;
  constexpr int kStageBytes = kStageUnits * kUnitBytes, kStageGroups = kStageUnits * kGroups;
  static_assert(kRowBlocks == 0 || kStageUnits == 1, "a stage lies in one piece of x");
  static_assert(3 * kGroups * kStageUnits <= 32, "a lane copies 16 bytes of scales or zero points");
  const Gemm& gemm = args.gemm;
  // The compiler need not find out that this is the same for a whole warp.
  const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0);
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int sharer = warp % kSharers, strip_warp = warp / kSharers;
  const int part_units = StreamPartUnits(args.units);
  const int begin = min(sharer * part_units, args.units), end = min(begin + part_units, args.units);
  const int first_strip = StreamFirstStrip(kRowBlocks, args.strips, blockIdx.x, gridDim.x);
  const int strips = StreamFirstStrip(kRowBlocks, args.strips, blockIdx.x + 1, gridDim.x) - first_strip;
  const int rounds = (strips + kStripWarps - 1) / kStripWarps;

  const std::uint32_t shared = SharedAddress(stream_shared);
  const std::uint32_t ring = shared + warp * kStages * kStageBytes;
  const std::uint32_t group_ring =
      shared + kWarps * kStages * kStageBytes + warp * kStages * (kGroupBytes * kStageGroups);
  const int row_bytes = StreamRowBytes(kRowBlocks, args.piece_units), piece_bytes = gemm.m * row_bytes;
  const std::uint32_t all_x = shared + StreamRingBytes(kRowBlocks, kStages * kStageUnits, kGroups);
  const std::uint32_t x = all_x + sharer * args.x_buffers * piece_bytes;
  const std::uint32_t all_barriers = all_x + kSharers * args.x_buffers * piece_bytes;
  const std::uint32_t barriers = all_barriers + sharer * args.x_buffers * 8;
  const std::uint32_t handed = all_barriers + kSharers * args.x_buffers * 8;

  Producer<kStages, kStageUnits, kGroups> producer;
  {
    const int stages = (end - begin + kStageUnits - 1) / kStageUnits;
    const int my_strips = (strips - strip_warp + kStripWarps - 1) / kStripWarps;
    const std::size_t strip_bytes = static_cast<std::size_t>(args.k_tiles) * (kUnitBytes / 2);
    const int strip = first_strip + strip_warp, of_group = lane / 3, kind = lane % 3;
    producer.words = reinterpret_cast<const std::uint8_t*>(gemm.words) + strip * strip_bytes +
                     static_cast<std::size_t>(begin) * kUnitBytes + lane * 16;
    producer.words_jump = kStripWarps * strip_bytes - static_cast<std::size_t>(stages) * kStageBytes;
    producer.groups = kind < 2 ? static_cast<const std::uint8_t*>(gemm.scales) + strip * 32 + kind * 16
                               : static_cast<const std::uint8_t*>(gemm.zeros) + strip * 16;
    producer.group_step = kind < 2 ? gemm.padded_n * 2 : gemm.padded_n;
    producer.group_jump = (kind < 2 ? 32 : 16) * kStripWarps;
    producer.ring = ring + lane * 16;
    producer.group_ring = group_ring + of_group * kGroupBytes + kind * 16;
    producer.unit = producer.begin = begin;
    producer.end = end;
    producer.odd = args.k_tiles % 2 != 0 ? args.units - 1 : -1;
    producer.slot = 0;
    producer.left = my_strips * stages;
    producer.first_row = kGroups > 0 ? of_group * (kUnitK / (kGroups > 0 ? kGroups : 1)) : 0;
    producer.last_row = gemm.k - 1;
  }
  for (int i = 0; i < kStages; ++i) producer.Next(args, lane);

  // Pieces of x of this sharer, which one of its warps copies.
  const int pieces = (end - begin + args.piece_units - 1) / args.piece_units;
  const bool in_turns = args.x_buffers < pieces;
  const int copies = in_turns ? rounds * pieces : pieces;
  const auto start_piece = [&](int copy, int buffer) {
    const int unit = begin + copy % pieces * args.piece_units, units = min(args.piece_units, end - unit);
    StartPiece(gemm, unit * kUnitK, units * kUnitK, x + buffer * piece_bytes, row_bytes, barriers + buffer * 8, lane);
  };
  if (strip_warp == 0) {
    if (lane < args.x_buffers) InitBarrier(barriers + lane * 8);
    FenceAsync();
  }
  // All barriers of the block are there before one is used. By the memory model no warp
  // needs that; without it racecheck reports hazards, with results that are right.
  __syncthreads();

  WaitForKernelBefore();
  LetNextKernelStart();

  if (strip_warp == 0) {
    for (int i = 0; i < min(args.x_buffers, copies); ++i) start_piece(i, i);
  }
  if constexpr (kSums == Sums::kHalfArrival) {  // y from 0 up
    const int per_row = strips * 8;             // pairs of columns
    for (int i = threadIdx.x; i < per_row * gemm.m; i += kThreads) {
      StoreResult(gemm, i / per_row, first_strip * 16 + 2 * (i % per_row), 0);
    }
  }
  if constexpr (kRowBlocks > 0 || kSums == Sums::kHalfArrival) __syncthreads();
  // ldmatrix: the row whose address this lane gives. Rows beyond the last repeat it;
  // their sums are dropped.
  std::uint32_t x_rows[kBlocks];
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    x_rows[b] = kRowBlocks == 0 ? lane / 8 * 16 : min(8 * b + lane % 8, gemm.m - 1) * row_bytes + lane / 8 * 16;
  }

  // Sums handed on to other threads, of one strip: floats or halves [kSharers][m][16].
  const int one = gemm.m * (kSums == Sums::kFloat ? 64 : 32), per_strip = one * kSharers;

  int slot = 0, buffer = 0, copy = 0;
  std::uint32_t parity = 0;
  for (int round = 0; round < rounds; ++round) {
    const int strip_in_block = round * kStripWarps + strip_warp, strip = first_strip + strip_in_block;
    const std::uint32_t hand = handed + (kRowBlocks == 0 ? round : strip_warp) * per_strip;
    float sums[kSumCount] = {};
    [[maybe_unused]] std::uint32_t rounded[kSumCount / 2] = {};  // kHalfOrdered: pairs as ForEachRow has them
    for (int piece = 0; piece < pieces; ++piece, ++copy) {
      const int piece_begin = begin + piece * args.piece_units;
      const int piece_end = strip_in_block < strips ? min(piece_begin + args.piece_units, end) : piece_begin;
      WaitForBytes(barriers + buffer * 8, parity);
      const std::uint32_t x_piece = x + buffer * piece_bytes - piece_begin * (kUnitK * 2);
      for (int first = piece_begin; first < piece_end; first += kStageUnits) {
        WaitForCopies<kStages - 1>();
        __syncwarp();
        uint4 words[kStageUnits][2];
        std::uint32_t scales[kStageGroups > 0 ? kStageGroups : 1], zeros[kStageGroups > 0 ? kStageGroups : 1];
#pragma unroll
        for (int u = 0; u < kStageUnits; ++u) {
          const std::uint32_t at = ring + slot * kStageBytes + u * kUnitBytes + lane * 16;
          words[u][0] = Load16(at), words[u][1] = Load16(at + kUnitBytes / 2);
        }
#pragma unroll
        for (int i = 0; i < kStageGroups; ++i) {
          const std::uint32_t group = group_ring + (slot * kStageGroups + i) * kGroupBytes;
          scales[i] = Load4(group + 4 * g);
          zeros[i] = Load2(group + 32 + 2 * g);
        }
        if (++slot == kStages) slot = 0;
        __syncwarp();
        producer.Next(args, lane);
#pragma unroll
        for (int u = 0; u < kStageUnits; ++u) {
          const int unit = first + u;
          if (u > 0 && unit >= piece_end) break;
          float c[kChains][kBlocks][4] = {};
#pragma unroll
          for (int tile = 0; tile < 2; ++tile) {
            std::uint32_t xs[kBlocks][8];
#pragma unroll
            for (int b = 0; b < kBlocks; ++b) {
              const std::uint32_t at = x_piece + x_rows[b] + unit * (kUnitK * 2) + tile * (kTileK * 2);
              LoadMatrices(at, xs[b]);
              LoadMatrices(at + kTileK, xs[b] + 4);  // 32 columns on
            }
            const std::uint32_t word[4] = {words[u][tile].x, words[u][tile].y, words[u][tile].z, words[u][tile].w};
#pragma unroll
            for (int j = 0; j < 4; ++j) {
              std::uint32_t a[4];
              if constexpr (kGroups > 0) {
                ExpandIntegers(word[j], zeros[u * kGroups + (2 * tile + j / 2) * kGroups / 4], a);
              } else {
                ExpandRounded(args, word[j], unit * kUnitK + tile * kTileK + 16 * j, strip * 16 + 2 * g, a);
              }
              const int chain = kChains == 4 ? 2 * tile + j / 2 : tile;
#pragma unroll
              for (int b = 0; b < kBlocks; ++b) MultiplyAdd(c[chain][b], a, xs[b][2 * j], xs[b][2 * j + 1]);
            }
          }
          if constexpr (kSums != Sums::kFloat) {
#pragma unroll
            for (int i = 0; i < kSumCount; ++i) sums[i] = 0;
          }
          AddScaled<kRowBlocks, kGroups>(c, scales + u * kGroups, sums);
          if constexpr (kSums == Sums::kHalfOrdered) {
#pragma unroll
            for (int i = 0; i < kSumCount / 2; ++i) {
              const int at = kRowBlocks == 0 ? 0 : 4 * (i / 2) + i % 2;
              const __half2 sum = __floats2half2_rn(sums[at], sums[at + kSumCount / (2 * kBlocks)]);
              rounded[i] = Bits(__hadd2(Half2(rounded[i]), sum));
            }
          } else if constexpr (kSums == Sums::kHalfArrival) {
            const int column = strip * 16 + 2 * g;
            ForEachRow<kRowBlocks>(sums, gemm.m, t, [&](int row, float lower, float upper) {
              if (column >= gemm.n) return;
              __half* const y = static_cast<__half*>(gemm.y) + static_cast<std::size_t>(row) * gemm.n + column;
              AddToMemory(y, Bits(__floats2half2_rn(lower, upper)));
            });
          }
        }
      }
      const int filled = buffer;
      if (in_turns) {
        if (++buffer == args.x_buffers) buffer = 0, parity ^= 1;
        if constexpr (kRowBlocks > 0) {
          MeetPair(1 + sharer);  // both warps are done with the piece
          if (strip_warp == 0 && copy + args.x_buffers < copies) start_piece(copy + args.x_buffers, filled);
        }
      } else {
        buffer = piece + 1 < pieces ? piece + 1 : 0;
      }
    }
    if constexpr (kSums == Sums::kHalfOrdered) {
#pragma unroll
      for (int i = 0; i < kSumCount / 2; ++i) {
        const int at = kRowBlocks == 0 ? 0 : 4 * (i / 2) + i % 2;
        const float2 pair = __half22float2(Half2(rounded[i]));
        sums[at] = pair.x, sums[at + kSumCount / (2 * kBlocks)] = pair.y;
      }
    }
    if constexpr (kSums != Sums::kHalfArrival) {
      if (strip_in_block < strips) {
        ForEachRow<kRowBlocks>(sums, gemm.m, t, [&](int row, float lower, float upper) {
          if constexpr (kSums == Sums::kFloat) {
            StoreSums(hand + sharer * one + row * 64 + g * 8, lower, upper);
          } else {
            Store4(hand + sharer * one + row * 32 + g * 4, Bits(__floats2half2_rn(lower, upper)));
          }
        });
      }
    }
    if constexpr (kRowBlocks > 0 && kSums != Sums::kHalfArrival) {
      __syncthreads();
      AddHandedOn<kSums>(args, handed, first_strip + round * kStripWarps,
                         min(kStripWarps, strips - round * kStripWarps), kThreads);
      if (round + 1 < rounds) __syncthreads();
    }
  }
  if constexpr (kRowBlocks == 0 && kSums != Sums::kHalfArrival) {
    __syncthreads();
    AddHandedOn<kSums>(args, handed, first_strip, strips, kThreads);
  }
}

}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_STREAM_CUH_
