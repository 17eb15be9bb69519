// Functions that the host and a device compute by the same code.
#ifndef GTEST_DETERMINISM_INTERNAL_HOST_DEVICE_H_
#define GTEST_DETERMINISM_INTERNAL_HOST_DEVICE_H_

#if defined(__CUDACC__)
#define GTEST_DETERMINISM_HD_ __host__ __device__ __forceinline__
#else
#define GTEST_DETERMINISM_HD_ inline
#endif

#endif  // GTEST_DETERMINISM_INTERNAL_HOST_DEVICE_H_
