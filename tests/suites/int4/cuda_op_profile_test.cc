// Which operator launched which kernel, on records that are made up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "suites/int4/op_profile.h"

namespace suites {
namespace {

using reporters::CudaProfile;
using reporters::KernelEntry;
using reporters::KernelKind;
using reporters::KernelProfile;
using reporters::ProfileStatus;
using testing::ElementsAre;
using testing::UnorderedElementsAre;

constexpr char kGemm[] = "determinism_int4::gptq_gemm";

class Pass {
 public:
  // A call of an operator, inside `parent`.
  std::uint64_t Enter(const std::string& op, std::uint64_t parent = 0) {
    profile_.scopes[++scope_] = {op, parent};
    return scope_;
  }
  Pass& Launch(const std::string& name, std::uint64_t scope, std::int64_t grid = 1, std::uint32_t graph = 0) {
    reporters::ProfiledKernel kernel;
    kernel.name = kernel.activity.name = name;
    kernel.activity.grid = {grid, 1, 1};
    kernel.activity.block = {128, 1, 1};
    kernel.activity.start_ns = 1000 * profile_.kernels.size();
    kernel.activity.end_ns = kernel.activity.start_ns + 500;
    kernel.activity.graph = graph;
    kernel.scope = scope;
    profile_.kernels.push_back(kernel);
    return *this;
  }
  CudaProfile Profile() const {
    CudaProfile profile = profile_;
    profile.status = profile.kernels.empty() ? ProfileStatus::kEmpty : ProfileStatus::kOk;
    return profile;
  }

