#include "suites/device/reference_columns.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/kernels/random_layer.h"

namespace suites {
namespace {

using kernels::Format;

struct Case {
  kernels::QuantizedLinear layer;
  at::Tensor x, y;  // y: the product in float32
};
Case Make(Format format, std::int64_t n) {
  Case made;
  made.layer = kernels::RandomLayer(format, {.k = 256, .n = n}, 3);
  made.x = kernels::RandomActivations(5, 256, at::kFloat, 4);
  made.y = at::mm(made.x, kernels::Dequantize(made.layer));
  return made;
}

class ReferenceColumnsOf : public testing::TestWithParam<Format> {};

// Float32 sums of 256 products, relative to exact ones: 256 roundings of 2^-24 at most.
constexpr double kFloatBound = 256 * 0x1p-24;

TEST_P(ReferenceColumnsOf, TheProductAgrees) {
  for (const std::int64_t n : {128, 256, 640}) {
    const Case made = Make(GetParam(), n);
    const ReferenceColumns reference = ReferenceOf(made.layer);
    EXPECT_EQ(reference.starts.size(), n == 128 ? 1u : n == 256 ? 2u : 3u);
    EXPECT_LT(RelativeError(made.y, made.x, reference), kFloatBound);
  }
}

TEST_P(ReferenceColumnsOf, OfAnyBlockThatIsWrongTheErrorIsSeen) {
  const Case made = Make(GetParam(), 640);
  const ReferenceColumns reference = ReferenceOf(made.layer);
  for (const std::int64_t start : reference.starts) {
    const at::Tensor wrong = made.y.clone();
    wrong.narrow(1, start, 8).mul_(1.5);
    EXPECT_GT(RelativeError(wrong, made.x, reference), 0.01);
  }
}

TEST_P(ReferenceColumnsOf, OtherWeightsOrInputsDoNotAgree) {
  const Case made = Make(GetParam(), 256);
  const ReferenceColumns other = ReferenceOf(kernels::RandomLayer(GetParam(), {.k = 256, .n = 256}, 8));
  EXPECT_GT(RelativeError(made.y, made.x, other), 0.5);
  EXPECT_GT(RelativeError(made.y, made.x.flip(0), ReferenceOf(made.layer)), 0.5);
}

TEST_P(ReferenceColumnsOf, NanAndInfinityGoThrough) {
  const Case made = Make(GetParam(), 256);
  const ReferenceColumns reference = ReferenceOf(made.layer);
  at::Tensor broken = made.y.clone();
  broken[2][7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(RelativeError(broken, made.x, reference)));
  broken[2][7] = std::numeric_limits<float>::infinity();
  EXPECT_TRUE(std::isinf(RelativeError(broken, made.x, reference)));
}

INSTANTIATE_TEST_SUITE_P(Formats, ReferenceColumnsOf,
                         testing::Values(Format::kAwq, Format::kGptq, Format::kTorchaoTilePacked),
                         [](const auto& info) {
                           return info.param == Format::kAwq ? "Awq" : info.param == Format::kGptq ? "Gptq" : "Torchao";
                         });

TEST(ReferenceColumnsOfHalves, TheProductAgrees) {
  const at::Tensor weights = kernels::RandomActivations(384, 256, at::kHalf, 5).t();  // [K, N], a view
  const at::Tensor x = kernels::RandomActivations(3, 256, at::kHalf, 6);
  const at::Tensor y = at::mm(x.to(at::kFloat), weights.to(at::kFloat));
  const ReferenceColumns reference = ReferenceOf(weights);
  EXPECT_LT(RelativeError(y, x, reference), kFloatBound);
  EXPECT_GT(RelativeError(y.flip(0), x, reference), 0.5);
}

}  // namespace
}  // namespace suites
