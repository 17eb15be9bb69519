// Records of a driver that is made up: what is there, what is missing.
#include "reporters/cuda/activity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "reporters/cuda/internal/call_kind.h"

namespace reporters {
namespace {

using testing::HasSubstr;
using Kind = CallActivity::Kind;

KernelActivity Kernel(const std::string& name, std::uint32_t correlation_id, std::uint64_t start,
                      std::uint32_t graph = 0) {
  KernelActivity kernel;
  kernel.name = name;
  kernel.correlation_id = correlation_id;
  kernel.start_ns = start;
  kernel.end_ns = start + 2000;
  kernel.grid = {4, 1, 1};
  kernel.block = {64, 1, 1};
  kernel.registers = 32;
  kernel.graph = graph;
  return kernel;
}
CallActivity Call(std::uint32_t correlation_id, Kind kind = Kind::kLaunch, std::uint64_t start = 0) {
  if (start == 0) start = correlation_id * 100;
  return {kind, correlation_id, 1, start, start + 50, false};
}

// Two operators, three launches.
ActivityRecords Whole() {
  ActivityRecords records;
  records.kernels = {Kernel("_ZN4vllm4gemmEPf", 10, 1000), Kernel("fill", 11, 4000),
                     Kernel("_ZN4vllm4gemmEPf", 12, 9000)};
  records.calls = {Call(10), Call(11), Call(12)};
  records.scopes = {{10, 2}, {11, 1}, {12, 2}};
  return records;
}
const ScopeTable kScopes = {{1, {"outer", 0}}, {2, {"inner", 1}}};

TEST(Join, KernelsGetTheirScopesAndNames) {
  const CudaProfile profile = JoinActivities(Whole(), kScopes);
  EXPECT_EQ(profile.status, ProfileStatus::kOk);
  EXPECT_EQ(profile.reason, "");
  EXPECT_EQ(profile.launches, 3);
  ASSERT_EQ(profile.kernels.size(), 3u);
  EXPECT_EQ(profile.kernels[0].name, "vllm::gemm(float*)");
  EXPECT_EQ(profile.kernels[0].activity.name, "_ZN4vllm4gemmEPf");
  EXPECT_EQ(ScopeChain(profile.scopes, profile.kernels[0].scope), "outer > inner");
  EXPECT_EQ(profile.kernels[1].name, "fill");  // extern "C"
  EXPECT_EQ(ScopeChain(profile.scopes, profile.kernels[1].scope), "outer");
}

TEST(Join, TheOrderOfTheRecordsDoesNotMatter) {
  ActivityRecords records = Whole();
  std::reverse(records.kernels.begin(), records.kernels.end());
  std::rotate(records.calls.begin(), records.calls.begin() + 1, records.calls.end());
  std::reverse(records.scopes.begin(), records.scopes.end());
  const CudaProfile profile = JoinActivities(records, kScopes);
  EXPECT_EQ(profile.status, ProfileStatus::kOk) << profile.reason;
  EXPECT_EQ(profile.kernels[0].activity.correlation_id, 10u);
  EXPECT_EQ(profile.kernels[2].activity.correlation_id, 12u);
}

TEST(Join, NothingIsNeverOk) {
  const CudaProfile profile = JoinActivities({}, {});
  EXPECT_EQ(profile.status, ProfileStatus::kEmpty);
  EXPECT_THAT(profile.reason, HasSubstr("no kernel in 0 launches"));
  ActivityRecords lost = Whole();
  lost.kernels.clear();
  EXPECT_EQ(JoinActivities(lost, kScopes).status, ProfileStatus::kEmpty);
  EXPECT_THAT(JoinActivities(lost, kScopes).reason, HasSubstr("3 launches without"));
}

TEST(Join, DroppedRecordsMakeItIncomplete) {
  ActivityRecords records = Whole();
  records.dropped = 7;
  const CudaProfile profile = JoinActivities(records, kScopes);
  EXPECT_EQ(profile.status, ProfileStatus::kIncomplete);
  EXPECT_THAT(profile.reason, HasSubstr("7 records dropped"));
}

TEST(Join, ALaunchWithoutItsKernelMakesItIncomplete) {
  ActivityRecords records = Whole();
  records.kernels.erase(records.kernels.begin());
  const CudaProfile profile = JoinActivities(records, kScopes);
  EXPECT_EQ(profile.status, ProfileStatus::kIncomplete);
  EXPECT_EQ(profile.without_kernel, 1);
  EXPECT_THAT(profile.reason, HasSubstr("1 launch without its kernel"));
}

TEST(Join, ALaunchThatFailedNeedsNone) {
  ActivityRecords records = Whole();
  records.calls.push_back(Call(13));
  EXPECT_EQ(JoinActivities(records, kScopes).without_kernel, 1);
  records.calls.back().failed = true;
  const CudaProfile profile = JoinActivities(records, kScopes);
  EXPECT_EQ(profile.status, ProfileStatus::kOk) << profile.reason;
  EXPECT_EQ(profile.launches, 3);
}

TEST(Join, AScopeThatNobodyEnteredAndAKernelWithoutALaunchAreUnmatched) {
  ActivityRecords records = Whole();
  records.scopes[0].scope = 99;
  CudaProfile profile = JoinActivities(records, kScopes);
  EXPECT_EQ(profile.status, ProfileStatus::kIncomplete);
  EXPECT_EQ(profile.unmatched, 1);
  EXPECT_EQ(profile.kernels[0].scope, 0u);
  records = Whole();
  records.kernels.push_back(Kernel("stray", 77, 20000));
  EXPECT_EQ(JoinActivities(records, kScopes).unmatched, 1);
}

// Launched on a thread without scopes: it is there, and nothing is lost.
TEST(Join, AKernelOutsideEveryScopeIsComplete) {
  ActivityRecords records = Whole();
  records.scopes.erase(records.scopes.begin());
  const CudaProfile profile = JoinActivities(records, kScopes);
  EXPECT_EQ(profile.status, ProfileStatus::kOk);
  EXPECT_EQ(ScopeChain(profile.scopes, profile.kernels[0].scope), "");
}

TEST(Join, ACallOfTheDriverInsideOneOfTheRuntimeIsOneLaunch) {
  ActivityRecords records = Whole();
  // With an id of its own and no kernel, inside launch 10.
  records.calls.push_back({Kind::kLaunch, 30, 1, 1010, 1040, false});
  CudaProfile profile = JoinActivities(records, kScopes);
  EXPECT_EQ(profile.status, ProfileStatus::kOk) << profile.reason;
  EXPECT_EQ(profile.launches, 3);
  records.calls.back().thread = 2;  // of another thread it is another one
  EXPECT_EQ(JoinActivities(records, kScopes).without_kernel, 1);
}

TEST(Join, WhatIsCapturedLaunchesNothing) {
  ActivityRecords records = Whole();
  records.calls.push_back(Call(20, Kind::kBeginCapture));
  records.calls.push_back(Call(21));
  records.calls.push_back(Call(22, Kind::kEndCapture));
  CudaProfile profile = JoinActivities(records, kScopes);
  EXPECT_EQ(profile.status, ProfileStatus::kOk) << profile.reason;
  EXPECT_EQ(profile.launches, 3);
  records.calls.push_back(Call(23));  // after its end it does
  EXPECT_EQ(JoinActivities(records, kScopes).without_kernel, 1);
}

TEST(Join, ReplaysOfOneGraphMustShowAsMuchAsEachOther) {
  ActivityRecords records;
  records.calls = {Call(1, Kind::kGraphLaunch), Call(2, Kind::kGraphLaunch)};
  for (const std::uint32_t id : {1u, 2u}) {
    for (std::uint64_t i = 0; i < 3; ++i) records.kernels.push_back(Kernel("node", id, id * 10000 + i * 3000, 5));
  }
  records.scopes = {{1, 1}, {2, 1}};
  CudaProfile profile = JoinActivities(records, kScopes);
  EXPECT_EQ(profile.status, ProfileStatus::kOk) << profile.reason;
  EXPECT_EQ(profile.launches, 2);
  for (const ProfiledKernel& kernel : profile.kernels) EXPECT_EQ(ScopeChain(profile.scopes, kernel.scope), "outer");
  records.kernels.pop_back();
  profile = JoinActivities(records, kScopes);
  EXPECT_EQ(profile.status, ProfileStatus::kIncomplete);
  EXPECT_EQ(profile.without_kernel, 1);
}

TEST(Aggregate, SumsWhatAgreesAndKeepsApartWhatDoesNot) {
  ActivityRecords records = Whole();
  records.kernels.push_back(Kernel("_ZN4vllm4gemmEPf", 13, 20000));
  records.kernels.back().grid = {8, 1, 1};
  records.calls.push_back(Call(13));
  const CudaProfile profile = JoinActivities(records, kScopes);
  const auto entries = AggregateKernels(
      profile.kernels, [&](const ProfiledKernel& kernel) { return ScopeChain(profile.scopes, kernel.scope); });
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].name, "vllm::gemm(float*)");
  EXPECT_EQ(entries[0].count, 2);
  EXPECT_DOUBLE_EQ(entries[0].time_us, 4.0);
  EXPECT_EQ(entries[0].op, "outer > inner");
  EXPECT_EQ(entries[0].device, "cuda:0");
  EXPECT_EQ(entries[0].registers, 32);
}