 private:
  CudaProfile profile_;
  std::uint64_t scope_ = 0;
};

// Two decode steps of a model: a norm, a matmul that clears its output first, a head.
Pass Eager(bool graph = false) {
  Pass pass;
  for (int step = 0; step < 2; ++step) {
    const auto in = [&](std::uint64_t scope) { return graph ? 0 : scope; };
    const std::uint32_t id = graph ? 7 : 0;
    pass.Launch("norm", in(pass.Enter("qwen3::rms_norm")), 1, id);
    const std::uint64_t gemm = pass.Enter(kGemm);
    pass.Launch("fill", in(pass.Enter("aten::zero_", gemm)), 1, id).Launch("gptq_kernel", in(gemm), 8, id);
    const std::uint64_t linear = pass.Enter("qwen3::linear");
    pass.Launch("cutlass_gemm", in(pass.Enter("aten::mm", linear)), 4, id);
    pass.Launch("fill", in(pass.Enter("aten::fill_")), 1, id);
  }
  return pass;
}

std::vector<std::string> OpsOf(const KernelProfile& profile, const std::string& kernel) {
  std::vector<std::string> ops;
  for (const KernelEntry& entry : profile.kernels) {
    if (entry.name == kernel) ops.push_back(entry.op);
  }
  return ops;
}
KernelKind KindOf(const KernelProfile& profile, const std::string& kernel) {
  for (const KernelEntry& entry : profile.kernels) {
    if (entry.name == kernel) return entry.kind;
  }
  ADD_FAILURE() << "no kernel " << kernel;
  return KernelKind::kOther;
}

TEST(CudaOpProfile, EagerKernelsAreTheirOperators) {
  const KernelProfile profile = ProfileOf(Eager().Profile(), {}, kGemm, {});
  EXPECT_EQ(profile.status, ProfileStatus::kOk);
  EXPECT_EQ(profile.expected_kernel, kGemm);
  EXPECT_EQ(profile.expected_count, 2);  // calls, not the four kernels that they launched
  EXPECT_EQ(profile.unattributed, 0);
  EXPECT_THAT(OpsOf(profile, "cutlass_gemm"), ElementsAre("qwen3::linear > aten::mm"));
  EXPECT_THAT(OpsOf(profile, "fill"), UnorderedElementsAre(std::string(kGemm) + " > aten::zero_", "aten::fill_"));
  EXPECT_EQ(KindOf(profile, "gptq_kernel"), KernelKind::kGemm);
  EXPECT_EQ(KindOf(profile, "cutlass_gemm"), KernelKind::kGemm);
  EXPECT_EQ(KindOf(profile, "norm"), KernelKind::kNone);
  EXPECT_EQ(KindOf(profile, "fill"), KernelKind::kNone);  // inside a matmul too
}

TEST(CudaOpProfile, DequantizationInsideAMatmulIsThat) {
  Pass pass;
  const std::uint64_t gemm = pass.Enter(kGemm);
  pass.Launch("GptqDequantizeWeights<true>", gemm).Launch("nvjet_hsh", pass.Enter("aten::mm", gemm));
  const KernelProfile profile = ProfileOf(pass.Profile(), {}, kGemm, {});
  EXPECT_EQ(profile.expected_count, 1);
  EXPECT_EQ(KindOf(profile, "GptqDequantizeWeights<true>"), KernelKind::kDequant);
  EXPECT_EQ(KindOf(profile, "nvjet_hsh"), KernelKind::kGemm);
}

TEST(CudaOpProfile, AnOperatorThatIsNotThereIsNotCounted) {
  EXPECT_EQ(ProfileOf(Eager().Profile(), {}, "determinism_int4::marlin_gemm", {}).expected_count, 0);
  EXPECT_EQ(ProfileOf({}, {}, kGemm, {}).expected_count, 0);
}

TEST(CudaOpProfile, AReplayedGraphIsReadByWhatWasLearned) {
  const KernelProfile profile = ProfileOf(Eager(true).Profile(), Eager().Profile(), kGemm, {});
  EXPECT_EQ(profile.expected_count, 2);
  EXPECT_EQ(profile.unattributed, 0);
  EXPECT_THAT(OpsOf(profile, "gptq_kernel"), ElementsAre(kGemm));
  EXPECT_THAT(OpsOf(profile, "norm"), ElementsAre("qwen3::rms_norm"));
  // The same function, launched alike by two operators.
  EXPECT_THAT(OpsOf(profile, "fill"), ElementsAre("aten::fill_ or determinism_int4::gptq_gemm > aten::zero_"));
  EXPECT_EQ(KindOf(profile, "gptq_kernel"), KernelKind::kGemm);
}

TEST(CudaOpProfile, AGraphWithoutTheOperatorDoesNotShowIt) {
  Pass without;
  without.Launch("norm", 0, 1, 7).Launch("fill", 0, 1, 7).Launch("cutlass_gemm", 0, 4, 7);
  EXPECT_EQ(ProfileOf(without.Profile(), Eager().Profile(), kGemm, {"gptq_kernel"}).expected_count, 0);
}

// In another order than the eager pass had, since branches of a graph run beside
// each other: the operator's own function counts.
TEST(CudaOpProfile, InAnotherOrderTheOperatorsOwnFunctionCounts) {
  Pass graph;
  graph.Launch("gptq_kernel", 0, 8, 7).Launch("fill", 0, 1, 7).Launch("norm", 0, 1, 7).Launch("gptq_kernel", 0, 8, 7);
  EXPECT_EQ(ProfileOf(graph.Profile(), Eager().Profile(), kGemm, {}).expected_count, 2);
}

TEST(CudaOpProfile, WithoutAnEagerPassNamesOfFunctionsDecide) {
  const CudaProfile graph = Eager(true).Profile();
  KernelProfile profile = ProfileOf(graph, {}, kGemm, {"gptq_"});
  EXPECT_EQ(profile.expected_count, 2);
  EXPECT_EQ(profile.unattributed, 10);
  EXPECT_THAT(OpsOf(profile, "norm"), ElementsAre(""));
  profile = ProfileOf(graph, {}, kGemm, {});
  EXPECT_EQ(profile.expected_count, 0);
}

// A grid that the eager pass did not have: the name alone decides.
TEST(CudaOpProfile, AnotherGridIsTheSameFunction) {
  Pass graph;
  graph.Launch("gptq_kernel", 0, 99, 7).Launch("never_seen", 0, 1, 7);
  const KernelProfile profile = ProfileOf(graph.Profile(), Eager().Profile(), kGemm, {});
  EXPECT_THAT(OpsOf(profile, "gptq_kernel"), ElementsAre(kGemm));
  EXPECT_EQ(profile.unattributed, 1);
}

TEST(CudaOpProfile, WhatIsMissingStaysMissing) {
  CudaProfile incomplete = Eager().Profile();
  incomplete.status = ProfileStatus::kIncomplete;
  incomplete.reason = "3 records dropped";
  EXPECT_EQ(ProfileOf(incomplete, {}, kGemm, {}).status, ProfileStatus::kIncomplete);
  EXPECT_EQ(ProfileOf(incomplete, {}, kGemm, {}).reason, "3 records dropped");
}

}  // namespace
}  // namespace suites
