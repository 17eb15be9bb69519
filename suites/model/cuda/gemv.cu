// One row times a dense matrix: the head, and layers that are not quantized.
#include <atomic>

#include "suites/model/cuda/chain.cuh"
#include "suites/model/cuda/launch.h"
#include "suites/model/cuda/numeric.cuh"

namespace suites::internal {
namespace {

constexpr int kThreads = 256;
constexpr int kDepth = 8;  // accesses of a lane under way

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

// A warp takes a row at a time, its lanes 16 bytes of it at a time, and has read
// kDepth accesses ahead, across the end of its row too. A row's sum: each lane's
// elements in ascending order, then the lanes by a butterfly.
template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    GemvKernel(const T* x, const T* weight, T* y, std::int64_t rows, int packs) {
  LetNextLaunchBegin();
  const int lane = threadIdx.x % 32;
  const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * (kThreads / 32);
  const int steps = (packs + 32 * kDepth - 1) / (32 * kDepth);  // of a row
  const auto* matrix = reinterpret_cast<const uint4*>(weight);
  const auto* vector = reinterpret_cast<const uint4*>(x);

  uint4 words[kDepth] = {};
  const auto read = [&](std::int64_t row, int step) {
    if (row >= rows) return;
#pragma unroll
    for (int u = 0; u < kDepth; ++u) {
      const int pack = (step * kDepth + u) * 32 + lane;
      words[u] = pack < packs ? Stream(matrix + row * packs + pack) : uint4{};
    }
  };
  std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  read(row, 0);
  WaitForLaunchesAhead();
  for (; row < rows; row += warps) {
    float sum = 0;
    for (int step = 0; step < steps; ++step) {
      uint4 now[kDepth];
#pragma unroll
      for (int u = 0; u < kDepth; ++u) now[u] = words[u];
      step + 1 < steps ? read(row, step + 1) : read(row + warps, 0);
#pragma unroll
      for (int u = 0; u < kDepth; ++u) {
        const int pack = (step * kDepth + u) * 32 + lane;
        const Elements<T> in(pack < packs ? vector[pack] : uint4{});
        const Elements<T> w(now[u]);
#pragma unroll
        for (int e = 0; e < Elements<T>::kCount; ++e) sum = fmaf(w.value[e], in.value[e], sum);
      }
    }
    for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(~0u, sum, mask);
    if (lane == 0) y[row] = Narrow<T>(sum);
  }
}

// More blocks on a multiprocessor have more on their way, and are slower for it.
unsigned BlocksAtOnce() {
  constexpr int kDevices = 64;
  constexpr unsigned kOfMultiprocessor = 2;
  static std::atomic<unsigned> known[kDevices] = {};
  int device = 0;
  cudaGetDevice(&device);
  unsigned blocks = known[device % kDevices].load(std::memory_order_relaxed);
  if (blocks == 0) {
    int multiprocessors = 1;
    cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
    blocks = static_cast<unsigned>(multiprocessors) * kOfMultiprocessor;
    known[device % kDevices].store(blocks, std::memory_order_relaxed);
  }
  return blocks;
}

}  // namespace

void LaunchGemv(Precision precision, const void* x, const void* weight, void* y, std::int64_t rows, std::int64_t width,
                cudaStream_t stream) {
  if (width % 8 != 0) throw std::invalid_argument("gemv: the width is not a multiple of 8");
  if (rows == 0) return;
  WithElement(precision, [&]<class T>(T) {
    const auto needed = static_cast<unsigned>((rows + kThreads / 32 - 1) / (kThreads / 32));
    const unsigned at_once = BlocksAtOnce();
    LaunchInChain<GemvKernel<T>>("gemv", dim3(needed < at_once ? needed : at_once), dim3(kThreads), 0, stream, 0,
                                 static_cast<const T*>(x), static_cast<const T*>(weight), static_cast<T*>(y), rows,
                                 static_cast<int>(width * static_cast<std::int64_t>(sizeof(T)) / 16));
  });
}

}  // namespace suites::internal
