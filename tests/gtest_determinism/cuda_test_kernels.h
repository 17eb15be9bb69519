// Small kernels for the tests of gtest_determinism::cuda.
#ifndef TESTS_GTEST_DETERMINISM_CUDA_TEST_KERNELS_H_
#define TESTS_GTEST_DETERMINISM_CUDA_TEST_KERNELS_H_

#include <cuda_runtime_api.h>

#include <cstdint>

namespace gtest_determinism {

// y[i] = first + i for i in [0, n); Half: rounded to binary16.
void LaunchIota(float* y, std::int64_t n, float first, cudaStream_t stream);
void LaunchIotaHalf(void* y, std::int64_t n, float first, cudaStream_t stream);

// y[i] = x[i] + 1, after each thread has waited.
void LaunchSlowIncrement(const float* x, float* y, std::int64_t n, std::uint64_t nanoseconds, cudaStream_t stream);

// used[m] = 1 for each multiprocessor m that a block got: one block of 1,024
// threads for each multiprocessor, each lasting the time given.
void LaunchMarkMultiprocessors(unsigned char* used, std::uint64_t nanoseconds, cudaStream_t stream);

}  // namespace gtest_determinism

#endif  // TESTS_GTEST_DETERMINISM_CUDA_TEST_KERNELS_H_
