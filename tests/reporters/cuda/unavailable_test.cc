// Without a device, or where it is not wanted, the profiler says why.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "reporters/cuda/diagnosis.h"
#include "reporters/cuda/kernel_profiler.h"
#include "reporters/cuda/serial_launches.h"

namespace reporters {
namespace {

using testing::HasSubstr;

class Forbidden : public testing::Test {
 protected:
  Forbidden() { setenv("DETERMINISM_NO_CUPTI", "1", 1); }
  ~Forbidden() override { unsetenv("DETERMINISM_NO_CUPTI"); }
};

TEST_F(Forbidden, NothingIsRecordedAndTheReasonIsThere) {
  CuptiProfiler profiler;
  EXPECT_EQ(profiler.Take().status, ProfileStatus::kNotRequested);
  EXPECT_FALSE(profiler.Start());
  EXPECT_FALSE(profiler.started());
  EXPECT_NE(profiler.reason(), "");
  profiler.PushScope("scope");  // without effect
  profiler.PopScope();
  const CudaProfile profile = profiler.Stop();
  EXPECT_EQ(profile.status, ProfileStatus::kUnavailable);
  EXPECT_EQ(profile.reason, profiler.reason());
  EXPECT_TRUE(profile.kernels.empty());
}

TEST_F(Forbidden, LaunchesAreNotSerialised) {
  const SerialLaunches serial;
  EXPECT_FALSE(serial.active());
  EXPECT_NE(serial.reason(), "");
}

// On the host too: what cannot be looked at is no cause.
TEST_F(Forbidden, DiagnosisOfWhatCannotBeLookedAtIsUnknown) {
  int n = 0;
  const Diagnosis noisy = Diagnose([&] { return ++n; }, {.runs = 10, .poison = [](std::uint8_t) {}});
  EXPECT_EQ(noisy.cause, Cause::kUnknown);
  EXPECT_EQ(noisy.rule, "D9");
  const Diagnosis failing = Diagnose([]() -> int { throw std::runtime_error("no such kernel"); }, {.runs = 10});
  EXPECT_EQ(failing.cause, Cause::kUnknown);
}

}  // namespace
}  // namespace reporters
