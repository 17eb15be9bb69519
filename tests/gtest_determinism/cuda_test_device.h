#ifndef TESTS_GTEST_DETERMINISM_CUDA_TEST_DEVICE_H_
#define TESTS_GTEST_DETERMINISM_CUDA_TEST_DEVICE_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "gtest_determinism/cuda.h"

namespace gtest_determinism {

// A test that needs a device, and one stream of its own.
class DeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = NoCudaDevice(); !why.empty()) GTEST_SKIP() << why;
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    if (stream_ == nullptr) return;
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    // Whatever a test did: no error is left for the next.
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  }

  cudaStream_t stream_ = nullptr;
};

inline std::vector<unsigned char> RandomBytes(std::size_t n, unsigned seed = 1) {
  std::vector<unsigned char> bytes(n);
  std::minstd_rand random(seed);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random() >> 8);
  return bytes;
}

}  // namespace gtest_determinism

#endif  // TESTS_GTEST_DETERMINISM_CUDA_TEST_DEVICE_H_
