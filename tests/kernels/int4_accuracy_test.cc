// Every kernel against float64, within the bounds derived in reference.cc, on
// shapes that each have a reason.
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/int4_matmul.h"
#include "tests/kernels/accuracy_cases.h"
#include "tests/kernels/random_layer.h"
#include "tests/kernels/reference.h"

namespace kernels {
namespace {

// N a multiple of 16, so that ATen's kernel can do them too.
const Shape kShapes[] = {
    {"OneGroup", 1, 128, 64},
    {"DecodeOfTheEmbeddedModel", 1, 1024, 256},
    {"LastRowCountWithoutPanel", 4, 256, 128},
    {"FirstRowCountWithPanel", 5, 256, 128},
    {"OneTensorCoreTileOfRows", 16, 256, 128},
    {"OneRowMoreThanATile", 17, 256, 128},
    {"RaggedColumnsOfOneTile", 1, 256, 80},
    {"RaggedColumnsOfTheSecondTile", 17, 256, 208},
    {"OneRowMoreThanATask", 97, 128, 64},
    {"ManyTasksOfRows", 512, 256, 64},
    {"ManyGroups", 3, 4096, 64},
    {"KNotAMultipleOf1024", 2, 1280, 64},
    {"FourGroupsInASlice", 6, 160, 64, 32},
    {"GroupOfTwoSlices", 7, 512, 64, 256},
};
// Beyond what ATen takes.
const Shape kBuiltinShapes[] = {
    {"FewestColumns", 3, 128, 8},
    {"EightColumnsInTheLastTile", 17, 128, 136},
    {"OneGroupForAllRows", 5, 384, 64, 384},
    {"GroupsThatSlicesCut", 5, 288, 64, 96},
    {"LastSliceShort", 1, 192, 64, 64},
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const Shape& shape : kShapes) {
    AddBuiltin(shape, cases);
    AddTinygemm(shape, cases);
  }
  for (const Shape& shape : kBuiltinShapes) AddBuiltin(shape, cases);
  for (const Shape& shape : {Shape{"DescActOneRow", 1, 512, 72}, Shape{"DescActManyRows", 33, 512, 72}}) {
    AddDescAct(shape, cases);
  }
  return cases;
}

// Puts the instruction set back at the end of a test.
class IsaScope {
 public:
  explicit IsaScope(cpu::Isa isa) : before_(cpu::ActiveIsa()) { cpu::SetActiveIsa(isa); }
  ~IsaScope() { cpu::SetActiveIsa(before_); }

 private:
  cpu::Isa before_;
};

Reference ReferenceFor(const Case& c, const QuantizedLinear& layer, const at::Tensor& x) {
  const std::string family = c.family;
  if (family == "tinygemm") return TinygemmReference(layer, x);
  return family == "gptq" ? SplitKReference(layer, x) : OrderedReference(layer, x);
}

class Int4Accuracy : public testing::TestWithParam<Case> {
 protected:
  Int4Accuracy()
      : layer_(LayerOf(GetParam())),
        x_(ActivationsOf(GetParam())),
        kernel_(MakeInt4Matmul({GetParam().family}, layer_)) {}