TEST(Demangle, LongNamesAreCutAndOthersLeftAlone) {
  EXPECT_EQ(DemangledName("_Z5scaleIfEvPT_S0_"), "void scale<float>(float*, float)");
  EXPECT_EQ(DemangledName("_Znot a name"), "_Znot a name");
  EXPECT_EQ(DemangledName("ampere_fp16_s16816gemm"), "ampere_fp16_s16816gemm");
  EXPECT_EQ(DemangledName(""), "");
  const std::string cut = DemangledName(std::string(1000, 'k'));
  EXPECT_EQ(cut.size(), 240u);
  EXPECT_THAT(cut, testing::EndsWith("k..."));
}

TEST(ScopeChains, AreBoundedWhateverTheTableSays) {
  EXPECT_EQ(ScopeChain(kScopes, 0), "");
  EXPECT_EQ(ScopeChain(kScopes, 9), "");
  EXPECT_EQ(ScopeChain({{1, {"loop", 1}}}, 1), "loop");
  EXPECT_EQ(ScopeChain({{3, {"child", 2}}}, 3), "child");  // its parent has been forgotten
}

TEST(CallKinds, OfTheRuntimeAndTheDriver) {
  using internal::CallKindOf;
  for (const char* name : {"cudaLaunchKernel_v7000", "cudaLaunchKernelExC_v11060", "cuLaunchKernel",
                           "cuLaunchKernelEx_ptsz", "cudaLaunchCooperativeKernel_ptsz_v9000"}) {
    EXPECT_EQ(CallKindOf(name), Kind::kLaunch) << name;
  }
  EXPECT_EQ(CallKindOf("cudaGraphLaunch_v10000"), Kind::kGraphLaunch);
  EXPECT_EQ(CallKindOf("cudaStreamBeginCapture_v10000"), Kind::kBeginCapture);
  EXPECT_EQ(CallKindOf("cuStreamEndCapture"), Kind::kEndCapture);
  for (const char* name :
       {"cudaLaunchHostFunc_v10000", "cuLaunchHostFunc", "cudaMalloc_v3020", "cudaStreamIsCapturing_v10000", ""}) {
    EXPECT_EQ(CallKindOf(name), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace reporters
