// One row times a dense matrix: the head, and layers that are not quantized.
#include "suites/model/cuda/chain.cuh"
#include "suites/model/cuda/launch.h"
#include "suites/model/cuda/numeric.cuh"

namespace suites::internal {
namespace {

#ifndef GEMV_ROWS
#define GEMV_ROWS 4
#define GEMV_DEPTH 2
#define GEMV_BLOCKS 2
#endif
constexpr int kThreads = 256;
constexpr int kRows = GEMV_ROWS;    // of the matrix that a warp takes at a time
constexpr int kDepth = GEMV_DEPTH;  // accesses of each row under way

// Read once: past the L1 cache, where x stays.
__device__ uint4 Stream(const uint4* from) {
  uint4 word;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(word.x), "=r"(word.y), "=r"(word.z), "=r"(word.w)
               : "l"(from));
  return word;
}

template <class T>
struct Elements {
  static constexpr int kCount = 16 / sizeof(T);
  float value[kCount];
  __device__ explicit Elements(uint4 word) {
    const Pack<T, kCount> pack = *reinterpret_cast<const Pack<T, kCount>*>(&word);
#pragma unroll
    for (int e = 0; e < kCount; ++e) value[e] = Widen(pack.value[e]);
  }
};

// A warp takes kRows rows at a time, its lanes 16 bytes of each at a time, and
// has read kDepth accesses ahead, across the end of its rows too. A row's sum:
// each lane's elements in ascending order, then the lanes by a butterfly.
template <class T>
__global__ void __launch_bounds__(kThreads, GEMV_BLOCKS)
    GemvKernel(const T* x, const T* weight, T* y, std::int64_t rows, int packs) {
  LetNextLaunchBegin();
  const int lane = threadIdx.x % 32;
  const int warp = static_cast<int>(blockIdx.x) * (kThreads / 32) + static_cast<int>(threadIdx.x) / 32;
  const int warps = static_cast<int>(gridDim.x) * (kThreads / 32);
  const std::int64_t groups = (rows + kRows - 1) / kRows;
  const int steps = (packs + 32 * kDepth - 1) / (32 * kDepth);  // of one group of rows
  const auto* matrix = reinterpret_cast<const uint4*>(weight);
  const auto* vector = reinterpret_cast<const uint4*>(x);

  uint4 words[kDepth][kRows];
  const auto read = [&](std::int64_t group, int step) {
    if (group >= groups) return;
#pragma unroll
    for (int u = 0; u < kDepth; ++u) {
      const int pack = (step * kDepth + u) * 32 + lane;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const std::int64_t row = group * kRows + r;
        words[u][r] = pack < packs && row < rows ? Stream(matrix + row * packs + pack) : uint4{};
      }
    }
  };
  std::int64_t group = warp;
  read(group, 0);
  WaitForLaunchesAhead();
  for (; group < groups; group += warps) {
    float sums[kRows] = {};
    for (int step = 0; step < steps; ++step) {
      uint4 now[kDepth][kRows];
#pragma unroll
      for (int u = 0; u < kDepth; ++u) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) now[u][r] = words[u][r];
      }
      step + 1 < steps ? read(group, step + 1) : read(group + warps, 0);
#pragma unroll
      for (int u = 0; u < kDepth; ++u) {
        const int pack = (step * kDepth + u) * 32 + lane;
        const Elements<T> in(pack < packs ? vector[pack] : uint4{});
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const Elements<T> w(now[u][r]);
#pragma unroll
          for (int e = 0; e < Elements<T>::kCount; ++e) sums[r] = fmaf(w.value[e], in.value[e], sums[r]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      for (int mask = 16; mask > 0; mask /= 2) sums[r] += __shfl_xor_sync(~0u, sums[r], mask);
      if (lane == r && group * kRows + r < rows) y[group * kRows + r] = Narrow<T>(sums[r]);
    }
  }
}

// Blocks that the device holds at once.
template <auto kKernel>
unsigned BlocksAtOnce() {
  constexpr int kDevices = 64;
  static unsigned known[kDevices] = {};
  int device = 0;
  cudaGetDevice(&device);
  unsigned& blocks = known[device % kDevices];
  if (blocks == 0) {
    int multiprocessors = 1, of_one = 1;
    cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    cudaOccupancyMaxActiveBlocksPerMultiprocessor(&of_one, kKernel, kThreads, 0);
    blocks = static_cast<unsigned>(multiprocessors * (of_one > 0 ? of_one : 1));
  }
  return blocks;
}

}  // namespace

void LaunchGemv(Precision precision, const void* x, const void* weight, void* y, std::int64_t rows, std::int64_t width,
                cudaStream_t stream) {
  if (width % 8 != 0) throw std::invalid_argument("gemv: the width is not a multiple of 8");
  if (rows == 0) return;
  WithElement(precision, [&]<class T>(T) {
    const std::int64_t groups = (rows + kRows - 1) / kRows;
    const auto needed = static_cast<unsigned>((groups + kThreads / 32 - 1) / (kThreads / 32));
    const unsigned at_once = BlocksAtOnce<GemvKernel<T>>();
    LaunchInChain(GemvKernel<T>, dim3(needed < at_once ? needed : at_once), dim3(kThreads), 0, stream,
                  static_cast<const T*>(x), static_cast<const T*>(weight), static_cast<T*>(y), rows,
                  static_cast<int>(width * static_cast<std::int64_t>(sizeof(T)) / 16));
  });
  CheckLaunch("gemv");
}

}  // namespace suites::internal
