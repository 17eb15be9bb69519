// What each CUDA kernel promises: bits that depend on nothing but the inputs; for
// gptq's arrival order, that it shows, and that its twin does not.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <ostream>
#include <string>
#include <vector>

#include "gtest_determinism/cuda_perturbations.h"
#include "gtest_determinism/matchers.h"
#include "gtest_determinism/runner.h"
#include "gtest_determinism/torch.h"
#include "kernels/int4_matmul.h"
#include "kernels/torch_cuda.h"
#include "suites/device/captured_graph.h"
#include "suites/device/device_patterns.h"
#include "tests/kernels/deterministic_scope.h"
#include "tests/kernels/observed_operators.h"
#include "tests/kernels/random_layer.h"

namespace kernels {
namespace {

using gtest_determinism::CacheState;
using gtest_determinism::Inputs;
using gtest_determinism::IsBitExact;
using gtest_determinism::IsNondeterministic;
using gtest_determinism::LaunchDelay;
using gtest_determinism::Options;
using gtest_determinism::Report;
using gtest_determinism::RunRepeated;
using gtest_determinism::SmContention;
using gtest_determinism::TorchWorkspacePoison;

using suites::CapturedGraph;
using suites::CountPatterns;
using suites::Patterns;
using testing::AnyOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Not;

struct Kernel {
  const char* family;
  Format format;
};
void PrintTo(const Kernel& kernel, std::ostream* out) { *out << kernel.family << " from " << NameOf(kernel.format); }
std::string KernelName(const testing::TestParamInfo<Kernel>& info) { return info.param.family; }

at::ScalarType InputType(const std::string& family) { return family == "tinygemm" ? at::kBFloat16 : at::kHalf; }

bool SameBits(const at::Tensor& a, const at::Tensor& b) {
  return a.contiguous().view(at::kShort).equal(b.contiguous().view(at::kShort));
}

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    if (TorchCuda().devices == 0) GTEST_SKIP() << TorchCuda().reason;
  }
};

class CudaKernel : public testing::TestWithParam<Kernel> {
 protected:
  void SetUp() override {
    if (TorchCuda().devices == 0) GTEST_SKIP() << TorchCuda().reason;
  }
  std::unique_ptr<Int4Matmul> Make(std::int64_t k, std::int64_t n, std::uint64_t seed) const {
    return MakeInt4Matmul({GetParam().family, OwnProvider(GetParam().family), "cuda"},
                          RandomLayer(GetParam().format, {.k = k, .n = n}, seed));
  }
  at::Tensor Input(std::int64_t m, std::int64_t k, std::uint64_t seed) const {
    return RandomActivations(m, k, InputType(GetParam().family), seed).to(at::kCUDA);
  }
};

class OrderedCudaKernel : public CudaKernel {};

// All paths; K in several splits and slices, columns that end within a tile.
TEST_P(OrderedCudaKernel, ThousandRunsGiveOnePatternForEachInput) {
  const auto kernel = Make(2048, 1096, 1);
  for (const std::int64_t m : {1, 4, 16, 17, 64, 256, 512, 2048}) {
    for (const std::uint64_t seed : {2, 3}) {
      const at::Tensor x = Input(m, 2048, seed);
      const Patterns patterns = CountPatterns([&] { return kernel->ForwardOrdered(x); }, 1000);
      EXPECT_EQ(patterns.distinct, 1) << "m = " << m << ", " << kernel->PathFor(m);
      EXPECT_EQ(patterns.deviating, 0) << "m = " << m << ", " << kernel->PathFor(m);
    }
  }
}

