// Provider vllm on a device: every family against float64, the path that its row
// count takes, its repacking, and what it refuses. Needs vLLM's op libraries
// (QUANT_OP_LIBRARIES or a Python environment that has the package).
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/record_function.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <ostream>
#include <string>
#include <vector>

#include "gtest_determinism/matchers.h"
#include "gtest_determinism/torch.h"
#include "kernels/int4_pack.h"
#include "kernels/providers/boxed_operator.h"
#include "kernels/providers/vllm.h"
#include "kernels/torch_cuda.h"
#include "tests/kernels/deterministic_scope.h"
#include "tests/kernels/providers/vllm_reference.h"
#include "tests/kernels/random_layer.h"

namespace kernels {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;
using torch::jit::Stack;

struct Case {
  const char* name;
  const char* family;
  Format format;
  LayerShape shape;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// K divided into several slices by every kernel; N a multiple of 64 and, in one
// case, not of 128.
const Case kCases[] = {
    {"MarlinAwq", "marlin", Format::kAwq, {1024, 512, 128}},
    {"MarlinAwqGroup32", "marlin", Format::kAwq, {1024, 256, 32}},
    {"MarlinGptq", "marlin", Format::kGptq, {1024, 512, 128, false, true}},
    {"MarlinGptqGroup64", "marlin", Format::kGptq, {1024, 192, 64, false, true}},
    {"MarlinGptqOneGroup", "marlin", Format::kGptq, {1024, 256, 1024, false, true}},
    {"MarlinGptqDescAct", "marlin", Format::kGptq, {1024, 256, 128, true, true}},
    {"MarlinGptqZeroPoints", "marlin", Format::kGptq, {1024, 256, 128, false, false}},
    {"Awq", "awq", Format::kAwq, {1024, 512, 128}},
    {"AwqGroup32NarrowTile", "awq", Format::kAwq, {1024, 192, 32}},
    {"Gptq", "gptq", Format::kGptq, {1024, 512, 128, false, true}},
    {"GptqZeroPoints", "gptq", Format::kGptq, {1024, 256, 64, false, false}},
    {"GptqDescAct", "gptq", Format::kGptq, {1024, 256, 128, true, true}},
    {"GptqDescActZeroPoints", "gptq", Format::kGptq, {1024, 256, 32, true, false}},
};
constexpr std::int64_t kRows[] = {1, 8, 17, 51, 257, 512};

// Names of the operators that are called while this lives.
class SeenOperators {
 public:
  SeenOperators()
      : handle_(at::addThreadLocalCallback(at::RecordFunctionCallback(&Note).scopes({at::RecordScope::FUNCTION}))) {
    Names().clear();
  }
  ~SeenOperators() { at::removeCallback(handle_); }
  SeenOperators(const SeenOperators&) = delete;
  SeenOperators& operator=(const SeenOperators&) = delete;
  static std::vector<std::string>& Names() {
    static std::vector<std::string> names;
    return names;
  }

 private:
  static std::unique_ptr<at::ObserverContext> Note(const at::RecordFunction& function) {
    Names().emplace_back(function.name());
    return nullptr;
  }
  const at::CallbackHandle handle_;
};

class VllmProvider : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (TorchCuda().devices == 0) GTEST_SKIP() << TorchCuda().reason;
    if (const std::string reason = WhyNoVllm(GetParam().family); !reason.empty()) GTEST_SKIP() << reason;
  }
  KernelRequest Request() const { return {GetParam().family, "vllm", "cuda"}; }
};

