// The kernels as PyTorch operators: what a profiler sees, and what the
// deterministic switch selects.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "kernels/int4_matmul.h"
#include "tests/kernels/deterministic_scope.h"
#include "tests/kernels/observed_operators.h"
#include "tests/kernels/random_layer.h"

namespace kernels {
namespace {

using ::testing::Contains;
using ::testing::Not;

Format FormatOf(const std::string& family) {
  if (family == "tinygemm") return Format::kTorchaoTilePacked;
  return family == "gptq" ? Format::kGptq : Format::kAwq;
}

TEST(Operators, EveryKernelRunsAsTheOperatorThatItsIdentityNames) {
  ASSERT_GE(RegisteredKernels().size(), 4u);
  for (const KernelIdentity& identity : RegisteredKernels()) {
    if (identity.device != "cpu") continue;  // cuda_determinism_test.cc
    const auto kernel = MakeInt4Matmul({identity.family, identity.provider, identity.device},
                                       RandomLayer(FormatOf(identity.family), {.k = 256, .n = 64}, 1));
    EXPECT_EQ(kernel->k(), 256);
    EXPECT_EQ(kernel->n(), 64);
    const at::Tensor x = RandomActivations(2, 256, identity.family == "tinygemm" ? at::kBFloat16 : at::kHalf, 1);
    EXPECT_THAT(OperatorsOf([&] { kernel->Forward(x); }), Contains(identity.op));
    EXPECT_THAT(OperatorsOf([] {}), Not(Contains(identity.op)));
    if (identity.ordered_op.empty()) continue;
    EXPECT_THAT(OperatorsOf([&] { kernel->Forward(x); }), Not(Contains(identity.ordered_op)));
    EXPECT_THAT(OperatorsOf([&] { kernel->ForwardOrdered(x); }), Contains(identity.ordered_op));
    const DeterministicScope scope;
    const auto switched = OperatorsOf([&] { kernel->Forward(x); });
    EXPECT_THAT(switched, Contains(identity.ordered_op));
    EXPECT_THAT(switched, Not(Contains(identity.op)));
  }
}

TEST(Operators, OnlyGptqDependsOnArrival) {
  for (const KernelIdentity& identity : RegisteredKernels()) {
    if (identity.provider == "vllm") continue;  // promises nothing
    EXPECT_EQ(identity.property == Property::kArrivalOrder, identity.family == "gptq") << identity.family;
    EXPECT_EQ(identity.property == Property::kBitExact, identity.family == "marlin" || identity.family == "awq");
  }
}

// A user may call the operator by name, past Int4Matmul; it must be linked in
// and check what it gets.
std::string ErrorOf(const std::optional<at::Tensor>& row_order) {
  const auto op = c10::Dispatcher::singleton().findSchema({"determinism_int4::marlin_gemm", ""});
  if (!op) return "no operator";
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const std::optional<at::Tensor>&, std::int64_t);
  const QuantizedLinear layer = RandomLayer(Format::kAwq, {.k = 256, .n = 64}, 1);
  try {
    op->typed<Signature>().call(RandomActivations(2, 256, at::kHalf, 1), layer.qweight, layer.qzeros, layer.scales,
                                row_order, 64);
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  }
  return "";
}

TEST(Operators, RefuseWordsOfAnotherShape) {
  EXPECT_THAT(ErrorOf(std::nullopt), testing::HasSubstr("marlin_gemm: words must be contiguous int32 [1, 32, 64]"));
  EXPECT_THAT(ErrorOf(at::zeros({256}, at::kLong)), testing::HasSubstr("marlin_gemm: words must be"));
}

// A shorter one would leave x with fewer columns than the weights have rows.
TEST(Operators, RefuseARowOrderOfAnotherLength) {
  EXPECT_THAT(ErrorOf(at::zeros({248}, at::kLong)),
              testing::HasSubstr("marlin_gemm: row_order must be [256], but is [248]"));
  EXPECT_THAT(ErrorOf(at::zeros({256, 1}, at::kLong)), testing::HasSubstr("row_order must be [256]"));
}

}  // namespace
}  // namespace kernels
