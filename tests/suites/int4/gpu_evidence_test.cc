// Profile and evidence of the embedded model on a GPU, with the kernels of this
// project and, where its op library is there, with vLLM's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <numeric>
#include <set>

#include "kernels/torch_cuda.h"
#include "reporters/cuda/machine_code.h"
#include "reporters/verdict.h"
#include "suites/int4/engine_loader.h"
#include "suites/int4/evidence.h"
#include "suites/int4/op_profile.h"

namespace suites {
namespace {

using reporters::EvidenceRecord;
using reporters::Finding;
using reporters::KernelProfile;
using testing::HasSubstr;

std::string EmbeddedModels() {
  const char* given = std::getenv("EMBEDDED_MODELS");
  return given != nullptr ? given : EMBEDDED_MODELS;
}

// Variant and provider.
struct Case {
  const char* variant;
  const char* provider;
};

class GpuEvidence : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (kernels::TorchCuda().devices == 0) GTEST_SKIP() << kernels::TorchCuda().reason;
    std::string reason;
    ASSERT_TRUE(reporters::WatchModules(&reason)) << reason;
    const char* source = std::getenv("SUITES_SOURCE_DIR");
    for (const Variant& variant :
         ReadVariants(std::string(source != nullptr ? source : SUITES_SOURCE_DIR) + "/variants.json")) {
      if (variant.id == GetParam().variant) variant_ = variant;
    }
    places_.embedded = EmbeddedModels();
    options_.device = "cuda";
    options_.provider = GetParam().provider;
    options_.max_tokens = kTokens;
    model_ = LocateModel(variant_, places_);
    try {
      loaded_ = LoadEngine(variant_, model_, options_, Mode::kBaseline);
    } catch (const std::exception& error) {
      if (options_.provider == "vllm") GTEST_SKIP() << error.what();
      throw;
    }
    prompt_.resize(64);
    std::iota(prompt_.begin(), prompt_.end(), 100);
  }
  static constexpr int kTokens = 6;
  KernelProfile Profile() {
    CudaOpProfiler profiler;
    loaded_.qwen3->SetReplaySink([](auto&&...) {});
    loaded_.engine->Generate(prompt_, {.max_tokens = 2});
    loaded_.qwen3->SetReplaySink({});
    profiler.Learn();
    loaded_.engine->Generate(prompt_, {.max_tokens = kTokens});
    return profiler.Take(loaded_.expected_kernel, loaded_.device_functions);
  }
  Variant variant_;
  ModelPlaces places_;
  SuiteOptions options_;
  LocatedModel model_;
  LoadedEngine loaded_;
  std::vector<std::int64_t> prompt_;
};

TEST_P(GpuEvidence, EveryCallOfTheInt4OperatorIsInTheProfile) {
  loaded_.engine->Generate(prompt_, {.max_tokens = kTokens});  // captures its graph
  const KernelProfile profile = Profile();
  for (const auto& kernel : profile.kernels) {
    std::cout << kernel.count << " x " << kernel.name.substr(0, 90) << " | " << kernel.op << " | kind "
              << static_cast<int>(kernel.kind) << " grid " << kernel.grid[0] << "x" << kernel.grid[1] << "x"
              << kernel.grid[2] << "\n";
  }
  EXPECT_EQ(profile.status, reporters::ProfileStatus::kOk) << profile.reason;
  EXPECT_EQ(profile.expected_count, loaded_.matmuls_per_pass * kTokens);
  // The logprobs of a generation are computed once, outside every operation.
  EXPECT_LE(profile.unattributed, 1);
  const auto shown = [&](bool (*is)(const reporters::KernelEntry&)) {
    return std::any_of(profile.kernels.begin(), profile.kernels.end(), is);
  };
  EXPECT_TRUE(shown(reporters::IsGemmKernel));
  EXPECT_EQ(shown(reporters::IsMarlinKernel), variant_.kernel == "marlin");
}