// The same under everything that may go on around a kernel. Contention comes last:
// what waits for the device ends it.
TEST_P(OrderedCudaKernel, PerturbedRunsGiveOnePatternForEachInput) {
  const auto kernel = Make(2048, 1096, 1);
  for (const std::int64_t m : {1, 4, 16, 17, 64, 256, 512, 2048}) {
    Options options;
    options.runs = 100;
    options.perturbations = {TorchWorkspacePoison(), CacheState(),
                             LaunchDelay({c10::cuda::getCurrentCUDAStream().stream()}), SmContention()};
    const Report report = RunRepeated(
        Inputs(2, [&](int i) { return Input(m, 2048, static_cast<std::uint64_t>(2 + i)); }),
        [&](const at::Tensor& x) { return kernel->ForwardOrdered(x); }, options);
    EXPECT_THAT(report, IsBitExact()) << "m = " << m << ", " << kernel->PathFor(m);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, OrderedCudaKernel,
                         testing::Values(Kernel{"marlin", Format::kAwq}, Kernel{"awq", Format::kAwq},
                                         Kernel{"gptq", Format::kGptq}, Kernel{"tinygemm", Format::kTorchaoPlain}),
                         KernelName);

class EveryCudaKernel : public CudaKernel {};

TEST_P(EveryCudaKernel, AGraphGivesTheBitsOfEagerCalls) {
  const auto kernel = Make(1024, 264, 3);
  for (const std::int64_t m : {1, 12, 40, 300}) {
    const at::Tensor x = Input(m, 1024, 4);
    const at::Tensor eager = kernel->ForwardOrdered(x);
    at::Tensor y = at::empty_like(eager);
    {
      const CapturedGraph graph([&] { y.copy_(kernel->ForwardOrdered(x)); });
      for (int i = 0; i < 3; ++i) {
        y.fill_(7.0);
        C10_CUDA_CHECK(cudaDeviceSynchronize());
        graph.Replay();
        graph.Synchronize();
        EXPECT_TRUE(SameBits(y, eager)) << "m = " << m;
      }
      // The graph reads x where it lies.
      x.neg_();
      C10_CUDA_CHECK(cudaDeviceSynchronize());
      graph.Replay();
      graph.Synchronize();
      EXPECT_FALSE(SameBits(y, eager)) << "m = " << m;
    }
  }
}

TEST_P(EveryCudaKernel, WorksOnTheCurrentStream) {
  const auto kernel = Make(1024, 264, 3);
  const at::Tensor x = Input(12, 1024, 4), expected = kernel->ForwardOrdered(x);
  C10_CUDA_CHECK(cudaDeviceSynchronize());
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  const c10::cuda::CUDAStreamGuard guard(stream);
  const at::Tensor y = kernel->ForwardOrdered(x);
  stream.synchronize();
  EXPECT_TRUE(SameBits(y, expected));
}

TEST_P(EveryCudaKernel, RunsAsTheOperatorThatItsIdentityNames) {
  const auto kernel = Make(1024, 64, 1);
  const KernelIdentity& identity = kernel->identity();
  EXPECT_EQ(identity.device, "cuda");
  EXPECT_FALSE(identity.device_functions.empty());
  for (const std::int64_t m : {1, 30, 300}) {
    const at::Tensor x = Input(m, 1024, 1);
    EXPECT_THAT(OperatorsOf([&] { kernel->Forward(x); }), Contains(identity.op));
    if (identity.ordered_op.empty()) continue;
    EXPECT_THAT(OperatorsOf([&] { kernel->Forward(x); }), Not(Contains(identity.ordered_op)));
    const DeterministicScope scope;
    EXPECT_THAT(OperatorsOf([&] { kernel->Forward(x); }), Contains(identity.ordered_op));
  }
}

TEST_P(EveryCudaKernel, RefusesOtherInputsInOneLine) {
  const auto kernel = Make(1024, 64, 1);
  const at::Tensor x = Input(4, 1024, 1);
  const auto message = [&](const at::Tensor& wrong) -> std::string {
    try {
      kernel->Forward(wrong);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  EXPECT_THAT(message(x.cpu()), HasSubstr("[M, 1024] on cuda:0, but is"));
  EXPECT_THAT(message(x.to(at::kFloat)), HasSubstr("but is Float [4, 1024] on cuda:0"));
  EXPECT_THAT(message(x.narrow(1, 0, 512).contiguous()), HasSubstr("but is "));
  EXPECT_THAT(message(Input(4, 2048, 1).narrow(1, 0, 1024)), HasSubstr("not contiguous"));
  EXPECT_THAT(message(at::Tensor()), HasSubstr("undefined"));
}

INSTANTIATE_TEST_SUITE_P(Kernels, EveryCudaKernel,
                         testing::Values(Kernel{"marlin", Format::kAwq}, Kernel{"awq", Format::kAwq},
                                         Kernel{"gptq", Format::kGptq}, Kernel{"tinygemm", Format::kTorchaoTilePacked}),
                         KernelName);

class BuiltinCudaKernel : public CudaKernel {};

// A launch may begin before the one ahead of it has ended: it must not read what
// that one writes too early, nor write what it still reads.
TEST_P(BuiltinCudaKernel, LaunchesInARowSeeWhatTheOneBeforeWrote) {
  const auto first = Make(2048, 1024, 1), second = Make(1024, 2048, 2);
  for (const std::int64_t m : {1, 8, 16, 17, 64, 512}) {
    const auto run = [&](const at::Tensor& x, bool synchronize) {
      at::Tensor y = x;
      for (int i = 0; i < 3; ++i) {
        y = first->ForwardOrdered(y);
        if (synchronize) C10_CUDA_CHECK(cudaDeviceSynchronize());
        y = second->ForwardOrdered(y);
        if (synchronize) C10_CUDA_CHECK(cudaDeviceSynchronize());
      }
      return y;
    };
    // The result stays in the range of halves, and differs from one input to the next.
    std::vector<at::Tensor> inputs, expected;
    for (const std::uint64_t seed : {3, 4}) {
      inputs.push_back(Input(m, 2048, seed).mul(0x1p-10));
      expected.push_back(run(inputs.back(), true));
      ASSERT_TRUE(expected.back().isfinite().all().item<bool>()) << "m = " << m;
    }
    ASSERT_FALSE(SameBits(expected[0], expected[1]));
    int deviating = 0;
    for (int i = 0; i < 200; ++i) deviating += SameBits(run(inputs[i % 2], false), expected[i % 2]) ? 0 : 1;
    EXPECT_EQ(deviating, 0) << "m = " << m;
  }
}

// Batch invariance up to 16 rows: a row's result does not depend on the rows beside it.
TEST_P(BuiltinCudaKernel, ARowGivesTheSameBitsInAnyBatchOfTheStream) {
  const auto kernel = Make(4096, 136, 5);
  if (kernel->PathFor(16) != "stream") GTEST_SKIP() << "16 rows have no room in this GPU's shared memory";
  const at::Tensor x = Input(16, 4096, 6);
  const at::Tensor all = kernel->ForwardOrdered(x.narrow(0, 0, 16));
  for (const std::int64_t m : {16, 1, 2, 8, 9}) {
    EXPECT_TRUE(SameBits(kernel->ForwardOrdered(x.narrow(0, 16 - m, m)), all.narrow(0, 16 - m, m))) << "m = " << m;
  }
  // Control: another row has other bits.
  EXPECT_FALSE(SameBits(all.narrow(0, 0, 1), all.narrow(0, 1, 1)));
}

TEST_P(BuiltinCudaKernel, SaysWhichPathTheRowsTake) {
  const auto kernel = Make(4096, 128, 5);
  EXPECT_THAT(kernel->PathFor(2000), AnyOf("dequantize, then at::mm", HasSubstr("wgmma")));
  EXPECT_NE(kernel->PathFor(1), kernel->PathFor(2000));
  EXPECT_EQ(kernel->PathFor(0), "");
}

INSTANTIATE_TEST_SUITE_P(Kernels, BuiltinCudaKernel,
                         testing::Values(Kernel{"marlin", Format::kAwq}, Kernel{"awq", Format::kAwq},
                                         Kernel{"gptq", Format::kGptq}),
                         KernelName);

// KernelRequest::batch_invariant: a row's bits do not depend on the rows beside it,
// for any number of them.
struct InvariantLayer {
  const char* family;
  std::int64_t k, n, group_size;
};
void PrintTo(const InvariantLayer& layer, std::ostream* out) {
  *out << layer.family << " " << layer.k << " x " << layer.n << ", groups of " << layer.group_size;
}

class BatchInvariantCudaKernel : public testing::TestWithParam<InvariantLayer> {
 protected:
  void SetUp() override {
    if (TorchCuda().devices == 0) GTEST_SKIP() << TorchCuda().reason;
    const InvariantLayer& layer = GetParam();
    layer_ = RandomLayer(Format::kAwq, {.k = layer.k, .n = layer.n, .group_size = layer.group_size}, 5);
    x_ = RandomActivations(4096, layer.k, at::kHalf, 6).to(at::kCUDA);
  }
  std::unique_ptr<Int4Matmul> Make(bool batch_invariant) const {
    KernelRequest request{GetParam().family, "builtin", "cuda"};
    request.batch_invariant = batch_invariant;
    return MakeInt4Matmul(request, layer_);
  }
  // The row counts for which the first row has not the bits that it has alone.
  std::vector<std::int64_t> Deviating(const Int4Matmul& kernel, const std::vector<std::int64_t>& rows) const {
    const at::Tensor alone = kernel.Forward(x_.narrow(0, 0, 1));
    std::vector<std::int64_t> deviating;
    for (const std::int64_t m : rows) {
      if (!SameBits(kernel.Forward(x_.narrow(0, 0, m)).narrow(0, 0, 1), alone)) deviating.push_back(m);
    }
    return deviating;
  }
  QuantizedLinear layer_;
  at::Tensor x_;
};

TEST_P(BatchInvariantCudaKernel, ARowHasTheSameBitsInEveryBatch) {
  const auto kernel = Make(true);
  EXPECT_THAT(kernel->identity().op, testing::EndsWith("_batch_invariant"));
  EXPECT_TRUE(kernel->identity().batch_invariant);
  const at::Tensor all = kernel->Forward(x_);
  const std::int64_t many = x_.size(0);
  for (std::int64_t m = 1; m <= many; m = m < 40 ? m + 1 : m * 9 / 8) {
    for (const std::int64_t first : {std::int64_t{0}, (many - m) / 2, many - m}) {
      ASSERT_TRUE(SameBits(kernel->Forward(x_.narrow(0, first, m)), all.narrow(0, first, m)))
          << "rows " << first << " to " << first + m << ", " << kernel->PathFor(m);
    }
  }
  EXPECT_FALSE(SameBits(all.narrow(0, 0, 1), all.narrow(0, 1, 1))) << "rows differ from each other";
}

// The control: without the option it is not so, and the test above would see it.
TEST_P(BatchInvariantCudaKernel, WithoutTheOptionARowsBitsFollowTheBatch) {
  EXPECT_THAT(Deviating(*Make(false), {2, 8, 16, 17, 32, 64, 512}), Contains(64));
  EXPECT_THAT(Deviating(*Make(true), {2, 8, 16, 17, 32, 64, 512}), testing::IsEmpty());
}

TEST_P(BatchInvariantCudaKernel, HasOnePatternInThousandRuns) {
  const auto kernel = Make(true);
  for (const std::int64_t m : {1, 40, 1000}) {
    const Patterns patterns = CountPatterns([&] { return kernel->Forward(x_.narrow(0, 0, m)); }, 1000);
    EXPECT_EQ(patterns.distinct, 1) << "m = " << m << ", " << kernel->PathFor(m);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kernels, BatchInvariantCudaKernel,
    testing::Values(InvariantLayer{"marlin", 4096, 264, 128}, InvariantLayer{"awq", 2080, 1096, 32},
                    InvariantLayer{"marlin", 1024, 26624, 64}, InvariantLayer{"awq", 2400, 136, 24}),
    [](const auto& info) {
      return std::string(info.param.family) + "_" + std::to_string(info.param.k) + "_" + std::to_string(info.param.n);
    });

TEST(BatchInvariance, IsRefusedWhereThereIsNone) {
  const QuantizedLinear awq = RandomLayer(Format::kAwq, {.k = 256, .n = 64}, 1);
  const QuantizedLinear gptq = RandomLayer(Format::kGptq, {.k = 256, .n = 64}, 1);
  const auto message = [](const char* family, const char* provider, const char* device, const QuantizedLinear& layer) {
    KernelRequest request{family, provider, device};
    request.batch_invariant = true;
    try {
      MakeInt4Matmul(request, layer);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("nothing was thrown");
  };
  EXPECT_THAT(message("gptq", "builtin", "cuda", gptq), HasSubstr("arrival order"));
  EXPECT_THAT(message("gptq", "builtin", "cpu", gptq), HasSubstr("arrival order"));
  EXPECT_THAT(message("marlin", "vllm", "cuda", awq), HasSubstr("no batch-invariant form"));
  EXPECT_THAT(message("tinygemm", "aten", "cuda", awq), HasSubstr("no batch-invariant form"));
}

class CudaArrivalOrder : public CudaTest {
 protected:
  // Eight partial sums.
  static constexpr std::int64_t kK = 1024, kN = 4096;
  void SetUp() override {
    CudaTest::SetUp();
    if (IsSkipped()) return;
    layer_ = RandomLayer(Format::kGptq, {.k = kK, .n = kN, .symmetric = true}, 1);
    kernel_ = MakeInt4Matmul({"gptq", "builtin", "cuda"}, layer_);
  }
  at::Tensor Input(std::int64_t m) const { return RandomActivations(m, kK, at::kHalf, 2).to(at::kCUDA); }

  QuantizedLinear layer_;
  std::unique_ptr<Int4Matmul> kernel_;
};

TEST_F(CudaArrivalOrder, ShowsWithinTenRunsFromEightPartialSumsOn) {
  for (const std::int64_t m : {1, 8, 50}) {
    const at::Tensor x = Input(m);
    Options options;
    options.runs = 10;
    options.perturbations.emplace();  // none
    EXPECT_THAT(RunRepeated([&] { return kernel_->Forward(x); }, options), IsNondeterministic()) << "m = " << m;
    EXPECT_EQ(CountPatterns([&] { return kernel_->ForwardOrdered(x); }, 200).distinct, 1) << "m = " << m;
  }
}

TEST_F(CudaArrivalOrder, TheDeterministicSwitchEndsIt) {
  for (const std::int64_t m : {16, 40}) {
    const at::Tensor x = Input(m);
    const std::string arrival = kernel_->PathFor(m);
    const DeterministicScope scope;
    EXPECT_EQ(CountPatterns([&] { return kernel_->Forward(x); }, 200).distinct, 1);
    EXPECT_TRUE(SameBits(kernel_->Forward(x), kernel_->ForwardOrdered(x)));
    EXPECT_EQ(kernel_->PathFor(m) == arrival, m == 16) << "beyond 16 rows the twin is marlin's kernel";
  }
}

// Each multiprocessor gets its thread blocks when it is free, a graph or not.
TEST_F(CudaArrivalOrder, ShowsInAGraphToo) {
  const at::Tensor x = Input(8);
  at::Tensor y = kernel_->Forward(x);
  const CapturedGraph graph([&] { y.copy_(kernel_->Forward(x)); });
  const auto replay = [&] {
    graph.Replay();
    graph.Synchronize();
    return y.clone();
  };
  EXPECT_GT(CountPatterns(replay, 20).distinct, 1);
}

// More rows take marlin's way, whatever the switch says.
TEST_F(CudaArrivalOrder, EndsWithTheSlices) {
  const at::Tensor x = Input(51);
  EXPECT_EQ(CountPatterns([&] { return kernel_->Forward(x); }, 100).distinct, 1);
  EXPECT_TRUE(SameBits(kernel_->Forward(x), kernel_->ForwardOrdered(x)));
}

// 0 + a + b and 0 + b + a are the same number: floating-point addition commutes,
// it only does not associate, and 0 + a is a. So two slices have one sum, whichever
// comes first, and the first order that can show is that of three.
TEST_F(CudaTest, TwoSlicesGiveOnePatternInAnyOrder) {
  const auto kernel = MakeInt4Matmul({"gptq", "builtin", "cuda"}, RandomLayer(Format::kGptq, {.k = 256, .n = 4096}, 1));
  for (const std::int64_t m : {1, 16, 50}) {
    const at::Tensor x = RandomActivations(m, 256, at::kHalf, 2).to(at::kCUDA);
    EXPECT_EQ(CountPatterns([&] { return kernel->Forward(x); }, 500).distinct, 1);
    // Beyond 16 rows the twin rounds nothing in between.
    EXPECT_EQ(SameBits(kernel->Forward(x), kernel->ForwardOrdered(x)), m <= 16);
  }
}

// Whatever came first, the result is the fp16 sum of the same fp16 partial sums:
// with three slices each element is one of three sums, and no add is ever lost.
TEST_F(CudaTest, ThreeSlicesGiveTheSumInSomeOrder) {
  constexpr std::int64_t kM = 8, kN = 1024;
  const QuantizedLinear layer = RandomLayer(Format::kGptq, {.k = 384, .n = kN}, 1);
  const auto kernel = MakeInt4Matmul({"gptq", "builtin", "cuda"}, layer);
  const at::Tensor x = RandomActivations(kM, 384, at::kHalf, 2).to(at::kCUDA);
  std::vector<at::Tensor> p;
  for (int slice = 0; slice < 3; ++slice) {
    QuantizedLinear part = layer;
    part.k = 128;
    part.qweight = layer.qweight.narrow(0, 16 * slice, 16);
    part.qzeros = layer.qzeros.narrow(0, slice, 1);
    part.scales = layer.scales.narrow(0, slice, 1);
    part.g_idx = at::Tensor();
    p.push_back(
        MakeInt4Matmul({"gptq", "builtin", "cuda"}, part)->ForwardOrdered(x.narrow(1, 128 * slice, 128).contiguous()));
  }
  // Sums of two halves in float32 are exact enough to round to half once.
  const auto sum = [](const at::Tensor& a, const at::Tensor& b) {
    return a.to(at::kFloat).add(b.to(at::kFloat)).to(at::kHalf);
  };
  const std::array<at::Tensor, 3> sums = {sum(sum(p[0], p[1]), p[2]), sum(sum(p[0], p[2]), p[1]),
                                          sum(sum(p[1], p[2]), p[0])};
  EXPECT_TRUE(SameBits(kernel->ForwardOrdered(x), sums[0]));
  std::int64_t not_ascending = 0;
  for (int run = 0; run < 300; ++run) {
    const at::Tensor y = kernel->Forward(x);
    const at::Tensor ascending = y.eq(sums[0]);
    ASSERT_TRUE(ascending.logical_or(y.eq(sums[1])).logical_or(y.eq(sums[2])).all().item<bool>()) << "run " << run;
    not_ascending += (ascending.logical_not()).sum().item<std::int64_t>();
  }
  EXPECT_GT(not_ascending, 0);
}

TEST_F(CudaTest, MarlinFromEitherFormatGivesTheSameBits) {
  // The same codes, zero points and scales in both formats.
  const QuantizedLinear gptq = RandomLayer(Format::kGptq, {.k = 512, .n = 200}, 5);
  QuantizedLinear awq = RandomLayer(Format::kAwq, {.k = 512, .n = 200}, 5);
  awq.scales = gptq.scales;
  const at::Tensor x = RandomActivations(9, 512, at::kHalf, 6).to(at::kCUDA);
  EXPECT_TRUE(SameBits(MakeInt4Matmul({"marlin", "builtin", "cuda"}, gptq)->Forward(x),
                       MakeInt4Matmul({"marlin", "builtin", "cuda"}, awq)->Forward(x)));
}

TEST_F(CudaTest, UnknownDevicesAreRefused) {
  const QuantizedLinear layer = RandomLayer(Format::kAwq, {.k = 256, .n = 64}, 1);
  EXPECT_THROW(MakeInt4Matmul({"marlin", "auto", "cuda:77"}, layer), std::invalid_argument);
  EXPECT_THROW(MakeInt4Matmul({"marlin", "auto", "cudax"}, layer), std::invalid_argument);
  EXPECT_THROW(MakeInt4Matmul({"gptq", "auto", "cuda"}, layer), std::invalid_argument);
}

// A user may call the operator by name: it checks what it gets.
TEST_F(CudaTest, OperatorsRefuseOtherShapes) {
  const auto op = c10::Dispatcher::singleton().findSchema({"determinism_int4::marlin_gemm", ""});
  ASSERT_TRUE(op.has_value());
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const std::optional<at::Tensor>&, std::int64_t);
  const QuantizedLinear layer = RandomLayer(Format::kAwq, {.k = 256, .n = 64}, 1);
  const auto error_of = [&](const std::optional<at::Tensor>& row_order, std::int64_t n) -> std::string {
    try {
      op->typed<Signature>().call(RandomActivations(2, 256, at::kHalf, 1).to(at::kCUDA), layer.qweight.to(at::kCUDA),
                                  layer.qzeros.to(at::kCUDA), layer.scales.to(at::kCUDA), row_order, n);
    } catch (const c10::Error& error) {
      return error.what_without_backtrace();
    }
    return "";
  };
  EXPECT_THAT(error_of(std::nullopt, 64), HasSubstr("marlin_gemm: words must be contiguous Int [4, 4, 32, 4]"));
  EXPECT_THAT(error_of(at::zeros({248}, at::kLong).to(at::kCUDA), 64),
              HasSubstr("marlin_gemm: row_order must be [256], but is [248]"));
  EXPECT_THAT(error_of(std::nullopt, std::int64_t{1} << 33), HasSubstr("a positive multiple of 8 up to 1073741824"));
}

}  // namespace
}  // namespace kernels
