#include "sample_kernels.h"

namespace sample_kernels {

template <class T>
__global__ void scale(T* x, T factor) {
  x[blockIdx.x * blockDim.x + threadIdx.x] *= factor;
}

__global__ void shift(float* x, float by) { x[blockIdx.x * blockDim.x + threadIdx.x] += by; }
__global__ void atomic_float_sum(float* x) { atomicAdd(x, static_cast<float>(threadIdx.x)); }
__global__ void atomic_int_sum(int* x) { atomicAdd(x, static_cast<int>(threadIdx.x)); }

void Scale(float* x, float factor, cudaStream_t stream) { scale<float><<<4, 64, 96, stream>>>(x, factor); }
void Shift(float* x, float by, cudaStream_t stream) { shift<<<2, 128, 0, stream>>>(x, by); }
void AtomicFloatSum(float* x, cudaStream_t stream) { atomic_float_sum<<<1, 32, 0, stream>>>(x); }
void AtomicIntSum(int* x, cudaStream_t stream) { atomic_int_sum<<<1, 32, 0, stream>>>(x); }
void FailedLaunch(float* x, cudaStream_t stream) {
  shift<<<1, 4096, 0, stream>>>(x, 1);
  cudaGetLastError();
}

}  // namespace sample_kernels
