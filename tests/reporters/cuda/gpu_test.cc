// CUPTI on a GPU: eager and replayed launches, machine code, launches made to
// wait, and the planted faults named.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <string>

#include "gtest_determinism/compare.h"
#include "gtest_determinism/cuda.h"
#include "reporters/cuda/diagnosis.h"
#include "reporters/cuda/kernel_profiler.h"
#include "reporters/cuda/machine_code.h"
#include "reporters/cuda/serial_launches.h"
#include "tests/cuda_faults/faults.h"
#include "tests/reporters/cuda/sample_kernels.h"

namespace reporters {
namespace {

using cuda_faults::Planted;
using cuda_faults::Version;
using gtest_determinism::DeviceBuffer;
using testing::HasSubstr;

class GpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = gtest_determinism::NoCudaDevice(); !why.empty()) GTEST_SKIP() << why;
    // Before the first kernel, so that its module is seen.
    std::string reason;
    ASSERT_TRUE(WatchModules(&reason)) << reason;
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }
  cudaStream_t stream_ = nullptr;
};

std::map<std::string, int> CountByScope(const CudaProfile& profile) {
  std::map<std::string, int> counts;
  for (const ProfiledKernel& kernel : profile.kernels) {
    ++counts[ScopeChain(profile.scopes, kernel.scope) + ": " + kernel.name.substr(0, kernel.name.find('('))];
  }
  return counts;
}

using ProfilerGpuTest = GpuTest;

TEST_F(ProfilerGpuTest, EagerLaunchesBelongToTheirScopes) {
  const DeviceBuffer<float> x({256});
  CuptiProfiler profiler;
  ASSERT_TRUE(profiler.Start()) << profiler.reason();
  {
    const CuptiScope outer(profiler, "outer");
    sample_kernels::Scale(x.data(), 2, stream_);
    const CuptiScope inner(profiler, "inner");
    sample_kernels::Shift(x.data(), 1, stream_);
    sample_kernels::Shift(x.data(), 1, stream_);
    cudaMemsetAsync(x.data(), 0, 64, stream_);
  }
  sample_kernels::Shift(x.data(), 1, stream_);
  sample_kernels::FailedLaunch(x.data(), stream_);
  const CudaProfile profile = profiler.Stop();
  EXPECT_EQ(profile.status, ProfileStatus::kOk) << profile.reason;
  EXPECT_EQ(profile.launches, 4);
  EXPECT_THAT(CountByScope(profile),
              testing::UnorderedElementsAre(testing::Pair("outer: void sample_kernels::scale<float>", 1),
                                            testing::Pair("outer > inner: sample_kernels::shift", 2),
                                            testing::Pair(": sample_kernels::shift", 1)));
  ASSERT_EQ(profile.copies.size(), 1u);
  EXPECT_EQ(ScopeChain(profile.scopes, profile.copies[0].scope), "outer > inner");
  const KernelActivity& scale = profile.kernels[0].activity;
  EXPECT_EQ(scale.grid, (std::array<std::int64_t, 3>{4, 1, 1}));
  EXPECT_EQ(scale.block, (std::array<std::int64_t, 3>{64, 1, 1}));
  EXPECT_EQ(scale.dynamic_shared_bytes, 96);
  EXPECT_GT(scale.registers, 0);
  EXPECT_GT(scale.end_ns, scale.start_ns);
}

// 52 rows that differ everywhere are compared and described where they lie: three
// launches, and a few words come back.
TEST_F(ProfilerGpuTest, ComparingOnADeviceCopiesNoRow) {
  constexpr std::int64_t kRows = 52, kElements = 10000;
  const DeviceBuffer<float> x({kRows, kElements}), y({kRows, kElements});
  const gtest_determinism::MemorySpace& space = gtest_determinism::CudaMemory();
  space.Fill(x.data(), 1, kRows * kElements * sizeof(float));
  space.Fill(y.data(), 2, kRows * kElements * sizeof(float));
  gtest_determinism::Trace expected, actual;
  for (std::int64_t row = 0; row < kRows; ++row) {
    AppendPart(expected, "", gtest_determinism::DeviceSpan<float>{x.data() + row * kElements, {kElements}});
    AppendPart(actual, "", gtest_determinism::DeviceSpan<float>{y.data() + row * kElements, {kElements}});
  }
  const std::vector<float> host = y.ToHost();
  CompareTraces(expected, actual);  // what is allocated once is
  CuptiProfiler profiler;
  ASSERT_TRUE(profiler.Start()) << profiler.reason();
  const auto divergence = CompareTraces(expected, actual);
  const CudaProfile there = profiler.Take();
  actual[0].view.data = host.data();
  actual[0].view.space = &gtest_determinism::HostMemory();
  CompareTraces(expected, actual);
  const CudaProfile fetched = profiler.Stop();
  ASSERT_TRUE(divergence.has_value());
  EXPECT_EQ(divergence->different_parts, kRows);
  EXPECT_EQ(divergence->diff.different_elements, kElements);
  const auto launches = [](const CudaProfile& profile) {
    std::vector<std::string> names;
    for (const ProfiledKernel& kernel : profile.kernels) names.push_back(kernel.name);
    return names;
  };
  const auto copied = [](const CudaProfile& profile) {
    std::uint64_t bytes = 0;
    for (const ProfiledCopy& copy : profile.copies) {
      if (copy.activity.name != "memset") bytes += copy.activity.bytes;
    }
    return bytes;
  };
  EXPECT_EQ(there.status, ProfileStatus::kOk) << there.reason;
  EXPECT_THAT(launches(there), testing::ElementsAre(HasSubstr("compare_pairs"), HasSubstr("compare_bytes"),
                                                    HasSubstr("count_differences")));
  EXPECT_LT(copied(there), 1000u);
  // The control: of two spaces the row is fetched, and seen to be.
  EXPECT_GE(copied(fetched), kElements * sizeof(float));
}

