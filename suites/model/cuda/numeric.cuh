// Elements of the precisions, eight at a time, as float32.
#ifndef SUITES_MODEL_CUDA_NUMERIC_CUH_
#define SUITES_MODEL_CUDA_NUMERIC_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "suites/model/row_ops.h"

namespace suites::internal {

__device__ inline float Widen(float x) { return x; }
__device__ inline float Widen(__half x) { return __half2float(x); }
__device__ inline float Widen(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
__device__ T Narrow(float x);
template <>
__device__ inline float Narrow<float>(float x) {
  return x;
}
template <>
__device__ inline __half Narrow<__half>(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 Narrow<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

template <class T>
__device__ float Round(float x) {
  return Widen(Narrow<T>(x));
}

// Consecutive elements in one or two 16-byte words.
template <class T, int N>
struct alignas(16) Pack {
  T value[N];
};
template <class T>
using Pack8 = Pack<T, 8>;
// Two elements in one word.
template <class T>
struct alignas(2 * sizeof(T)) Pair {
  T low, high;
};

// fn(T()) with the precision's element type.
template <class Fn>
void WithElement(Precision precision, const Fn& fn) {
  switch (precision) {
    case Precision::kFp16:
      return fn(__half());
    case Precision::kBf16:
      return fn(__nv_bfloat16());
    case Precision::kFp32:
      return fn(float());
  }
}

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_NUMERIC_CUH_
