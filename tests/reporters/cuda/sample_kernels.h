// Kernels for the tests of the profiler, and their launches.
#ifndef TESTS_REPORTERS_CUDA_SAMPLE_KERNELS_H_
#define TESTS_REPORTERS_CUDA_SAMPLE_KERNELS_H_

#include <cuda_runtime_api.h>

namespace sample_kernels {

// scale<float>, 4 blocks of 64 threads, 96 bytes of dynamic shared memory.
void Scale(float* x, float factor, cudaStream_t stream);
// shift, 2 blocks of 128 threads.
void Shift(float* x, float by, cudaStream_t stream);
// atomic_float_sum, atomic_int_sum: one block of 32 threads.
void AtomicFloatSum(float* x, cudaStream_t stream);
void AtomicIntSum(int* x, cudaStream_t stream);
// A launch that fails: more threads than a block can have. The error is cleared.
void FailedLaunch(float* x, cudaStream_t stream);

}  // namespace sample_kernels

#endif  // TESTS_REPORTERS_CUDA_SAMPLE_KERNELS_H_