// What a profile lists can be looked up; a kernel that is bit-exact by construction
// adds no floats atomically.
TEST_P(GpuEvidence, MachineCodeOfEveryKernelCanBeRead) {
  if (std::string reason; reporters::FindNvdisasm(&reason).empty()) GTEST_SKIP() << reason;
  CudaOpProfiler profiler;
  loaded_.engine->Generate(prompt_, {.max_tokens = 2});
  const reporters::CudaProfile profile = profiler.TakeRaw();
  std::set<std::string> names;
  for (const auto& kernel : profile.kernels) names.insert(kernel.activity.name);
  ASSERT_FALSE(names.empty()) << profile.reason;
  const auto start = std::chrono::steady_clock::now();
  const auto codes = reporters::ReadMachineCode({names.begin(), names.end()});
  std::cout << codes.size() << " functions read in "
            << std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() << " s\n";
  for (const auto& code : codes) {
    std::cout << reporters::NameOf(code.float_atomics.finding) << " | " << reporters::DemangledName(code.name, 90)
              << " | " << code.float_atomics.detail << "\n";
    const std::string name = reporters::DemangledName(code.name);
    const bool own =
        name.find("kernels::cuda::") != std::string::npos || name.find("suites::internal::") != std::string::npos;
    if (own && variant_.kernel == "marlin") {
      EXPECT_EQ(code.float_atomics.finding, Finding::kRefuted) << name << ": " << code.float_atomics.detail;
    }
  }
}

TEST_P(GpuEvidence, NamesWhatDiffersAndWhatItsKernelsHold) {
  const EvidenceRecord evidence =
      CollectEvidence(*loaded_.qwen3, *OpenCheckpoint(model_.folder), prompt_, {.max_tokens = kTokens}, {});
  std::cout << evidence.first_operation.detail << "\n"
            << evidence.replay_differs.detail << "\n"
            << evidence.switch_on_operation.detail << "\n"
            << evidence.float_atomics.detail << "\n"
            << evidence.within_rounding_bound.detail << "\n";
  for (const auto& kernel : evidence.kernels) {
    std::cout << kernel.per_run << " x " << kernel.name << ": " << reporters::NameOf(kernel.float_atomics.finding)
              << ", " << kernel.float_atomics.detail << "\n";
  }
  if (variant_.kernel != "gptq") {
    EXPECT_EQ(evidence.first_operation.finding, Finding::kNotLookedAt) << evidence.first_operation.detail;
    return;
  }
  EXPECT_EQ(evidence.first_operation.finding, Finding::kShown) << evidence.first_operation.detail;
  EXPECT_TRUE(evidence.first_operation_is_int4) << evidence.first_operation_name;
  EXPECT_EQ(evidence.replay_differs.finding, Finding::kShown) << evidence.replay_differs.detail;
  EXPECT_FALSE(evidence.kernels.empty()) << evidence.replay_kernels.detail;
  EXPECT_EQ(evidence.within_rounding_bound.finding, Finding::kShown) << evidence.within_rounding_bound.detail;
  const bool foreign = options_.provider == "vllm";
  EXPECT_EQ(evidence.switch_on_operation.finding, foreign ? Finding::kRefuted : Finding::kShown);
  EXPECT_EQ(evidence.ordered_twin_exact.finding, foreign ? Finding::kNotLookedAt : Finding::kShown);
  if (!reporters::FindNvdisasm().empty()) {
    EXPECT_EQ(evidence.float_atomics.finding, Finding::kShown) << evidence.float_atomics.detail;
    EXPECT_THAT(evidence.float_atomics.detail, HasSubstr("ADD.F16x2"));
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, GpuEvidence,
                         testing::Values(Case{"gptq", "builtin"}, Case{"gptq_marlin", "builtin"}, Case{"gptq", "vllm"},
                                         Case{"gptq_marlin", "vllm"}),
                         [](const auto& info) { return std::string(info.param.variant) + "_" + info.param.provider; });

}  // namespace
}  // namespace suites
