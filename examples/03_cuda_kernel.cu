#include <gtest/gtest.h>

#include <vector>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/determinism.h"

__global__ void Axpy(float a, const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] + 1;
}

TEST(Axpy, RunToRun) {
  if (const auto why = gtest_determinism::NoCudaDevice(); !why.empty()) GTEST_SKIP() << why;
  const int n = 1 << 20;
  const auto x = gtest_determinism::DeviceBuffer<float>::From(std::vector<float>(n, 0.3f));
  const gtest_determinism::DeviceBuffer<float> y({n});
  EXPECT_DETERMINISTIC([&] {
    Axpy<<<n / 256, 256>>>(2, x.data(), y.data(), n);
    return y.Span();
  });
}

// Into a buffer that is poisoned before each run, with fences around it: finds what is not written, and what is
// written outside.
TEST(Axpy, WritesAllAndNoMore) {
  if (const auto why = gtest_determinism::NoCudaDevice(); !why.empty()) GTEST_SKIP() << why;
  const int n = 1000003;
  const auto x = gtest_determinism::DeviceBuffer<float>::From(std::vector<float>(n, 0.3f));
  EXPECT_DETERMINISTIC([&](gtest_determinism::Outputs& out) {
    const auto y = gtest_determinism::DeviceOutput<float>(out, "y", {n});
    Axpy<<<(n + 255) / 256, 256>>>(2, x.data(), y.data, n);
  });
}
