// Decode attention: one query row, the whole context, split over blocks. On the
// ordinary units, for what attention_mma.cu does not take.
#include "suites/model/cuda/attention_common.cuh"
#include "suites/model/cuda/attention_plan.h"
#include "suites/model/cuda/chain.cuh"
#include "suites/model/cuda/launch.h"
#include "suites/model/cuda/numeric.cuh"

namespace suites::internal {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kKeysAtOnce = 4;

// Sums v[i] over the lanes that differ in the bits below 2 kMask. While there is
// more than one value, each step leaves a lane half of them; v[0 .. ] are then
// those from `index` on.
template <int kCount, int kMask, int N>
__device__ void ReduceScatter(float (&v)[N], int lane, int& index) {
  if constexpr (kMask > 0 && kCount > 1) {
    const bool upper = (lane & kMask) != 0;
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      const float keep = upper ? v[i + kCount / 2] : v[i];
      const float send = upper ? v[i] : v[i + kCount / 2];
      v[i] = keep + __shfl_xor_sync(~0u, send, kMask);
    }
    if (upper) index += kCount / 2;
    ReduceScatter<kCount / 2, kMask / 2>(v, lane, index);
  } else if constexpr (kMask > 0) {
    v[0] += __shfl_xor_sync(~0u, v[0], kMask);
    ReduceScatter<1, kMask / 2>(v, lane, index);
  }
}

template <class T, int D, int G>
struct Tile {
  static constexpr int kElements = 16 / sizeof(T);  // of one 16-byte access
  static constexpr int kLanes = D / kElements;      // that read one row
  static constexpr int kRows = kThreads / kLanes;   // read at once
  static std::size_t SharedBytes(int chunks) {
    const std::size_t tiles = 2 * static_cast<std::size_t>(kChunk) * D * sizeof(T);
    const std::size_t scores = static_cast<std::size_t>(kChunk) * G * sizeof(float);
    const std::size_t factors = 2 * static_cast<std::size_t>(chunks) * G * sizeof(float);
    return (tiles + scores > factors ? tiles + scores : factors) + 2 * G * sizeof(float);
  }
};

