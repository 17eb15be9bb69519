// Decode attention of fp16 and bf16 on tensor cores, from the rows of q, k and v
// as the projection leaves them: a block normalizes and rotates what it needs,
// puts the new key and value into the cache and attends.
//
// Compiled without contraction, for rope.cuh.
//
// A warp takes 16 positions at a time. Its lanes copy keys and values with 16-byte
// accesses into slots of their own, so that nothing but the copy itself is waited
// for, and all that fits is under way before anything is computed. The order of
// the dimensions within a product is free, so a lane's 16 bytes of a key are its
// operands of two products, and the values' dimensions are dealt out likewise.
// Weights enter the second product as the sum of two numbers of the type, the
// lower in the rows of the matrix that a group of up to eight heads leaves free:
// what is lost of a weight is lost beyond float32's digits for fp16, and beyond
// 2^-17 of it for bf16.
#include <algorithm>
#include <atomic>
#include <cfloat>

#include "suites/model/cuda/attention_common.cuh"
#include "suites/model/cuda/attention_plan.h"
#include "suites/model/cuda/chain.cuh"
#include "suites/model/cuda/launch.h"
#include "suites/model/cuda/numeric.cuh"
#include "suites/model/cuda/rope.cuh"

namespace suites::internal {
namespace {

constexpr int kWarps = kShareWarps;
constexpr int kThreads = 32 * kWarps;
constexpr int kHeads = 8;   // rows of a product that heads can take
constexpr int kStages = 2;  // tiles of a warp under way

// d += a . b, 16x8 by 16x16 and 16x8. See the PTX manual for who holds what.
template <class T>
__device__ void Multiply(float (&d)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2, std::uint32_t a3,
                         std::uint32_t b0, std::uint32_t b1) {
  if constexpr (std::is_same_v<T, __half>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}

template <class T>
__device__ std::uint32_t PairOf(T low, T high) {
  const Pair<T> pair{low, high};
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}

// Where a lane's copies of a tile lie, for keys and for values.
template <int D>
struct Slots {
  static constexpr int kKeyLoads = D / 16;                        // [2][D / 32]: positions of a half, pieces of a row
  static constexpr int kValueLoads = D / 16;                      // [4][D / 64]
  static constexpr int kBytes = (kKeyLoads + kValueLoads) * 512;  // of a warp
};

// The sums of the warps of a block, in the ring's place: [kWarps][kHeads] rows of D.
template <int D>
inline constexpr int kSumStride = D + 8;

template <int D>
constexpr std::size_t SharedBytes() {
  constexpr std::size_t kRing = static_cast<std::size_t>(kWarps) * kStages * Slots<D>::kBytes;
  constexpr std::size_t kSums = static_cast<std::size_t>(kWarps) * kHeads * kSumStride<D> * sizeof(float);
  return kRing > kSums ? kRing : kSums;
}

// Element e of all heads' sums, over the warps in their order.
template <int D>
__device__ float SumOfWarps(const float* sums, int e) {
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) sum += sums[(w * kHeads + e / D) * kSumStride<D> + e % D];
  return sum;
}

// A barrier of the blocks of a cluster, in two halves; what was written before one
// half is seen after the other.
__device__ void ArriveAtCluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ void WaitForCluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
// Into the same place of the shared memory of another block of the cluster.
__device__ void StoreToBlock(float* place, int block, float value) {
#if __CUDA_ARCH__ >= 900
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(place));
  unsigned remote;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(block));
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(remote), "f"(value) : "memory");
#endif
}

