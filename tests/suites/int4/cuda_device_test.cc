// The checks before a model is loaded onto a GPU. None of them needs one.
#include "suites/int4/cuda_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/torch_cuda.h"
#include "suites/int4/variant.h"

namespace suites {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string ErrorOf(const std::string& device) {
  try {
    return "resolved to " + ResolveDevice(device);
  } catch (const VariantError& error) {
    return error.what();
  }
}

TEST(ResolveDeviceTest, CpuIsCpuWhateverElseThereIs) { EXPECT_EQ(ResolveDevice("cpu"), "cpu"); }

TEST(ResolveDeviceTest, AutoTakesTheGpuWhereThereIsOne) {
  EXPECT_EQ(ResolveDevice("auto"), kernels::TorchCuda().devices > 0 ? "cuda:0" : "cpu");
}

TEST(ResolveDeviceTest, WhatIsNoDeviceIsRefusedInOneLine) {
  for (const char* device : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda0", "cuda:99999999999"}) {
    EXPECT_THAT(ErrorOf(device), AllOf(HasSubstr("is not of the form cuda or cuda:N"), Not(HasSubstr("\n")))) << device;
  }
}

TEST(ResolveDeviceTest, ADeviceThatIsNotThereIsRefusedWithTheReason) {
  const std::string reason = kernels::TorchCuda().devices > 0 ? "counted from 0" : kernels::TorchCuda().reason;
  EXPECT_THAT(ErrorOf("cuda:4096"), AllOf(HasSubstr(reason), HasSubstr("--device cpu"), Not(HasSubstr("\n"))));
}

TEST(KindOfDeviceTest, IsTheWordOfTheTable) {
  EXPECT_EQ(KindOfDevice("cpu"), "cpu");
  EXPECT_EQ(KindOfDevice("cuda:3"), "cuda");
}

TEST(CheckCudaMemoryTest, AcceptsWhatFitsIntoTheAllowedShare) {
  const CudaMemoryInfo memory{.free_bytes = 10'000'000'000, .total_bytes = 80'000'000'000};
  EXPECT_NO_THROW(CheckCudaMemory(9'000'000'000, 0.9, memory, "cuda:0"));
}

TEST(CheckCudaMemoryTest, RefusesWhatDoesNotWithBothFigures) {
  const CudaMemoryInfo memory{.free_bytes = 10'000'000'000, .total_bytes = 80'000'000'000};
  try {
    CheckCudaMemory(9'010'000'000, 0.9, memory, "cuda:0");
    FAIL() << "9.01 GB of 9 were accepted";
  } catch (const VariantError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("cuda:0"), HasSubstr("9.01 GB"), HasSubstr("0.90 of the 10.00 GB"),
                                    HasSubstr("--gpu-memory-utilization"), Not(HasSubstr("\n"))));
  }
}

TEST(CudaEnvironmentTest, WithoutADeviceSaysWhy) {
  const auto values = CudaEnvironment("cpu");
  ASSERT_EQ(values.size(), 1u);
  EXPECT_EQ(values.front().first, "gpu");
  EXPECT_FALSE(values.front().second.empty());
}

TEST(TorchCudaTest, WithoutADeviceThereIsAReason) {
  const kernels::CudaStatus& status = kernels::TorchCuda();
  EXPECT_EQ(status.devices == 0, !status.reason.empty());
  EXPECT_THAT(status.reason, Not(HasSubstr("\n")));
}

}  // namespace
}  // namespace suites