// Block (chunk, kv_head, heads): up to G query heads of one key-value head.
template <class T, int D, int G>
__global__ void __launch_bounds__(kThreads) DecodeAttentionKernel(DecodeAttentionArgs args, int max_chunks) {
  using Shape = Tile<T, D, G>;
  constexpr int kElements = Shape::kElements;
  constexpr int kLanes = Shape::kLanes;
  constexpr int kRows = Shape::kRows;
  extern __shared__ __align__(16) unsigned char shared[];

  LetNextLaunchBegin();
  WaitForLaunchesAhead();
  const int length = args.state->position + 1;
  const int count = ChunksOf(length);
  const int chunk = blockIdx.x;
  if (chunk >= count) return;
  const int first = chunk * kChunk;
  const int valid = min(kChunk, length - first);
  T* keys = reinterpret_cast<T*>(shared);
  T* values = keys + kChunk * D;
  float* scores = reinterpret_cast<float*>(values + kChunk * D);  // [chunk][G]
  float* maxima = scores + kChunk * G;                            // [G]
  float* totals = maxima + G;                                     // [G]

  const int kv_head = blockIdx.y;
  const int group = args.q_heads / args.kv_heads;
  const int first_head = kv_head * group + blockIdx.z * G;
  const int heads = min(G, group - static_cast<int>(blockIdx.z) * G);
  const std::int64_t origin = (kv_head * args.capacity + first) * D;
  const int tile_words = kChunk * kLanes;
  for (int part = 0; part < 2; ++part) {
    const T* from = static_cast<const T*>(part == 0 ? args.keys : args.values) + origin;
    T* to = part == 0 ? keys : values;
    for (int i = threadIdx.x; i < tile_words; i += kThreads) {
      const bool inside = i / kLanes < valid;
      CopyAsync(to + i * kElements, inside ? from + i * kElements : from, inside);
    }
    CommitCopies();
  }

  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  const int row_of_thread = threadIdx.x / kLanes;
  const int d0 = threadIdx.x % kLanes * kElements;
  float query[G][kElements];
#pragma unroll
  for (int g = 0; g < G; ++g) {
    const T* head = static_cast<const T*>(args.query) + (first_head + g) * args.head_dim;
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
      query[g][e] = g < heads && d0 + e < args.head_dim ? Widen(head[d0 + e]) : 0.0f;
    }
  }

  WaitForCopies<1>();
  __syncthreads();
  for (int base = row_of_thread * kKeysAtOnce; base < kChunk; base += kRows * kKeysAtOnce) {
    constexpr int kCount = kKeysAtOnce * G;
    float dots[kCount];
#pragma unroll
    for (int k = 0; k < kKeysAtOnce; ++k) {
      const auto key = *reinterpret_cast<const Pack<T, kElements>*>(keys + (base + k) * D + d0);
#pragma unroll
      for (int g = 0; g < G; ++g) dots[k * G + g] = 0;
#pragma unroll
      for (int e = 0; e < kElements; ++e) {
        const float element = Widen(key.value[e]);
#pragma unroll
        for (int g = 0; g < G; ++g) dots[k * G + g] = fmaf(query[g][e], element, dots[k * G + g]);
      }
    }
    int index = 0;
    ReduceScatter<kCount, kLanes / 2>(dots, lane, index);
    constexpr int kLeft = kCount > kLanes ? kCount / kLanes : 1;
    constexpr int kCopies = kLanes > kCount ? kLanes / kCount : 1;  // lanes that hold the same sum
    if (lane % kCopies == 0) {
#pragma unroll
      for (int i = 0; i < kLeft; ++i) {
        const int row = base + (index + i) / G;
        scores[row * G + (index + i) % G] = row < valid ? dots[i] * args.scale : -INFINITY;
      }
    }
  }
  __syncthreads();

  for (int g = warp; g < G; g += kWarps) {
    float largest = -INFINITY;
    for (int i = lane; i < kChunk; i += 32) largest = fmaxf(largest, scores[i * G + g]);
    for (int mask = 16; mask > 0; mask /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, mask));
    const float shift = largest == -INFINITY ? 0.0f : largest;
    float total = 0;
    for (int i = lane; i < kChunk; i += 32) {
      const float weight = exp2f((scores[i * G + g] - shift) * kLog2E);
      scores[i * G + g] = weight;
      total += weight;
    }
    for (int mask = 16; mask > 0; mask /= 2) total += __shfl_xor_sync(~0u, total, mask);
    if (lane == 0) {
      maxima[g] = largest;
      totals[g] = total;
    }
  }
  WaitForCopies<0>();
  __syncthreads();

  float sums[G][kElements];
#pragma unroll
  for (int g = 0; g < G; ++g) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) sums[g][e] = 0;
  }
  for (int row = row_of_thread; row < valid; row += kRows) {
    const auto value = *reinterpret_cast<const Pack<T, kElements>*>(values + row * D + d0);
    float weight[G];
#pragma unroll
    for (int g = 0; g < G; ++g) weight[g] = scores[row * G + g];
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
      const float element = Widen(value.value[e]);
#pragma unroll
      for (int g = 0; g < G; ++g) sums[g][e] = fmaf(weight[g], element, sums[g][e]);
    }
  }
  // Rows meet within a warp, then the warps in their order, over the keys' memory.
  float* of_warps = reinterpret_cast<float*>(keys);
