// Products of a warpgroup on sm_90a: 64 rows by 128 columns, 16 at a time of what
// is summed over, accumulators in registers. Descriptors name shared memory in the
// 128-byte swizzle, as the tensor copies lay it down.
#ifndef SUITES_MODEL_CUDA_WARPGROUP_CUH_
#define SUITES_MODEL_CUDA_WARPGROUP_CUH_

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

namespace suites::internal {

// Rows of 128 bytes in groups of eight, 1024 bytes from group to group. `leading`:
// bytes between pieces of 64 columns, where the columns lie along the rows.
__device__ inline std::uint64_t Descriptor(const void* shared, unsigned leading) {
  const auto address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  return static_cast<std::uint64_t>((address & 0x3ffff) >> 4) | static_cast<std::uint64_t>(leading >> 4) << 16 |
         std::uint64_t{1024 >> 4} << 32 | std::uint64_t{1} << 62;
}

__device__ inline void BeginProducts() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void CommitProducts() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kLeft>
__device__ void WaitForProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}
// Keeps the compiler from reading them before a wait, or changing them after a begin.
template <int N>
__device__ void Fence(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
}

#define SUITES_ACCUMULATORS                                                                                   \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), \
      "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),  \
      "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), \
      "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), \
      "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), \
      "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), \
      "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), \
      "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])

#define SUITES_REGISTERS                                                                                 \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "     \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, " \
  "%41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, " \
  "%61, %62, %63} "

// d = a . b, or d += a . b with `add`: a [64, 16] and b [128, 16] both in shared
// memory, 16 elements of a row.
template <class T>
__device__ void Product(float (&d)[64], std::uint64_t a, std::uint64_t b, bool add) {
#define SUITES_PRODUCT(type)                                                                                      \
  asm volatile("{.reg .pred p; setp.ne.b32 p, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type \
               " " SUITES_REGISTERS ", %64, %65, p, 1, 1, 0, 0;}"                                                 \
               : SUITES_ACCUMULATORS                                                                              \
               : "l"(a), "l"(b), "r"(static_cast<int>(add)))
  if constexpr (std::is_same_v<T, __half>) {
    SUITES_PRODUCT("f16");
  } else {
    SUITES_PRODUCT("bf16");
  }
#undef SUITES_PRODUCT
}

// d += a . b: a [64, 16] in registers, as the accumulators of a product lie, b
// [16, 128] in shared memory, its 128 columns in two pieces of 64.
template <class T>
__device__ void ProductOfRegisters(float (&d)[64], const std::uint32_t* a, std::uint64_t b) {
#define SUITES_PRODUCT(type)                                                                     \
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type " " SUITES_REGISTERS \
               ", {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"                                        \
               : SUITES_ACCUMULATORS                                                             \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
  if constexpr (std::is_same_v<T, __half>) {
    SUITES_PRODUCT("f16");
  } else {
    SUITES_PRODUCT("bf16");
  }
#undef SUITES_PRODUCT
}

#undef SUITES_ACCUMULATORS
#undef SUITES_REGISTERS

}  // namespace suites::internal

#endif  // SUITES_MODEL_CUDA_WARPGROUP_CUH_
