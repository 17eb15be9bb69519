// Compiled without contraction: each product and each sum rounds by itself, as
// on the CPU, so that all but the norms' sums give the CPU's bits.
#include <stdexcept>

#include "suites/model/cuda/chain.cuh"
#include "suites/model/cuda/launch.h"
#include "suites/model/cuda/numeric.cuh"
#include "suites/model/cuda/rope.cuh"

namespace suites::internal {
namespace {

constexpr int kWidth = 8;  // elements of one thread's access

template <class T>
__global__ void EmbeddingKernel(const T* table, const std::int64_t* ids, const DecodeState* state, T* y,
                                std::int64_t packs) {
  // Not before: all launches after this one find those before it ended.
  WaitForLaunchesAhead();
  LetNextLaunchBegin();
  const std::int64_t row = blockIdx.x;
  const std::int64_t id = state != nullptr ? ids[state->step - 1] : ids[row];
  const auto* from = reinterpret_cast<const Pack8<T>*>(table) + id * packs;
  auto* to = reinterpret_cast<Pack8<T>*>(y) + row * packs;
  for (std::int64_t i = threadIdx.x; i < packs; i += blockDim.x) to[i] = from[i];
}

// The sum over the block, the same in every thread: lanes of a warp by a
// butterfly, then the warps in their order.
__device__ float BlockSum(float value) {
  __shared__ float warps[32];
  for (int mask = 16; mask > 0; mask /= 2) value += __shfl_xor_sync(~0u, value, mask);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum += warps[warp];
  return sum;
}

// The row of a table that belongs to the token chosen last, instead of a row of x.
struct Gather {
  const std::int64_t* ids = nullptr;  // null: none
  const DecodeState* state = nullptr;
};

// One block for a row, whose elements stay in registers between the two passes.
template <class T, int kPacks>
__global__ void __launch_bounds__(1024) AddRmsNormKernel(const T* x, Gather gather, const T* delta, const T* weight,
                                                         float eps, T* sum, T* y, std::int64_t packs, float width) {
  // A step begins with a gather, and no launch of it before all of the last step has ended.
  if (gather.ids == nullptr) LetNextLaunchBegin();
  const std::int64_t offset = blockIdx.x * packs;
  const auto* delta_packs = reinterpret_cast<const Pack8<T>*>(delta) + offset;
  const auto* weight_packs = reinterpret_cast<const Pack8<T>*>(weight);
  // Where registers allow, the weights before the wait.
  constexpr bool kEarly = kPacks == 1;
  Pack8<T> early;
  if (kEarly && y != nullptr && threadIdx.x < packs) early = weight_packs[threadIdx.x];
  WaitForLaunchesAhead();
  if (gather.ids != nullptr) LetNextLaunchBegin();
  const auto* x_packs = reinterpret_cast<const Pack8<T>*>(x) +
                        (gather.ids == nullptr ? offset : gather.ids[gather.state->step - 1] * packs);
  float values[kPacks][kWidth];
  float squares = 0;
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const std::int64_t i = threadIdx.x + static_cast<std::int64_t>(p) * blockDim.x;
    if (i >= packs) continue;
    const Pack8<T> in = x_packs[i];
    Pack8<T> added = in;
    if (delta != nullptr) {
      const Pack8<T> more = delta_packs[i];
#pragma unroll
      for (int e = 0; e < kWidth; ++e) added.value[e] = Narrow<T>(Widen(in.value[e]) + Widen(more.value[e]));
    }
    if (sum != nullptr) reinterpret_cast<Pack8<T>*>(sum)[offset + i] = added;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      values[p][e] = Widen(added.value[e]);
      squares += values[p][e] * values[p][e];
    }
  }
  if (y == nullptr) return;
  const float inverse = 1.0f / sqrtf(BlockSum(squares) / width + eps);
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const std::int64_t i = threadIdx.x + static_cast<std::int64_t>(p) * blockDim.x;
    if (i >= packs) continue;
    const Pack8<T> w = kEarly ? early : weight_packs[i];
    Pack8<T> out;
#pragma unroll
    for (int e = 0; e < kWidth; ++e) {
      out.value[e] = Narrow<T>(Widen(w.value[e]) * Round<T>(values[p][e] * inverse));
    }
    reinterpret_cast<Pack8<T>*>(y)[offset + i] = out;
  }
}