#pragma unroll
  for (int g = 0; g < G; ++g) {
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
#pragma unroll
      for (int mask = 16; mask >= kLanes; mask /= 2) sums[g][e] += __shfl_xor_sync(~0u, sums[g][e], mask);
      if (lane < kLanes) of_warps[(warp * G + g) * D + d0 + e] = sums[g][e];
    }
  }
  __syncthreads();

  const int slot = kv_head * gridDim.z + blockIdx.z;
  T* out = static_cast<T*>(args.out) + first_head * args.head_dim;
  constexpr int kPartial = PartialFloats(G, D);
  float* partials = args.workspace + static_cast<std::int64_t>(slot) * max_chunks * kPartial;
  float* partial = partials + chunk * kPartial;
  for (int i = threadIdx.x; i < G * D; i += kThreads) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) sum += of_warps[w * G * D + i];
    const int g = i / D;
    if (count > 1) {
      partial[i] = sum;
    } else if (g < heads && i % D < args.head_dim) {
      out[g * args.head_dim + i % D] = Narrow<T>(sum / totals[g]);
    }
  }
  if (count == 1) return;
  if (threadIdx.x < G) {
    partial[G * D + threadIdx.x] = maxima[threadIdx.x] * kLog2E;
    partial[G * D + G + threadIdx.x] = totals[threadIdx.x];
  }
  if (!IsLastToArrive(args.arrived + slot, count)) return;
  CombineParts<T, D, kThreads>(partials, count, G, heads, args.head_dim, reinterpret_cast<float*>(shared), out);
}

template <class T, int D, int G>
void Launch(const DecodeAttentionArgs& args, cudaStream_t stream) {
  constexpr auto kKernel = DecodeAttentionKernel<T, D, G>;
  const int chunks = ChunksOf(static_cast<int>(args.max_length));
  const std::size_t bytes = Tile<T, D, G>::SharedBytes(chunks);
  const int group = args.q_heads / args.kv_heads;
  const dim3 grid(static_cast<unsigned>(chunks), static_cast<unsigned>(args.kv_heads),
                  static_cast<unsigned>((group + G - 1) / G));
  LaunchInChain<kKernel>("attention", grid, dim3(kThreads), bytes, stream, 0, args, chunks);
}

template <class T, int D>
void LaunchGroup(const DecodeAttentionArgs& args, cudaStream_t stream) {
  switch (HeadsAtOnce(args.q_heads / args.kv_heads)) {
    case 1:
      return Launch<T, D, 1>(args, stream);
    case 2:
      return Launch<T, D, 2>(args, stream);
    case 4:
      return Launch<T, D, 4>(args, stream);
    default:
      return Launch<T, D, 8>(args, stream);
  }
}

// On the current device.
bool OnTensorCores(Precision precision, int padded_head_dim) {
  return AttendsOnTensorCores(precision == Precision::kFp32 ? 4 : 2, padded_head_dim) &&
         MmaAttentionFits(padded_head_dim);
}

}  // namespace

void LaunchDecodeAttention(Precision precision, const DecodeAttentionArgs& args, cudaStream_t stream) {
  if (OnTensorCores(precision, args.padded_head_dim)) {
    return LaunchMmaAttention(precision, nullptr, args, stream);
  }
  WithElement(precision, [&]<class T>(T) {
    switch (args.padded_head_dim) {
      case 32:
        return LaunchGroup<T, 32>(args, stream);
      case 64:
        return LaunchGroup<T, 64>(args, stream);
      case 128:
        return LaunchGroup<T, 128>(args, stream);
      default:
        throw std::invalid_argument("attention: the padded head_dim is not 32, 64 or 128");
    }
  });
}

void LaunchRopeAttention(Precision precision, const RopeArgs& rope, const DecodeAttentionArgs& args,
                         cudaStream_t stream) {
  if (OnTensorCores(precision, args.padded_head_dim)) {
    return LaunchMmaAttention(precision, &rope, args, stream);
  }
  LaunchRope(precision, rope, stream);
  LaunchDecodeAttention(precision, args, stream);
}

std::size_t DecodeAttentionWorkspace(Precision precision, std::int64_t max_length, int q_heads, int kv_heads,
                                     int padded_head_dim) {
  const int group = q_heads / kv_heads;
  const int at_once = HeadsAtOnce(group);
  const std::size_t slots = static_cast<std::size_t>(kv_heads) * ((group + at_once - 1) / at_once);
  const int parts = OnTensorCores(precision, padded_head_dim) ? kShares : ChunksOf(static_cast<int>(max_length));
  return slots * static_cast<std::size_t>(parts) * static_cast<std::size_t>(PartialFloats(at_once, padded_head_dim)) *
         sizeof(float);
}

}  // namespace suites::internal