// Block (share, kv_head, up to eight of its query heads).
template <class T, int D, bool kRotate, bool kCluster>
__global__ void __launch_bounds__(kThreads) AttendKernel(RopeArgs rope, DecodeAttentionArgs args, int heads_at_once) {
  using Slot = Slots<D>;
  extern __shared__ __align__(16) unsigned char ring[];
  __shared__ __align__(16) T query[kHeads][D];
  __shared__ __align__(16) T fresh[2][D];  // the position's own key and value
  __shared__ float maxima[kWarps][kHeads], totals[kWarps][kHeads];
  __shared__ float slices[kShares][kHeads * D / kShares];  // of all shares, the part that this block puts together
  __shared__ float share_maxima[kShares][kHeads], share_totals[kShares][kHeads];

  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int i = lane / 4;  // a head or a position, a column of the second product
  const int j = lane % 4;
  if constexpr (kCluster) ArriveAtCluster();  // by the wait, all its blocks have begun

  // Without the rotation the cache's last row is one launch old.
  if (!kRotate) WaitForLaunchesAhead();
  // The state and the rows before `position` are older than this step.
  const int position = __ldcg(&args.state->position);
  const int length = position + 1;
  const int share = blockIdx.x;
  const int in_cache = kRotate ? position : length;
  const bool has_position = position / kTile % kShares == share;

  const int kv_head = blockIdx.y;
  const int group = args.q_heads / args.kv_heads;
  const int first_head = kv_head * group + static_cast<int>(blockIdx.z) * heads_at_once;
  const int heads = min(heads_at_once, group - static_cast<int>(blockIdx.z) * heads_at_once);
  const T* keys = static_cast<const T*>(args.keys) + kv_head * args.capacity * D;
  const T* values = static_cast<const T*>(args.values) + kv_head * args.capacity * D;

  const int rounds = TilesOfWarp(share, warp, length);
  uint4* slots = reinterpret_cast<uint4*>(ring + warp * kStages * Slot::kBytes) + lane;
  const auto copy = [&](int r) {
    const int begin = TileBegin(share, warp, r);
    uint4* slot = slots + r % kStages * (Slot::kBytes / 16);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const int key = begin + 8 * n + i;
      const T* from = keys + static_cast<std::int64_t>(key) * D + 8 * j;
#pragma unroll
      for (int c = 0; c < D / 32; ++c) {
        CopyAsync(slot + (n * (D / 32) + c) * 32, key < in_cache ? from + 32 * c : keys, key < in_cache);
      }
    }
    slot += Slot::kKeyLoads * 32;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int key = begin + 2 * j + k % 2 + k / 2 * 8;
      const T* from = values + static_cast<std::int64_t>(key) * D + 8 * i;
#pragma unroll
      for (int h = 0; h < D / 64; ++h) {
        CopyAsync(slot + (k * (D / 64) + h) * 32, key < in_cache ? from + 64 * h : values, key < in_cache);
      }
    }
  };
#pragma unroll
  for (int s = 0; s < kStages; ++s) {
    if (s < rounds) copy(s);
    CommitCopies();
  }
  LetNextLaunchBegin();

  const int half = args.head_dim / 2;
  if constexpr (kRotate) {
    RotationPairs rotation;
    rotation.Load(rope, position, lane);
    NormPairs<T> weight;
    // Heads first, then, where the share holds the position, its key and value.
    const int rows = heads + (has_position ? 2 : 0);
    weight.Load(static_cast<const T*>(warp == heads ? rope.k_norm : rope.q_norm), half, lane);
    WaitForLaunchesAhead();
    for (int row = warp; row < rows; row += kWarps) {
      const bool is_query = row < heads;
      const bool is_value = row == heads + 1;
      const int head = is_query ? first_head + row : args.q_heads + (is_value ? args.kv_heads : 0) + kv_head;
      HeadPairs<T> pairs;
      pairs.Load(static_cast<const T*>(rope.qkv) + head * args.head_dim, half, lane);
      if (!is_value) {
        if (row != warp) weight.Load(static_cast<const T*>(row == heads ? rope.k_norm : rope.q_norm), half, lane);
        NormalizeAndRotate(pairs, weight, rotation, args.head_dim, rope.eps);
      }
      T* to = is_query ? query[row] : fresh[is_value ? 1 : 0];
      pairs.Store(to, half, lane);
      for (int d = args.head_dim + lane; d < D; d += 32) to[d] = Narrow<T>(0.0f);
      // Told by one block each.
      if (is_query ? share == 0 : blockIdx.z == 0) {
        pairs.Store(static_cast<T*>(rope.out) + head * args.head_dim, half, lane);
      }
      if (!is_query && blockIdx.z == 0) {
        T* cached = static_cast<T*>(is_value ? rope.values : rope.keys) +
                    (kv_head * args.capacity + position) * std::int64_t{D};
        pairs.Store(cached, half, lane);
        for (int d = args.head_dim + lane; d < D; d += 32) cached[d] = Narrow<T>(0.0f);
      }
    }
  } else {
    for (int e = threadIdx.x; e < heads * D; e += kThreads) {
      const int head = e / D;
      const int d = e % D;
      query[head][d] = d < args.head_dim ? static_cast<const T*>(args.query)[(first_head + head) * args.head_dim + d]
                                         : Narrow<T>(0.0f);
    }
  }
  for (int e = heads * D + threadIdx.x; e < kHeads * D; e += kThreads) query[e / D][e % D] = Narrow<T>(0.0f);
  __syncthreads();

  uint4 q[D / 32];
