// What is said where there is no device. The devices of a machine that has some
// are hidden before CUDA starts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "gtest_determinism/cuda.h"
#include "gtest_determinism/cuda_perturbations.h"
#include "gtest_determinism/matchers.h"
#include "gtest_determinism/runner.h"

namespace gtest_determinism {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

const bool kHidden = setenv("CUDA_VISIBLE_DEVICES", "", 1) == 0;

template <class F>
std::string ErrorOf(const F& f) {
  try {
    f();
  } catch (const std::invalid_argument& error) {
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