// Of a graph that was captured and made before the recording began, and of one
// that is captured meanwhile.
TEST_F(ProfilerGpuTest, AReplayedGraphBelongsToTheScopeThatLaunchesIt) {
  const DeviceBuffer<float> x({256});
  const auto capture = [&](int shifts) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    sample_kernels::Scale(x.data(), 2, stream_);
    for (int i = 0; i < shifts; ++i) sample_kernels::Shift(x.data(), 1, stream_);
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    cudaGraphDestroy(graph);
    return exec;
  };
  sample_kernels::Scale(x.data(), 2, stream_);
  sample_kernels::Shift(x.data(), 2, stream_);
  const cudaGraphExec_t before = capture(3);
  CuptiProfiler profiler;
  ASSERT_TRUE(profiler.Start()) << profiler.reason();
  cudaGraphExec_t meanwhile = nullptr;
  {
    const CuptiScope scope(profiler, "capturing");
    meanwhile = capture(5);
  }
  {
    const CuptiScope scope(profiler, "replaying");
    for (int i = 0; i < 4; ++i) EXPECT_EQ(cudaGraphLaunch(before, stream_), cudaSuccess);
  }
  {
    const CuptiScope scope(profiler, "replaying_new");
    EXPECT_EQ(cudaGraphLaunch(meanwhile, stream_), cudaSuccess);
  }
  const CudaProfile profile = profiler.Stop();
  EXPECT_EQ(profile.status, ProfileStatus::kOk) << profile.reason;
  EXPECT_EQ(profile.launches, 5);
  EXPECT_THAT(CountByScope(profile),
              testing::UnorderedElementsAre(testing::Pair("replaying: void sample_kernels::scale<float>", 4),
                                            testing::Pair("replaying: sample_kernels::shift", 12),
                                            testing::Pair("replaying_new: void sample_kernels::scale<float>", 1),
                                            testing::Pair("replaying_new: sample_kernels::shift", 5)));
  for (const ProfiledKernel& kernel : profile.kernels) EXPECT_NE(kernel.activity.graph, 0u);
  cudaGraphExecDestroy(before);
  cudaGraphExecDestroy(meanwhile);
}

TEST_F(ProfilerGpuTest, EveryOneOfManyLaunchesIsThereAndTakesAreApart) {
  const DeviceBuffer<float> x({256});
  CuptiProfiler profiler;
  ASSERT_TRUE(profiler.Start()) << profiler.reason();
  for (int i = 0; i < 20000; ++i) sample_kernels::Shift(x.data(), 1, stream_);
  CudaProfile profile = profiler.Take();
  EXPECT_EQ(profile.status, ProfileStatus::kOk) << profile.reason;
  EXPECT_EQ(profile.kernels.size(), 20000u);
  sample_kernels::Scale(x.data(), 1, stream_);
  profile = profiler.Take();
  EXPECT_EQ(profile.kernels.size(), 1u);
  EXPECT_EQ(profile.launches, 1);
  profile = profiler.Stop();
  EXPECT_EQ(profile.status, ProfileStatus::kEmpty);
  EXPECT_THAT(profile.reason, HasSubstr("no kernel in 0 launches"));
}

TEST_F(ProfilerGpuTest, OneRecordingAtATimeAndOnlyWhereItIsAllowed) {
  CuptiProfiler first, second;
  ASSERT_TRUE(first.Start()) << first.reason();
  EXPECT_FALSE(second.Start());
  EXPECT_EQ(second.Stop().status, ProfileStatus::kUnavailable);
  EXPECT_THAT(second.reason(), HasSubstr("another recording"));
  first.Stop();
  ASSERT_EQ(setenv("DETERMINISM_NO_CUPTI", "1", 1), 0);
  EXPECT_FALSE(second.Start());
  EXPECT_THAT(second.reason(), HasSubstr("DETERMINISM_NO_CUPTI"));
  unsetenv("DETERMINISM_NO_CUPTI");
  EXPECT_TRUE(second.Start()) << second.reason();
}

using MachineCodeGpuTest = GpuTest;

