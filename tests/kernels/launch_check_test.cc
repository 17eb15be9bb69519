// Whose error a launch reports: needs no device, and runs where there is one too. That an error
// is taken away can be seen with a device alone: cuda_raw_test.cc.
#include "kernels/cuda/launch_check.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>

#include "gtest_determinism/internal/cuda_check.h"
#include "kernels/cuda/launch.h"

namespace kernels::cuda {
namespace {

std::string ErrorOf(cudaError_t error) {
  try {
    CheckLaunch("SomeKernel", error);
  } catch (const std::runtime_error& thrown) {
    return thrown.what();
  }
  return "";
}

TEST(LaunchCheck, SaysWhetherTheLaunchOrEarlierWorkFailed) {
  EXPECT_EQ(ErrorOf(cudaSuccess), "");
  EXPECT_EQ(ErrorOf(cudaErrorInvalidConfiguration),
            "CUDA refused to launch SomeKernel: invalid configuration argument");
  EXPECT_EQ(ErrorOf(cudaErrorNoDevice), "CUDA refused to launch SomeKernel: no CUDA-capable device is detected");
  EXPECT_EQ(ErrorOf(cudaErrorIllegalAddress),
            "SomeKernel was not launched, earlier work on the device failed: an illegal memory access was encountered");
}

// What a launch may be refused for is its own fault, or that of its place.
TEST(LaunchCheck, KnowsWhatStays) {
  for (const cudaError_t error :
       {cudaErrorIllegalAddress, cudaErrorLaunchFailure, cudaErrorLaunchTimeout, cudaErrorAssert,
        cudaErrorIllegalInstruction, cudaErrorMisalignedAddress, cudaErrorInvalidPc, cudaErrorECCUncorrectable}) {
    EXPECT_TRUE(IsOfEarlierWork(error)) << cudaGetErrorName(error);
  }
  for (const cudaError_t error :
       {cudaSuccess, cudaErrorInvalidValue, cudaErrorInvalidConfiguration, cudaErrorLaunchOutOfResources,
        cudaErrorMemoryAllocation, cudaErrorNoDevice, cudaErrorInsufficientDriver, cudaErrorNoKernelImageForDevice,
        cudaErrorInvalidClusterSize, cudaErrorStreamCaptureInvalidated}) {
    EXPECT_FALSE(IsOfEarlierWork(error)) << cudaGetErrorName(error);
  }
}

// The library that tests kernels has the same rules in a header of its own.
TEST(LaunchCheck, AgreesWithTheLibrary) {
  const auto error_in_the_library = [](cudaError_t error) {
    try {
      gtest_determinism::internal::CheckLaunch(error, "SomeKernel");
    } catch (const std::runtime_error& thrown) {
      return std::string(thrown.what());
    }
    return std::string();
  };
  int of_earlier_work = 0;
  for (int number = 0; number <= cudaErrorUnknown; ++number) {
    const auto error = static_cast<cudaError_t>(number);
    EXPECT_EQ(ErrorOf(error), error_in_the_library(error)) << number;
    of_earlier_work += IsOfEarlierWork(error);
  }
  EXPECT_EQ(of_earlier_work, 14);
}

TEST(LaunchCheck, LeavesTheErrorsOfOthersAlone) {
  ASSERT_NE(cudaSetDevice(-1), cudaSuccess);
  const cudaError_t left = cudaPeekAtLastError();
  ASSERT_NE(left, cudaSuccess);
  EXPECT_EQ(ErrorOf(cudaSuccess), "") << "a launch that went well";
  EXPECT_EQ(cudaPeekAtLastError(), left);
  EXPECT_NE(ErrorOf(left), "") << "the call that failed";
}

// Without a device the first call of each launch fails; with one, the grid is too large.
TEST(LaunchCheck, NamesTheKernel) {
  const auto error_of = [](Path path, int m) {
    Gemm gemm;
    gemm.m = m, gemm.k = 64, gemm.n = gemm.padded_n = 16, gemm.group_size = 64, gemm.groups = 1;
    Plan plan;
    plan.path = path, plan.row_blocks = path == Path::kTile ? 4 : 0, plan.blocks = 1, plan.tiles_per_split = 1;
    if (path == Path::kStream) gemm.n = gemm.padded_n = 100000;
    try {
      GemmBy(Family::kMarlin, gemm, plan, nullptr, nullptr);
    } catch (const std::runtime_error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_THAT(error_of(Path::kTile, 32 * 65536), testing::StartsWith("CUDA refused to launch MarlinGemmTile: "));
  EXPECT_THAT(error_of(Path::kStream, 1),
              testing::AnyOf(testing::StartsWith("CUDA refused to launch MarlinGemmStream: "),
                             testing::StartsWith("MarlinGemmStream: a block needs ")));
}

}  // namespace
}  // namespace kernels::cuda
