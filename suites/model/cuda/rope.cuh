// One head of q or k, normalized and rotated by a warp. For files compiled
// without contraction (-fmad=false): each product and each sum rounds by itself,
// as on the CPU.
#ifndef SUITES_MODEL_CUDA_ROPE_CUH_
#define SUITES_MODEL_CUDA_ROPE_CUH_

#include <cstdint>

#include "suites/model/cuda/launch.h"
#include "suites/model/cuda/numeric.cuh"

namespace suites::internal {

// Lane l holds the pairs (i, half + i), i = 2 l, 2 l + 1; zero past the head's
// end. Two elements are one access.
inline constexpr int kRopePairs = 2;

template <class T>
struct HeadPairs {
  float low[kRopePairs] = {}, high[kRopePairs] = {};

  __device__ void Load(const T* x, int half, int lane) {
    if (2 * lane >= half) return;
    const auto two = *reinterpret_cast<const Pair<T>*>(x + 2 * lane);
    const auto two_high = *reinterpret_cast<const Pair<T>*>(x + half + 2 * lane);
    low[0] = Widen(two.low);
    low[1] = Widen(two.high);
    high[0] = Widen(two_high.low);
    high[1] = Widen(two_high.high);
  }
  __device__ void Store(T* x, int half, int lane) const {
    if (2 * lane >= half) return;
    *reinterpret_cast<Pair<T>*>(x + 2 * lane) = {Narrow<T>(low[0]), Narrow<T>(low[1])};
    *reinterpret_cast<Pair<T>*>(x + half + 2 * lane) = {Narrow<T>(high[0]), Narrow<T>(high[1])};
  }
};

// The norm's weights; nothing that a launch ahead writes.
template <class T>
using NormPairs = HeadPairs<T>;

struct RotationPairs {
  float cosine[kRopePairs] = {}, sine[kRopePairs] = {};

  __device__ void Load(const RopeArgs& args, std::int64_t position, int lane) {
    const int half = args.head_dim / 2;
    if (2 * lane >= half) return;
    const auto c = *reinterpret_cast<const float2*>(args.cosine + position * half + 2 * lane);
    const auto s = *reinterpret_cast<const float2*>(args.sine + position * half + 2 * lane);
    cosine[0] = c.x;
    cosine[1] = c.y;
    sine[0] = s.x;
    sine[1] = s.y;
  }
};

template <class T>
__device__ void NormalizeAndRotate(HeadPairs<T>& head, const NormPairs<T>& weight, const RotationPairs& rotation,
                                   int head_dim, float eps) {
  float squares = 0;
#pragma unroll
  for (int p = 0; p < kRopePairs; ++p) squares += head.low[p] * head.low[p] + head.high[p] * head.high[p];
  for (int mask = 16; mask > 0; mask /= 2) squares += __shfl_xor_sync(~0u, squares, mask);
  const float inverse = 1.0f / sqrtf(squares / static_cast<float>(head_dim) + eps);
#pragma unroll
  for (int p = 0; p < kRopePairs; ++p) {
    const float a = Round<T>(weight.low[p] * Round<T>(head.low[p] * inverse));
    const float b = Round<T>(weight.high[p] * Round<T>(head.high[p] * inverse));
    head.low[p] = Round<T>(Round<T>(a * rotation.cosine[p]) - Round<T>(b * rotation.sine[p]));
    head.high[p] = Round<T>(Round<T>(b * rotation.cosine[p]) + Round<T>(a * rotation.sine[p]));
  }
}

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_ROPE_CUH_