// One warp for each head of each row.
template <class T>
__global__ void RopeKernel(RopeArgs args) {
  LetNextLaunchBegin();
  WaitForLaunchesAhead();
  const int lane = threadIdx.x % 32;
  const int heads = args.q_heads + 2 * args.kv_heads;
  const std::int64_t warp = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / 32;
  const std::int64_t row = warp / heads;
  const int head = static_cast<int>(warp % heads);
  if (row >= args.rows) return;
  const std::int64_t position = args.state != nullptr ? args.state->position : args.first + row;
  const int half = args.head_dim / 2;
  const std::int64_t offset = (row * heads + head) * args.head_dim;
  HeadPairs<T> pairs;
  pairs.Load(static_cast<const T*>(args.qkv) + offset, half, lane);
  const bool is_value = head >= args.q_heads + args.kv_heads;
  if (!is_value) {
    NormPairs<T> weight;
    weight.Load(static_cast<const T*>(head < args.q_heads ? args.q_norm : args.k_norm), half, lane);
    RotationPairs rotation;
    rotation.Load(args, position, lane);
    NormalizeAndRotate(pairs, weight, rotation, args.head_dim, args.eps);
  }
  pairs.Store(static_cast<T*>(args.out) + offset, half, lane);
  if (head < args.q_heads) return;
  const int kv_head = (head - args.q_heads) % args.kv_heads;
  T* cached =
      static_cast<T*>(is_value ? args.values : args.keys) + (kv_head * args.capacity + position) * args.padded_head_dim;
  pairs.Store(cached, half, lane);
  for (int i = args.head_dim + lane; i < args.padded_head_dim; i += 32) cached[i] = Narrow<T>(0.0f);
}

// row_ops' polynomial, operation by operation.
__device__ float ExpAsOnTheCpu(float x) {
  const float clamped = x > 88.0f ? 88.0f : (x < -87.0f ? -87.0f : x);
  const float shift = 0x1.8p23f;
  const float shifted = clamped * 1.44269504f + shift;
  const float n = shifted - shift;
  const float r = (clamped - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
  float p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const int exponent = (__float_as_int(shifted) - __float_as_int(shift) + 127) << 23;
  const float result = p * __int_as_float(exponent);
  return x < -87.0f ? 0.0f : result;
}

template <class T>
__global__ void SiluMulKernel(const T* x, T* y, std::int64_t packs, std::int64_t total) {
  LetNextLaunchBegin();
  WaitForLaunchesAhead();
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= total) return;
  const std::int64_t row = i / packs;
  const std::int64_t column = i % packs;
  const auto* row_packs = reinterpret_cast<const Pack8<T>*>(x) + row * 2 * packs;
  const Pack8<T> gate = row_packs[column];
  const Pack8<T> up = row_packs[packs + column];
  Pack8<T> out;
#pragma unroll
  for (int e = 0; e < kWidth; ++e) {
    const float g = Widen(gate.value[e]);
    out.value[e] = Narrow<T>(Round<T>(g / (1.0f + ExpAsOnTheCpu(-g))) * Widen(up.value[e]));
  }
  reinterpret_cast<Pack8<T>*>(y)[i] = out;
}

void Require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