#pragma unroll
  for (int c = 0; c < D / 32; ++c) q[c] = *reinterpret_cast<const uint4*>(&query[i][32 * c + 8 * j]);

  const float scale = args.scale * kLog2E;  // scores are exponents of two
  float largest = -INFINITY, total = 0;
  float out[D / 64][8][4] = {};
  for (int r = 0; r < rounds; ++r) {
    WaitForCopies<kStages - 1>();
    const int begin = TileBegin(share, warp, r);
    uint4* slot = slots + r % kStages * (Slot::kBytes / 16);
    uint4* value_slot = slot + Slot::kKeyLoads * 32;
    if (kRotate && begin + kTile > position) {  // in no other round
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        if (begin + 8 * n + i != position) continue;
#pragma unroll
        for (int c = 0; c < D / 32; ++c) {
          slot[(n * (D / 32) + c) * 32] = *reinterpret_cast<const uint4*>(&fresh[0][32 * c + 8 * j]);
        }
      }
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (begin + 2 * j + k % 2 + k / 2 * 8 != position) continue;
#pragma unroll
        for (int h = 0; h < D / 64; ++h) {
          value_slot[(k * (D / 64) + h) * 32] = *reinterpret_cast<const uint4*>(&fresh[1][64 * h + 8 * i]);
        }
      }
    }

    float score[2][4] = {}, more[2][4] = {};  // sums apart, so that neither waits for the other
#pragma unroll
    for (int c = 0; c < D / 32; ++c) {
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const uint4 key = slot[(n * (D / 32) + c) * 32];
        Multiply<T>(score[n], q[c].x, 0, q[c].y, 0, key.x, key.y);
        Multiply<T>(more[n], q[c].z, 0, q[c].w, 0, key.z, key.w);
      }
    }
    float round_largest = largest;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        score[n][e] = begin + 8 * n + 2 * j + e < length ? (score[n][e] + more[n][e]) * scale : -INFINITY;
        round_largest = fmaxf(round_largest, score[n][e]);
      }
    }
    round_largest = fmaxf(round_largest, __shfl_xor_sync(~0u, round_largest, 1));
    round_largest = fmaxf(round_largest, __shfl_xor_sync(~0u, round_largest, 2));
    // A NaN in the cache comes out as one; -inf - -inf would make more of them.
    const float shift = round_largest == -INFINITY ? 0.0f : round_largest;
    if (r > 0) {
      const float factor = exp2f(largest - shift);
      total *= factor;
#pragma unroll
      for (int h = 0; h < D / 64; ++h) {
#pragma unroll
        for (int t = 0; t < 8; ++t) {
#pragma unroll
          for (int e = 0; e < 4; ++e) out[h][t][e] *= factor;
        }
      }
    }
    largest = round_largest;
    std::uint32_t upper[2], lower[2];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const float w0 = exp2f(score[n][0] - shift);
      const float w1 = exp2f(score[n][1] - shift);
      total += w0 + w1;
      const T u0 = Narrow<T>(w0), u1 = Narrow<T>(w1);
      upper[n] = PairOf<T>(u0, u1);
      lower[n] = PairOf<T>(Narrow<T>(w0 - Widen(u0)), Narrow<T>(w1 - Widen(u1)));
    }
#pragma unroll
    for (int h = 0; h < D / 64; ++h) {
      uint4 value[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) value[k] = value_slot[(k * (D / 64) + h) * 32];
#pragma unroll
      for (int t = 0; t < 8; ++t) {
        const auto word = [&](int k) {
          return t / 2 == 0 ? value[k].x : t / 2 == 1 ? value[k].y : t / 2 == 2 ? value[k].z : value[k].w;
        };
        const unsigned pick = t % 2 == 0 ? 0x5410 : 0x7632;
        Multiply<T>(out[h][t], upper[0], lower[0], upper[1], lower[1], __byte_perm(word(0), word(1), pick),
                    __byte_perm(word(2), word(3), pick));
      }
    }
    if (r + kStages < rounds) copy(r + kStages);
    CommitCopies();
  }

  total += __shfl_xor_sync(~0u, total, 1);
  total += __shfl_xor_sync(~0u, total, 2);
  if (j == 0) {
    maxima[warp][i] = largest;
    totals[warp][i] = total;
  }
  __syncthreads();  // nobody reads the ring any more either

  // The warps' sums, each in terms of the block's largest score.
  float* sums = reinterpret_cast<float*>(ring);
  float block_largest = -INFINITY, block_total = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) block_largest = fmaxf(block_largest, maxima[w][i]);