TEST_P(VllmProvider, IsWithinItsBoundOnThePathThatItNames) {
  const QuantizedLinear layer = RandomLayer(GetParam().format, GetParam().shape, 11);
  const auto matmul = MakeInt4Matmul(Request(), layer);
  EXPECT_EQ(matmul->identity().provider, "vllm");
  EXPECT_EQ(matmul->identity().property, Property::kUnknown);
  EXPECT_THAT(matmul->identity().version, HasSubstr("XXH3-128"));
  for (const std::int64_t rows : kRows) {
    const at::Tensor x = RandomActivations(rows, layer.k, at::kHalf, static_cast<std::uint64_t>(rows));
    const std::string path = matmul->PathFor(rows);
    at::Tensor y;
    {
      const SeenOperators seen;
      y = matmul->Forward(x.to(at::kCUDA)).cpu();
      std::vector<std::string> names = seen.Names();
      const bool dequantizes = path.find("awq_dequantize") != std::string::npos;
      EXPECT_THAT(names, Contains(dequantizes ? "_C::awq_dequantize" : matmul->identity().op)) << rows << " rows";
      if (dequantizes) {
        EXPECT_THAT(names, Not(Contains(matmul->identity().op))) << rows << " rows";
        EXPECT_THAT(names, Contains("aten::mm")) << rows << " rows";
      }
    }
    const VllmReference reference = ReferenceFor(path, layer, x);
    EXPECT_EQ(FirstOutside(y, reference.elements), "") << rows << " rows, " << path;
    const double error = RelativeError(y, reference.elements);
    std::cout << GetParam().name << " " << rows << " rows: relative error " << error << " of " << reference.relative
              << ", " << path << '\n';
    EXPECT_LE(error, reference.relative) << rows << " rows, " << path;
  }
}

// The check above must be able to fail: the scales of one group, off by a quarter.
TEST_P(VllmProvider, AWrongScaleIsOutsideTheNorm) {
  const QuantizedLinear layer = RandomLayer(GetParam().format, GetParam().shape, 11);
  QuantizedLinear other = layer;
  other.scales = layer.scales.clone();
  other.scales.select(0, layer.scales.size(0) - 1).mul_(1.25);  // of the last group
  const at::Tensor x = RandomActivations(17, layer.k, at::kHalf, 17);
  const auto matmul = MakeInt4Matmul(Request(), other);
  const at::Tensor y = matmul->Forward(x.to(at::kCUDA)).cpu();
  const VllmReference reference = ReferenceFor(matmul->PathFor(17), layer, x);
  EXPECT_GT(RelativeError(y, reference.elements), reference.relative);
}