void LaunchNorm(Precision precision, const void* x, Gather gather, const void* delta, const void* weight, float eps,
                void* sum, void* y, std::int64_t rows, std::int64_t width, cudaStream_t stream) {
  Require(width % kWidth == 0 && width <= kMaxNormWidth, "rms_norm: the width is no multiple of 8 up to 32768");
  if (rows == 0) return;
  const std::int64_t packs = width / kWidth;
  const auto threads = static_cast<unsigned>(packs < 1024 ? (packs + 31) / 32 * 32 : 1024);
  const auto per_thread = (packs + threads - 1) / threads;
  WithElement(precision, [&]<class T>(T) {
    auto launch = [&]<int kPacks>() {
      LaunchInChain<AddRmsNormKernel<T, kPacks>>(
          "rms_norm", dim3(static_cast<unsigned>(rows)), dim3(threads), 0, stream, 0, static_cast<const T*>(x), gather,
          static_cast<const T*>(delta), static_cast<const T*>(weight), eps, static_cast<T*>(sum), static_cast<T*>(y),
          packs, static_cast<float>(width));
    };
    if (per_thread == 1) {
      launch.template operator()<1>();
    } else if (per_thread == 2) {
      launch.template operator()<2>();
    } else {
      launch.template operator()<4>();
    }
  });
}

}  // namespace

void LaunchEmbedding(Precision precision, const void* table, const std::int64_t* ids, const DecodeState* state, void* y,
                     std::int64_t rows, std::int64_t width, cudaStream_t stream) {
  Require(width % kWidth == 0, "embedding: the width is not a multiple of 8");
  if (rows == 0) return;
  WithElement(precision, [&]<class T>(T) {
    LaunchInChain<EmbeddingKernel<T>>("embedding", dim3(static_cast<unsigned>(rows)), dim3(128), 0, stream, 0,
                                      static_cast<const T*>(table), ids, state, static_cast<T*>(y), width / kWidth);
  });
}

void LaunchAddRmsNorm(Precision precision, const void* x, const void* delta, const void* weight, float eps, void* sum,
                      void* y, std::int64_t rows, std::int64_t width, cudaStream_t stream) {
  LaunchNorm(precision, x, {}, delta, weight, eps, delta == nullptr ? nullptr : sum, y, rows, width, stream);
}

void LaunchEmbeddingRmsNorm(Precision precision, const void* table, const std::int64_t* ids, const DecodeState* state,
                            const void* weight, float eps, void* embedded, void* y, std::int64_t width,
                            cudaStream_t stream) {
  LaunchNorm(precision, table, {ids, state}, nullptr, weight, eps, embedded, y, 1, width, stream);
}

void LaunchRope(Precision precision, const RopeArgs& args, cudaStream_t stream) {
  Require(args.head_dim % 8 == 0 && args.head_dim <= 128, "rope: head_dim is no multiple of 8 up to 128");
  if (args.rows == 0) return;
  constexpr unsigned kThreads = 128;
  const std::int64_t warps = args.rows * (args.q_heads + 2 * args.kv_heads);
  const auto blocks = static_cast<unsigned>((warps * 32 + kThreads - 1) / kThreads);
  WithElement(precision, [&]<class T>(T) {
    LaunchInChain<RopeKernel<T>>("rope", dim3(blocks), dim3(kThreads), 0, stream, 0, args);
  });
}

void LaunchSiluMul(Precision precision, const void* x, void* y, std::int64_t rows, std::int64_t width,
                   cudaStream_t stream) {
  Require(width % kWidth == 0, "silu_mul: the width is not a multiple of 8");
  if (rows == 0) return;
  constexpr unsigned kThreads = 128;
  const std::int64_t packs = width / kWidth;
  const auto blocks = static_cast<unsigned>((rows * packs + kThreads - 1) / kThreads);
  WithElement(precision, [&]<class T>(T) {
    LaunchInChain<SiluMulKernel<T>>("silu_mul", dim3(blocks), dim3(kThreads), 0, stream, 0, static_cast<const T*>(x),
                                    static_cast<T*>(y), packs, rows * packs);
  });
}

}  // namespace suites::internal