#pragma unroll
  for (int w = 0; w < kWarps; ++w) block_total += totals[w][i] * Factor(maxima[w][i], block_largest);
  if (i < heads) {
    const float factor = Factor(largest, block_largest);
    float* to = sums + (warp * kHeads + i) * kSumStride<D> + 16 * j;
#pragma unroll
    for (int h = 0; h < D / 64; ++h) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
#pragma unroll
        for (int t = 0; t < 8; t += 4) {
          float4 four;
          four.x = (out[h][t][e] + out[h][t][2 + e]) * factor;
          four.y = (out[h][t + 1][e] + out[h][t + 1][2 + e]) * factor;
          four.z = (out[h][t + 2][e] + out[h][t + 2][2 + e]) * factor;
          four.w = (out[h][t + 3][e] + out[h][t + 3][2 + e]) * factor;
          *reinterpret_cast<float4*>(to + 64 * h + 8 * e + t) = four;
        }
      }
    }
  }
  __syncthreads();
  if constexpr (kCluster) {
    WaitForCluster();
    // To whoever puts it together: each block an equal slice of all heads.
    const int slice = heads_at_once * D / kShares;
    for (int e = threadIdx.x; e < heads * D; e += kThreads) {
      StoreToBlock(&slices[share][e % slice], e / slice, SumOfWarps<D>(sums, e));
    }
    if (j == 0) {
      for (int s = warp; s < kShares; s += kWarps) {
        StoreToBlock(&share_maxima[share][i], s, block_largest);
        StoreToBlock(&share_totals[share][i], s, block_total);
      }
    }
    ArriveAtCluster();
    WaitForCluster();
    for (int e = threadIdx.x; e < slice; e += kThreads) {
      const int element = share * slice + e;
      const int head = element / D;
      const int d = element % D;
      float largest_of_all = -INFINITY;
#pragma unroll
      for (int s = 0; s < kShares; ++s) largest_of_all = fmaxf(largest_of_all, share_maxima[s][head]);
      float sum = 0, all = 0;
#pragma unroll
      for (int s = 0; s < kShares; ++s) {
        const float factor = Factor(share_maxima[s][head], largest_of_all);
        sum = fmaf(factor, slices[s][e], sum);
        all += factor * share_totals[s][head];
      }
      if (head < heads && d < args.head_dim) {
        static_cast<T*>(args.out)[(first_head + head) * args.head_dim + d] = Narrow<T>(sum / all);
      }
    }
  } else {
    const int slot = kv_head * static_cast<int>(gridDim.z) + static_cast<int>(blockIdx.z);
    const int stride = PartialFloats(heads_at_once, D);
    float* partials = args.workspace + static_cast<std::int64_t>(slot) * kShares * stride;
    float* partial = partials + share * stride;
    for (int e = threadIdx.x; e < heads * D; e += kThreads) partial[e] = SumOfWarps<D>(sums, e);
    if (warp == 0 && j == 0 && i < heads) {
      partial[heads_at_once * D + i] = block_largest;
      partial[heads_at_once * (D + 1) + i] = block_total;
    }
    if (!IsLastToArrive(args.arrived + slot, kShares)) return;
    CombineParts<T, D, kThreads>(partials, kShares, heads_at_once, heads, args.head_dim, &slices[0][0],
                                 static_cast<T*>(args.out) + first_head * args.head_dim);
  }
}

template <class T, int D, bool kRotate, bool kCluster>
void LaunchOne(const RopeArgs& rope, const DecodeAttentionArgs& args, cudaStream_t stream) {
  constexpr auto kKernel = AttendKernel<T, D, kRotate, kCluster>;
  const int group = args.q_heads / args.kv_heads;
  const int heads = HeadsAtOnce(group);
  const dim3 grid(kShares, static_cast<unsigned>(args.kv_heads), static_cast<unsigned>((group + heads - 1) / heads));
  LaunchInChain<kKernel>("attention", grid, dim3(kThreads), SharedBytes<D>(), stream, kCluster ? kShares : 0u, rope,
                         args, heads);
}

std::atomic<std::size_t> block_limit = DeviceLimits().block_bytes;
std::atomic<bool> clusters_allowed = DeviceLimits().clusters;

template <class T, int D, bool kRotate>
void Launch(const RopeArgs& rope, const DecodeAttentionArgs& args, cudaStream_t stream) {
  CanOverlapLaunches() && clusters_allowed ? LaunchOne<T, D, kRotate, true>(rope, args, stream)
                                           : LaunchOne<T, D, kRotate, false>(rope, args, stream);
}

}  // namespace

bool MmaAttentionFits(int padded_head_dim) {
  int device = 0, shared = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return std::min(static_cast<std::size_t>(shared), block_limit.load()) >=
         (padded_head_dim == 64 ? SharedBytes<64>() : SharedBytes<128>());
}

void LimitAttention(const DeviceLimits& limits) {
  block_limit = limits.block_bytes;
  clusters_allowed = limits.clusters;
}

void LaunchMmaAttention(Precision precision, const RopeArgs* rope, const DecodeAttentionArgs& args,
                        cudaStream_t stream) {
  const auto launch = [&]<class T>(T) {
    if (args.padded_head_dim == 64) {
      rope != nullptr ? Launch<T, 64, true>(*rope, args, stream) : Launch<T, 64, false>({}, args, stream);
    } else {
      rope != nullptr ? Launch<T, 128, true>(*rope, args, stream) : Launch<T, 128, false>({}, args, stream);
    }
  };
  precision == Precision::kFp16 ? launch(__half()) : launch(__nv_bfloat16());
}

}  // namespace suites::internal