INSTANTIATE_TEST_SUITE_P(Families, VllmProvider, testing::ValuesIn(kCases),
                         [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

class VllmKernel : public testing::Test {
 protected:
  static std::string Missing(const std::string& family) {
    return TorchCuda().devices == 0 ? TorchCuda().reason : WhyNoVllm(family);
  }
  static gtest_determinism::Report Runs(const Int4Matmul& matmul, const at::Tensor& x, int runs = 100) {
    gtest_determinism::Options options;
    options.runs = runs;
    return gtest_determinism::RunRepeated([&] { return matmul.Forward(x); }, options);
  }
};

TEST_F(VllmKernel, AutoTakesItOnCuda) {
  if (const std::string missing = Missing("awq"); !missing.empty()) GTEST_SKIP() << missing;
  const QuantizedLinear layer = RandomLayer(Format::kAwq, {256, 128, 128}, 1);
  EXPECT_EQ(MakeInt4Matmul({"awq", "auto", "cuda"}, layer)->identity().provider, "vllm");
}

// vLLM 0.23.0 converts AWQ to GPTQ's order and repacks that; the operator made for
// AWQ, which is used here, must give the same words.
TEST_F(VllmKernel, AwqAndGptqRepackToTheSameWords) {
  if (const std::string missing = Missing("marlin"); !missing.empty()) GTEST_SKIP() << missing;
  constexpr std::int64_t kK = 256, kN = 128;
  Random random(3);
  std::vector<std::uint8_t> codes(kK * kN);
  for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random.Below(16));
  const std::vector<std::int32_t> awq = PackAwq(codes, kK, kN), gptq = PackGptq(codes, kK, kN);
  const auto on_device = [](const std::vector<std::int32_t>& words, at::IntArrayRef shape) {
    at::Tensor tensor = at::empty(shape, at::kInt);
    std::copy(words.begin(), words.end(), tensor.mutable_data_ptr<std::int32_t>());
    return tensor.to(at::kCUDA);
  };
  const internal::BoxedOperator repack_awq("_C::awq_marlin_repack",
                                           {"b_q_weight", "size_k", "size_n", "num_bits", "is_a_8bit"});
  const internal::BoxedOperator repack_gptq("_C::gptq_marlin_repack",
                                            {"b_q_weight", "perm", "size_k", "size_n", "num_bits", "is_a_8bit"});
  constexpr std::int64_t kBits = 4;
  const at::Tensor none = at::empty({0}, at::TensorOptions().dtype(at::kInt).device(at::kCUDA));
  const at::Tensor a = repack_awq(Stack{on_device(awq, {kK, kN / 8}), kK, kN, kBits, false})[0].toTensor();
  const at::Tensor g = repack_gptq(Stack{on_device(gptq, {kK / 8, kN}), none, kK, kN, kBits, false})[0].toTensor();
  EXPECT_TRUE(at::equal(a.cpu(), g.cpu()));
}

// 32 partial sums: noise, with the deterministic switch too, which does not reach it.
TEST_F(VllmKernel, GptqDiffersBetweenRunsWhateverTheSwitchSays) {
  if (const std::string missing = Missing("gptq"); !missing.empty()) GTEST_SKIP() << missing;
  const QuantizedLinear layer = RandomLayer(Format::kGptq, {4096, 1024, 128, false, true}, 5);
  const auto matmul = MakeInt4Matmul({"gptq", "vllm", "cuda"}, layer);
  const at::Tensor x = RandomActivations(8, layer.k, at::kHalf, 5).to(at::kCUDA);
  EXPECT_THAT(Runs(*matmul, x), gtest_determinism::IsNondeterministic());
  const DeterministicScope deterministic;
  EXPECT_THAT(Runs(*matmul, x), gtest_determinism::IsNondeterministic());
}

TEST_F(VllmKernel, MarlinAndAwqAndManyRowsOfGptqShowNoDifference) {
  for (const char* family : {"marlin", "awq", "gptq"}) {
    if (const std::string missing = Missing(family); !missing.empty()) GTEST_SKIP() << missing;
    const bool gptq = std::string(family) == "gptq";
    const QuantizedLinear layer = RandomLayer(gptq ? Format::kGptq : Format::kAwq, {4096, 1024, 128, false, true}, 5);
    const auto matmul = MakeInt4Matmul({family, "vllm", "cuda"}, layer);
    const at::Tensor x = RandomActivations(gptq ? 51 : 8, layer.k, at::kHalf, 5).to(at::kCUDA);
    EXPECT_THAT(Runs(*matmul, x), gtest_determinism::IsBitExact()) << family;
  }
}

TEST_F(VllmKernel, MarlinAddsAtomicallyWhereItIsTold) {
  if (const std::string missing = Missing("marlin"); !missing.empty()) GTEST_SKIP() << missing;
  const QuantizedLinear layer = RandomLayer(Format::kGptq, {4096, 256, 128, false, true}, 5);
  KernelRequest request{"marlin", "vllm", "cuda"};
  request.options = {{"use_atomic_add", "true"}};
  const auto atomic = MakeInt4Matmul(request, layer);
  EXPECT_EQ(atomic->PathFor(8), "_C::marlin_gemm with atomic adds");
  EXPECT_THAT(atomic->PathFor(1024), HasSubstr("without atomic adds"));
  const at::Tensor x = RandomActivations(8, layer.k, at::kHalf, 5);
  EXPECT_THAT(Runs(*atomic, x.to(at::kCUDA)), gtest_determinism::IsNondeterministic());
  const VllmReference reference = ReferenceFor(atomic->PathFor(8), layer, x);
  EXPECT_EQ(FirstOutside(atomic->Forward(x.to(at::kCUDA)).cpu(), reference.elements), "");
  request.options = {{"use_atomic_add", "perhaps"}};
  EXPECT_THROW(MakeInt4Matmul(request, layer), std::invalid_argument);
  request.options = {{"use_atomic_ad", "true"}};
  EXPECT_THROW(MakeInt4Matmul(request, layer), std::invalid_argument);
}

// vLLM's rule: the variable, fewer than 2048 columns, at least 2048 rows of W.
TEST_F(VllmKernel, TheVariableOfVllmCountsForNarrowAndDeepLayers) {
  if (const std::string missing = Missing("marlin"); !missing.empty()) GTEST_SKIP() << missing;
  const QuantizedLinear deep = RandomLayer(Format::kAwq, {2048, 128, 128}, 5);
  const QuantizedLinear shallow = RandomLayer(Format::kAwq, {1024, 128, 128}, 5);
  const KernelRequest request{"marlin", "vllm", "cuda"};
  ASSERT_EQ(std::getenv("VLLM_MARLIN_USE_ATOMIC_ADD"), nullptr);
  EXPECT_EQ(MakeInt4Matmul(request, deep)->PathFor(1), "_C::marlin_gemm");
  setenv("VLLM_MARLIN_USE_ATOMIC_ADD", "1", 1);
  EXPECT_EQ(MakeInt4Matmul(request, deep)->PathFor(1), "_C::marlin_gemm with atomic adds");
  EXPECT_EQ(MakeInt4Matmul(request, shallow)->PathFor(1), "_C::marlin_gemm");
  unsetenv("VLLM_MARLIN_USE_ATOMIC_ADD");
}

// As the engine decodes: what a graph computes is what the calls compute.
TEST_F(VllmKernel, IsCapturedInAGraph) {
  for (const char* family : {"marlin", "awq"}) {
    if (const std::string missing = Missing(family); !missing.empty()) GTEST_SKIP() << missing;
    const auto matmul = MakeInt4Matmul({family, "vllm", "cuda"}, RandomLayer(Format::kAwq, {1024, 512, 128}, 5));
    const at::Tensor x = RandomActivations(1, 1024, at::kHalf, 5).to(at::kCUDA);
    const at::Tensor eager = matmul->Forward(x).cpu();
    const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
    const c10::cuda::CUDAStreamGuard guard(stream);
    matmul->Forward(x);  // fills the allocator's pool of this stream
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaStreamSynchronize(stream.stream()), cudaSuccess);
    ASSERT_EQ(cudaStreamBeginCapture(stream.stream(), cudaStreamCaptureModeRelaxed), cudaSuccess);
    const at::Tensor y = matmul->Forward(x);
    ASSERT_EQ(cudaStreamEndCapture(stream.stream(), &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    y.zero_();
    for (int replay = 0; replay < 3; ++replay) {
      ASSERT_EQ(cudaGraphLaunch(executable, stream.stream()), cudaSuccess);
      EXPECT_TRUE(at::equal(y.cpu(), eager)) << family;
    }
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
  }
}

TEST_F(VllmKernel, RefusesWhatItCannotDo) {
  for (const char* family : {"marlin", "awq", "gptq"}) {
    if (const std::string missing = Missing(family); !missing.empty()) GTEST_SKIP() << missing;
  }
  const auto refusal = [](const char* family, Format format, const LayerShape& shape) -> std::string {
    try {
      MakeInt4Matmul({family, "vllm", "cuda"}, RandomLayer(format, shape, 1));
      return "";
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
  };
  EXPECT_THAT(refusal("marlin", Format::kAwq, {256, 72, 128}), HasSubstr("N to be a multiple of 64"));
  EXPECT_THAT(refusal("marlin", Format::kAwq, {64, 64, 64}), HasSubstr("K to be a multiple of 128"));
  EXPECT_THAT(refusal("marlin", Format::kAwq, {512, 64, 256}), HasSubstr("group size of 32, 64, 128 or K, not 256"));
  EXPECT_THAT(refusal("marlin", Format::kGptq, {256, 64, 128, true, false}), HasSubstr("desc_act with zero points"));
  EXPECT_THAT(refusal("awq", Format::kGptq, {256, 64, 128}), HasSubstr("does not read gptq"));
  EXPECT_THAT(refusal("awq", Format::kAwq, {256, 64, 128}), HasSubstr("N to be a multiple of the group size 128"));
  EXPECT_EQ(refusal("awq", Format::kAwq, {256, 128, 128}), "");
  EXPECT_THAT(refusal("gptq", Format::kAwq, {256, 64, 128}), HasSubstr("does not read awq"));
  EXPECT_THAT(refusal("gptq", Format::kGptq, {256, 64, 8}), HasSubstr("multiple of 32, not 8"));
  EXPECT_EQ(refusal("gptq", Format::kGptq, {256, 72, 128}), "");
}

TEST_F(VllmKernel, RefusesActivationsOfAnotherKind) {
  if (const std::string missing = Missing("awq"); !missing.empty()) GTEST_SKIP() << missing;
  const auto matmul = MakeInt4Matmul({"awq", "vllm", "cuda"}, RandomLayer(Format::kAwq, {256, 128, 128}, 1));
  const at::Tensor x = RandomActivations(1, 256, at::kHalf, 1);
  EXPECT_THROW(matmul->Forward(x), std::invalid_argument);  // on the CPU
  EXPECT_THROW(matmul->Forward(x.to(at::kCUDA).to(at::kBFloat16)), std::invalid_argument);
  EXPECT_NO_THROW(matmul->Forward(x.to(at::kCUDA)));
}

}  // namespace
}  // namespace kernels