  QuantizedLinear layer_;
  at::Tensor x_;
  std::unique_ptr<Int4Matmul> kernel_;
};

TEST_P(Int4Accuracy, WithinTheDerivedBoundOnEveryInstructionSet) {
  const Reference reference = ReferenceFor(GetParam(), layer_, x_);
  for (const cpu::Isa isa : cpu::SupportedIsas()) {
    const IsaScope scope(isa);
    const at::Tensor y = kernel_->Forward(x_);
    EXPECT_EQ(y.scalar_type(), x_.scalar_type());
    EXPECT_EQ(FirstOutside(y, reference), "") << cpu::NameOf(isa);
    EXPECT_EQ(FirstOutside(kernel_->ForwardOrdered(x_), reference), "") << cpu::NameOf(isa) << ", ordered";
  }
}

// The bound must be narrow enough to be worth something. For the kernels that
// round once it sees one row of K gone; the worst case over all orders of half
// sums, or of bfloat16 weights, is wider: there one group.
TEST_P(Int4Accuracy, SeesWhatIsLeftOut) {
  const std::string family = GetParam().family;
  const std::int64_t rows = family == "marlin" || family == "awq" ? 1 : GetParam().shape.group_size;
  const Reference reference = ReferenceFor(GetParam(), layer_, x_);
  at::Tensor without = x_.clone();
  without.narrow(1, GetParam().shape.k - rows, rows).zero_();
  EXPECT_NE(FirstOutside(kernel_->Forward(without), reference), "");
}

INSTANTIATE_TEST_SUITE_P(Kernels, Int4Accuracy, testing::ValuesIn(Cases()), CaseName);

// The control of the check itself: the nearest half beyond the bound is reported,
// the nearest within it is not.
TEST(FirstOutside, SeesOneUlpBeyondTheBound) {
  const QuantizedLinear layer = RandomLayer(Format::kAwq, {.k = 256, .n = 64}, 7);
  const at::Tensor x = RandomActivations(3, 256, at::kHalf, 8);
  const Reference reference = OrderedReference(layer, x);
  at::Tensor y = MakeInt4Matmul({"awq"}, layer)->Forward(x);
  ASSERT_EQ(FirstOutside(y, reference), "");
  const double product = reference.product[2][5].item<double>(), bound = reference.bound[2][5].item<double>();
  auto* const bits = reinterpret_cast<std::uint16_t*>(y.mutable_data_ptr<at::Half>()) + 2 * 64 + 5;
  const auto value = [&] { return static_cast<double>(y[2][5].item<float>()); };
  while (std::abs(value() - product) <= bound) ++*bits;  // one ulp away from zero
  EXPECT_THAT(FirstOutside(y, reference), testing::StartsWith("[2, 5]: "));
  --*bits;
  EXPECT_EQ(FirstOutside(y, reference), "");
}

class SpecialValues : public testing::TestWithParam<FamilyAndFormat> {
 protected:
  static constexpr std::int64_t kK = 256, kN = 72;
  SpecialValues()
      : layer_(RandomLayer(GetParam().format, {.k = kK, .n = kN}, 9)),
        kernel_(MakeInt4Matmul({GetParam().family}, layer_)) {}
  QuantizedLinear layer_;
  std::unique_ptr<Int4Matmul> kernel_;
};

TEST_P(SpecialValues, NanAndInfinityStayInTheirRow) {
  for (const std::int64_t m : {3, 9}) {
    for (const cpu::Isa isa : cpu::SupportedIsas()) {
      const IsaScope scope(isa);
      SCOPED_TRACE(cpu::NameOf(isa));
      ExpectNanAndInfinityInTheirRows(*kernel_, layer_, m, at::kCPU);
    }
  }
}

TEST_P(SpecialValues, MinusZeroGivesPlusZero) {
  for (const cpu::Isa isa : cpu::SupportedIsas()) {
    const IsaScope scope(isa);
    SCOPED_TRACE(cpu::NameOf(isa));
    ExpectPlusZeroOfMinusZero(*kernel_, 5, at::kCPU);
  }
}

TEST_P(SpecialValues, SumsBeyondHalfOverflowToInfinity) {
  const at::Tensor x = at::full({1, kK}, 60000.0, at::kHalf);
  const at::Tensor product = x.to(at::kDouble).matmul(Dequantize(layer_).to(at::kDouble));
  const at::Tensor y = kernel_->ForwardOrdered(x);
  int infinite = 0;
  for (std::int64_t n = 0; n < kN; ++n) {
    const double expected = product[0][n].item<double>();
    if (std::abs(expected) < 2 * 65504) continue;
    ++infinite;
    // Split-K meets inf - inf where two slices overflow to opposite signs.
    const float actual = y[0][n].item<float>();
    EXPECT_TRUE(std::isinf(actual) || (std::string(GetParam().family) == "gptq" && std::isnan(actual))) << n;
  }
  EXPECT_GT(infinite, 0);
}

TEST_P(SpecialValues, NoRowsGiveAnEmptyResult) { ExpectNoRowsOfNoRows(*kernel_, at::kCPU); }

INSTANTIATE_TEST_SUITE_P(Kernels, SpecialValues, OwnFamilies(), FamilyName);

}  // namespace
}  // namespace kernels
