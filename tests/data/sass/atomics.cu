// Every kind of atomic instruction, a function each.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

extern "C" {
__global__ void red_f32(float* p, float v) { atomicAdd(p, v); }
__global__ void atom_f32(float* p, float* o, float v) { o[threadIdx.x] = atomicAdd(p, v); }
__global__ void red_f64(double* p, double v) { atomicAdd(p, v); }
__global__ void red_h(__half* p, __half v) { atomicAdd(p, v); }
__global__ void red_h2(__half2* p, __half2 v) { atomicAdd(p, v); }
__global__ void red_b2(__nv_bfloat162* p, __nv_bfloat162 v) { atomicAdd(p, v); }
__global__ void red_b(__nv_bfloat16* p, __nv_bfloat16 v) { atomicAdd(p, v); }
__global__ void red_i(int* p, int v) { atomicAdd(p, v); }
__global__ void red_u64(unsigned long long* p, unsigned long long v) { atomicAdd(p, v); }
__global__ void max_i(int* p, int v) { atomicMax(p, v); }
__global__ void inc_u(unsigned* p) { atomicInc(p, 7); }
__global__ void exch_f(float* p, float v) { atomicExch(p, v); }
__global__ void redux(int* o, int v) { *o = __reduce_add_sync(~0u, v); }
__global__ void cas_f(float* p, float v) {
  int* a = reinterpret_cast<int*>(p);
  int old = *a, assumed;
  do {
    assumed = old;
    old = atomicCAS(a, assumed, __float_as_int(v + __int_as_float(assumed)));
  } while (assumed != old);
}
__global__ void cas_i(int* p, int v) { atomicCAS(p, v, 1); }
__global__ void cas_max(float* p, float v) {
  int* a = reinterpret_cast<int*>(p);
  int old = *a, assumed;
  do {
    assumed = old;
    old = atomicCAS(a, assumed, __float_as_int(fmaxf(v, __int_as_float(assumed))));
  } while (assumed != old);
}
__global__ void sh_f32(float* o, float* x) {
  __shared__ float s;
  if (threadIdx.x == 0) s = 0;
  __syncthreads();
  atomicAdd(&s, x[threadIdx.x]);
  __syncthreads();
  *o = s;
}
__global__ void sh_i(int* o, int* x) {
  __shared__ int s;
  if (threadIdx.x == 0) s = 0;
  __syncthreads();
  atomicAdd(&s, x[threadIdx.x]);
  __syncthreads();
  *o = s;
}
__global__ void sys_f32(float* p, float v) { atomicAdd_system(p, v); }
__noinline__ __device__ void callee(float* p, float v) { atomicAdd(p, v); }
__global__ void calls(float* p, float v) {
  if (v > 0) {
    callee(p, v);
  } else {
    callee(p + 1, v * 2);
  }
}
__global__ void nothing(float* p, float v) { p[threadIdx.x] = v * 2; }
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
__global__ void vec4(float4* p, float4 v) { atomicAdd(p, v); }
__global__ void bulk(float* g) {
  __shared__ alignas(128) float s[32];
  s[threadIdx.x] = threadIdx.x;
  asm volatile("fence.proxy.async.shared::cta;");
  __syncthreads();
  if (threadIdx.x == 0) {
    const unsigned a = static_cast<unsigned>(__cvta_generic_to_shared(s));
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0],[%1],128;" ::"l"(g), "r"(a) : "memory");
    asm volatile("cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;");
  }
}
#endif
}