TEST_F(MachineCodeGpuTest, TellsFloatAtomicsFromIntegerAtomics) {
  if (std::string reason; FindNvdisasm(&reason).empty()) GTEST_SKIP() << reason;
  const DeviceBuffer<float> x({256});
  const DeviceBuffer<int> n({256});
  CuptiProfiler profiler;
  ASSERT_TRUE(profiler.Start()) << profiler.reason();
  sample_kernels::AtomicFloatSum(x.data(), stream_);
  sample_kernels::AtomicIntSum(n.data(), stream_);
  const CudaProfile profile = profiler.Stop();
  ASSERT_EQ(profile.kernels.size(), 2u);
  const auto codes =
      ReadMachineCode({profile.kernels[0].activity.name, profile.kernels[1].activity.name, "never_launched"});
  EXPECT_EQ(codes[0].float_atomics.finding, Finding::kShown) << codes[0].float_atomics.detail;
  EXPECT_THAT(codes[0].float_atomics.detail, HasSubstr("ADD.F32"));
  EXPECT_EQ(codes[1].float_atomics.finding, Finding::kRefuted) << codes[1].float_atomics.detail;
  EXPECT_EQ(codes[2].float_atomics.finding, Finding::kNotLookedAt);
}

struct Named {
  const char* fault;
  Cause cause;
  const char* says;
};
class DiagnosisGpuTest : public GpuTest, public testing::WithParamInterface<Named> {};

TEST_P(DiagnosisGpuTest, NamesThePlantedFaultAndLeavesItsSoundTwinAlone) {
  if (std::string reason; FindNvdisasm(&reason).empty()) GTEST_SKIP() << reason;
  const auto diagnose = [&](Version version) {
    Planted planted(GetParam().fault, version);
    const auto diagnosis = Diagnose(
        [&] {
          planted.Run(stream_);
          return gtest_determinism::DeviceSpan<const std::uint32_t>{
              static_cast<const std::uint32_t*>(planted.output()),
              {static_cast<std::int64_t>(planted.output_elements())},
              stream_};
        },
        {.runs = 40});
    std::cout << GetParam().fault << ": " << NameOf(diagnosis.cause) << " (" << diagnosis.rule << ") " << diagnosis.text
              << "\n";
    return diagnosis;
  };
  const Diagnosis fault = diagnose(Version::kFault);
  EXPECT_EQ(NameOf(fault.cause), NameOf(GetParam().cause));
  EXPECT_THAT(fault.text, HasSubstr(GetParam().says));
  EXPECT_EQ(NameOf(diagnose(Version::kSound).cause), "nothing_differs");
}

INSTANTIATE_TEST_SUITE_P(Planted, DiagnosisGpuTest,
                         testing::Values(Named{"float_atomic", Cause::kFloatAtomics, "float_atomic_sum"},
                                         Named{"missing_sync", Cause::kRaceInKernel, "By elimination"},
                                         Named{"unset_workspace", Cause::kUnsetMemory, "not written"},
                                         Named{"second_stream", Cause::kUnorderedStreams, "consume"},
                                         Named{"reused_buffer", Cause::kEarlyReuse, "drain_slot"},
                                         Named{"timed_algorithm", Cause::kChangingLaunches, "ordered_sum_variant"},
                                         Named{"integer_atomic", Cause::kNothingDiffers, "Nothing"},
                                         Named{"max_atomic", Cause::kNothingDiffers, "Nothing"},
                                         Named{"two_addends", Cause::kNothingDiffers, "Nothing"}),
                         [](const auto& info) { return std::string(info.param.fault); });

TEST_F(GpuTest, ATileThatFollowsTheBatchIsNamedAndItsSoundTwinIsNot) {
  for (const Version version : {Version::kFault, Version::kSound}) {
    Planted planted("tile_by_batch", version);
    const auto diagnosis = DiagnoseBatch(
        [&](int batch) {
          planted.Run(stream_, batch);
          return gtest_determinism::DeviceSpan<const float>{static_cast<const float*>(planted.output()), {1}, stream_};
        },
        {1, 2, 8, 16, 32, 64}, {.runs = 10});
    std::cout << "tile_by_batch: " << diagnosis.rule << " " << diagnosis.text << "\n";
    EXPECT_EQ(NameOf(diagnosis.cause),
              NameOf(version == Version::kFault ? Cause::kBatchTiling : Cause::kNothingDiffers));
  }
}

TEST_F(GpuTest, SerialLaunchesWaitForEachOther) {
  cudaStream_t other = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  const DeviceBuffer<float> x({256});
  sample_kernels::Shift(x.data(), 1, stream_);
  {
    const SerialLaunches serial;
    ASSERT_TRUE(serial.active()) << serial.reason();
    for (int i = 0; i < 100; ++i) {
      sample_kernels::Shift(x.data(), 1, stream_);
      EXPECT_EQ(cudaStreamQuery(stream_), cudaSuccess);
      cudaMemsetAsync(x.data(), 0, 1024, other);
      EXPECT_EQ(cudaStreamQuery(other), cudaSuccess);
    }
    const SerialLaunches second;
    EXPECT_FALSE(second.active());
  }
  const SerialLaunches again;
  EXPECT_TRUE(again.active()) << again.reason();
  cudaStreamDestroy(other);
}

}  // namespace
}  // namespace reporters
