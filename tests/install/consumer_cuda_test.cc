#include <gtest/gtest.h>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/cuda_perturbations.h"
#include "gtest_determinism/determinism.h"

// Links, starts, and works or says why not.
TEST(Consumer, DeviceMemoryOrAReason) {
  const gtest_determinism::Report report = gtest_determinism::RunRepeated(
      [] {
        const gtest_determinism::DeviceBuffer<int> buffer({100});
        gtest_determinism::CudaMemory().Fill(buffer.data(), 7, 400);
        return buffer;
      },
      {.runs = 3, .perturbations = {{gtest_determinism::CacheState()}}});
  const bool device = gtest_determinism::NoCudaDevice().empty();
  EXPECT_EQ(report.outcome, device ? gtest_determinism::Outcome::kBitExact : gtest_determinism::Outcome::kError);
  if (!device) {
    EXPECT_NE(report.reason.find("no CUDA device"), std::string::npos) << report.reason;
  }
}
