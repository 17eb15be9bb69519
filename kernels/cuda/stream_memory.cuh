// How the kernels for few rows of x (stream.cuh) reach memory: accesses to shared
// memory by address, copies into it, and a warp's way through the weights.
#ifndef KERNELS_CUDA_STREAM_MEMORY_CUH_
#define KERNELS_CUDA_STREAM_MEMORY_CUH_

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/fragments.cuh"
#include "kernels/cuda/stream_plan.h"

namespace kernels::cuda {

struct StreamArgs {
  Gemm gemm;
  std::uint32_t group_inverse;
  int k_tiles;      // of kTileK rows
  int units;        // of kUnitK rows
  int strips;       // of 16 columns
  int piece_units;  // units of a piece of x
  int x_buffers;    // pieces of each sharer's x in shared memory: all, or some in turns
};

namespace stream {

__device__ __forceinline__ std::uint32_t SharedAddress(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}
__device__ __forceinline__ void Copy16(std::uint32_t to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
__device__ __forceinline__ uint4 Load16(std::uint32_t at) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(at)
               : "memory");
  return v;
}
__device__ __forceinline__ std::uint32_t Load4(std::uint32_t at) {
  std::uint32_t v;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(at) : "memory");
  return v;
}
__device__ __forceinline__ std::uint32_t Load2(std::uint32_t at) {
  std::uint16_t v;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(v) : "r"(at) : "memory");
  return v;
}
__device__ __forceinline__ void Store4(std::uint32_t at, std::uint32_t v) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(v) : "memory");
}
__device__ __forceinline__ void Store16(std::uint32_t at, const uint4& v) {
  asm volatile("st.shared.v4.u32 [%0], {%1,%2,%3,%4};" ::"r"(at), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
// Four 8 x 8 blocks of halves; each lane gives the address of one row.
__device__ __forceinline__ void LoadMatrices(std::uint32_t at, std::uint32_t* r) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at)
               : "memory");
}
// Not through the cache for constants: another kernel may just have written it.
__device__ __forceinline__ uint4 LoadX(const __half* from) {
  uint4 v;
  asm volatile("ld.global.cg.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
  return v;
}

// Programmatic dependent launch, from sm_90 on. Without the launch attribute both do
// nothing.
__device__ __forceinline__ void WaitForKernelBefore() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void LetNextKernelStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ __forceinline__ float2 LoadSums(std::uint32_t at) {
  float2 v;
  asm volatile("ld.shared.v2.f32 {%0,%1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(at) : "memory");
  return v;
}
__device__ __forceinline__ void StoreSums(std::uint32_t at, float first, float second) {
  asm volatile("st.shared.v2.f32 [%0], {%1,%2};" ::"r"(at), "f"(first), "f"(second) : "memory");
}

// Where two warps meet, by a barrier of their own, 1 to 15.
__device__ __forceinline__ void MeetPair(int barrier) { asm volatile("bar.sync %0, 64;" ::"r"(barrier) : "memory"); }

// An mbarrier in shared memory, and copies that count towards it: sm_90.
__device__ __forceinline__ void InitBarrier(std::uint32_t barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
#endif
}
__device__ __forceinline__ void FenceAsync() {  // ordinary accesses before, the copy engine's after
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
__device__ __forceinline__ void ExpectBytes(std::uint32_t barrier, int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
#endif
}
__device__ __forceinline__ void CopyBytes(std::uint32_t to, const void* from, int bytes, std::uint32_t barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
#endif
}
__device__ __forceinline__ void WaitForBytes(std::uint32_t barrier, std::uint32_t parity) {
#if __CUDA_ARCH__ >= 900
  std::uint32_t done = 0;
  while (done == 0) {
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
  }
#endif
}

// A warp's way through its units, strip after strip: what is copied next. A stage is
// kStageUnits units, or what is left of the warp's part of a strip.
template <int kStages, int kStageUnits, int kGroups>
struct Producer {
  const std::uint8_t* words;
  const std::uint8_t* groups;  // lanes 0..3 kGroups kStageUnits - 1: 16 bytes of scales or zero points
  std::size_t words_jump;      // from the end of a strip's part to the next strip
  std::uint32_t ring, group_ring;
  std::uint32_t group_step, group_jump;
  int unit, begin, end, odd, slot, left, first_row, last_row;

  __device__ __forceinline__ void Next(const StreamArgs& args, int lane) {
    if (left > 0) {
      const std::uint32_t to = ring + slot * (kStageUnits * kUnitBytes);
#pragma unroll
      for (int u = 0; u < kStageUnits; ++u) {
        if (u > 0 && unit + u >= end) break;
        Copy16(to + u * kUnitBytes, words + u * kUnitBytes);
        // Beyond an odd number of tiles: what lies there is multiplied by zeros.
        Copy16(to + u * kUnitBytes + kUnitBytes / 2, words + u * kUnitBytes + (unit + u == odd ? 0 : kUnitBytes / 2));
      }
      if constexpr (kGroups > 0) {
        if (lane < 3 * kGroups * kStageUnits) {
          const std::uint32_t row = min(unit * kUnitK + first_row, last_row);
          const std::uint32_t group = __umulhi(row, args.group_inverse);
          Copy16(group_ring + slot * (kGroupBytes * kGroups * kStageUnits),
                 groups + static_cast<std::size_t>(group) * group_step);
        }
      }
      words += kStageUnits * kUnitBytes;
      unit += kStageUnits;
      if (unit >= end) {
        unit = begin;
        words += words_jump;
        groups += group_jump;
      }
      if (++slot == kStages) slot = 0;
      --left;
    }
    CommitCopies();
  }
};

}  // namespace stream
}  // namespace kernels::cuda

#endif  // KERNELS_CUDA_STREAM_MEMORY_CUH_
