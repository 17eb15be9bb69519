// What is said where there is no device. The devices of a machine that has some
// are hidden before CUDA starts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/cuda_perturbations.h"
#include "gtest_determinism/internal/cuda_check.h"
#include "gtest_determinism/internal/cuda_kernels.h"
#include "gtest_determinism/matchers.h"
#include "gtest_determinism/runner.h"

namespace gtest_determinism {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

const bool kHidden = setenv("CUDA_VISIBLE_DEVICES", "", 1) == 0;

template <class Error = std::invalid_argument, class F>
std::string ErrorOf(const F& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(NoDevice, IsSaidWithItsReason) {
  ASSERT_TRUE(kHidden);
  EXPECT_THAT(NoCudaDevice(), StartsWith("no CUDA device: "));
  EXPECT_THAT(ErrorOf([] { CudaMemory(); }), StartsWith("device cuda:0: no CUDA device: "));
  EXPECT_THAT(ErrorOf([] { DeviceBuffer<float> buffer({4}); }), StartsWith("device cuda:0: no CUDA device: "));
  EXPECT_THAT(ErrorOf([] { CudaDigestQueue queue; }), StartsWith("device cuda:0: no CUDA device: "));
  EXPECT_THAT(ErrorOf([] { CudaCompareQueue queue; }), StartsWith("device cuda:0: no CUDA device: "));
}

TEST(NoDevice, MakesAReportAnError) {
  float value = 0;
  const Report report = RunRepeated([&] { return DeviceSpan<float>{&value, {1}}; });
  EXPECT_THAT(report, HasOutcome(Outcome::kError));
  EXPECT_THAT(report.reason, HasSubstr("no CUDA device"));
}

// They can be made, and named, anywhere.
TEST(NoDevice, PerturbationsSaySoWhenTheyAreApplied) {
  const std::shared_ptr<Perturbation> all[] = {SmContention(), CacheState(), WorkspacePoison(), LaunchDelay({nullptr})};
  const char* const names[] = {"sm_contention(largest_share=0.75)", "cache_state", "workspace_poison",
                               "launch_delay(longest=200us, streams=1)"};
  for (std::size_t i = 0; i < std::size(all); ++i) {
    EXPECT_EQ(all[i]->Name(), names[i]);
    EXPECT_THAT(ErrorOf([&] { all[i]->Apply(1, 42); }), HasSubstr("no CUDA device")) << names[i];
    all[i]->Undo();
  }
  const Report report = RunRepeated([] { return 1; }, {.runs = 3, .perturbations = {{CacheState()}}});
  EXPECT_THAT(report, HasOutcome(Outcome::kError));
  EXPECT_THAT(report.reason, HasSubstr("no CUDA device"));
}

TEST(NoDevice, LaunchModesSaySo) {
  const Report report = RunRepeated(GraphAgainstEager([](cudaStream_t) { return 1; }), {.runs = 3});
  EXPECT_THAT(report, HasOutcome(Outcome::kError));
  EXPECT_THAT(report.reason, HasSubstr("no CUDA device"));
  EXPECT_THROW(StreamRuns([](cudaStream_t) { return 1; }, {}), std::invalid_argument);
}

TEST(NoDevice, AnAllocatorHasBothFunctions) {
  WorkspacePoisonOptions options;
  options.allocator.free = nullptr;
  EXPECT_THROW(WorkspacePoison(options), std::invalid_argument);
}

TEST(NoDevice, ALaunchSaysSo) {
  EXPECT_THAT(ErrorOf<std::runtime_error>([] { internal::LaunchHoldStream(0, nullptr); }),
              StartsWith("CUDA refused to launch hold_stream: "));
}

// An error is the call's own, or of work ahead of it.
TEST(NoDevice, ErrorsSayWhoseTheyAre) {
  const auto of_call = [](cudaError_t error) {
    return ErrorOf<std::runtime_error>([&] { internal::CheckCuda(error, "some call"); });
  };
  const auto of_launch = [](cudaError_t error) {
    return ErrorOf<std::runtime_error>([&] { internal::CheckLaunch(error, "some_kernel"); });
  };
  EXPECT_EQ(of_call(cudaSuccess), "no error");
  EXPECT_EQ(of_launch(cudaSuccess), "no error");
  EXPECT_EQ(of_call(cudaErrorInvalidValue), "some call: invalid argument");
  EXPECT_EQ(of_launch(cudaErrorInvalidValue), "CUDA refused to launch some_kernel: invalid argument");
  EXPECT_EQ(of_call(cudaErrorIllegalAddress),
            "some call: earlier work on the device failed: an illegal memory access was encountered");
  EXPECT_EQ(
      of_launch(cudaErrorIllegalAddress),
      "some_kernel was not launched, earlier work on the device failed: an illegal memory access was encountered");
}

// Without streams only the host is held: no device is needed.
TEST(NoDevice, LaunchDelayOfTheHostAlone) {
  const auto delay = LaunchDelay({}, std::chrono::microseconds(10));
  EXPECT_THAT(RunRepeated(
                  [&] {
                    delay->Point();
                    return 1;
                  },
                  {.runs = 5, .perturbations = {{delay}}}),
              IsBitExact());
}

}  // namespace
}  // namespace gtest_determinism
