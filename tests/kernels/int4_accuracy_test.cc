// Every kernel against float64, within the bounds derived in reference.cc, on
// shapes that each have a reason.
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/int4_matmul.h"
#include "tests/kernels/random_layer.h"
#include "tests/kernels/reference.h"

namespace kernels {
namespace {

struct Shape {
  const char* reason;
  std::int64_t m, k, n, group_size = 128;
};

struct Case {
  const char* name;
  const char* family;
  Format format;
  Shape shape;
  bool desc_act = false;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name << " " << c.shape.reason << " [" << c.shape.m << ", " << c.shape.k << "] x [" << c.shape.k << ", "
       << c.shape.n << "]";
}

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
    cases.push_back({"marlin_from_awq", "marlin", Format::kAwq, shape});
    cases.push_back({"marlin_from_gptq", "marlin", Format::kGptq, shape});
    cases.push_back({"awq", "awq", Format::kAwq, shape});
    cases.push_back({"gptq", "gptq", Format::kGptq, shape});
    cases.push_back({"tinygemm_from_tiles", "tinygemm", Format::kTorchaoTilePacked, shape});
    cases.push_back({"tinygemm_from_plain", "tinygemm", Format::kTorchaoPlain, shape});
  }
  for (const Shape& shape : kBuiltinShapes) {
    cases.push_back({"marlin_from_awq", "marlin", Format::kAwq, shape});
    cases.push_back({"marlin_from_gptq", "marlin", Format::kGptq, shape});
    cases.push_back({"awq", "awq", Format::kAwq, shape});
    cases.push_back({"gptq", "gptq", Format::kGptq, shape});
  }
  for (const Shape& shape : {Shape{"DescActOneRow", 1, 512, 72}, Shape{"DescActManyRows", 33, 512, 72}}) {
    cases.push_back({"marlin_from_gptq", "marlin", Format::kGptq, shape, true});
    cases.push_back({"gptq", "gptq", Format::kGptq, shape, true});
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
      : layer_(RandomLayer(GetParam().format,
                           {.k = GetParam().shape.k,
                            .n = GetParam().shape.n,
                            .group_size = GetParam().shape.group_size,
                            .desc_act = GetParam().desc_act},
                           /*seed=*/7)),
        x_(RandomActivations(GetParam().shape.m, GetParam().shape.k,
                             std::string(GetParam().family) == "tinygemm" ? at::kBFloat16 : at::kHalf, /*seed=*/8)),
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

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  return std::string(info.param.name) + "_" + info.param.shape.reason;
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

struct FamilyAndFormat {
  const char* family;
  Format format;
};
void PrintTo(const FamilyAndFormat& param, std::ostream* out) { *out << param.family; }

class SpecialValues : public testing::TestWithParam<FamilyAndFormat> {
 protected:
  static constexpr std::int64_t kK = 256, kN = 72;
  SpecialValues()
      : layer_(RandomLayer(GetParam().format, {.k = kK, .n = kN}, 9)),
        kernel_(MakeInt4Matmul({GetParam().family}, layer_)) {}
  QuantizedLinear layer_;
  std::unique_ptr<Int4Matmul> kernel_;
};

// Rows with a NaN or an infinity give what IEEE arithmetic gives in float64, and
// do not touch their neighbours.
TEST_P(SpecialValues, NanAndInfinityStayInTheirRow) {
  for (const std::int64_t m : {3, 9}) {
    const at::Tensor clean = RandomActivations(m, kK, at::kHalf, 10);
    at::Tensor x = clean.clone();
    x[0][200] = std::numeric_limits<float>::quiet_NaN();
    x[1][3] = std::numeric_limits<float>::infinity();
    const at::Tensor reference = x.to(at::kDouble).matmul(Dequantize(layer_).to(at::kDouble));
    for (const cpu::Isa isa : cpu::SupportedIsas()) {
      const IsaScope scope(isa);
      const at::Tensor y = kernel_->ForwardOrdered(x), plain = kernel_->ForwardOrdered(clean);
      for (std::int64_t n = 0; n < kN; ++n) {
        EXPECT_TRUE(std::isnan(y[0][n].item<float>())) << n;
        const double expected = reference[1][n].item<double>();
        const float actual = y[1][n].item<float>();
        EXPECT_EQ(std::isnan(actual), std::isnan(expected)) << n;
        if (!std::isnan(expected)) {
          EXPECT_EQ(actual, expected) << n;
        }
      }
      for (std::int64_t r = 2; r < m; ++r) EXPECT_TRUE(y[r].equal(plain[r])) << r;
    }
  }
}

TEST_P(SpecialValues, MinusZeroGivesPlusZero) {
  const at::Tensor x = at::full({5, kK}, -0.0, at::kHalf);
  for (const cpu::Isa isa : cpu::SupportedIsas()) {
    const IsaScope scope(isa);
    const at::Tensor y = kernel_->Forward(x);
    for (std::int64_t i = 0; i < y.numel(); ++i) EXPECT_EQ(y.const_data_ptr<at::Half>()[i].x, 0) << i;
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

TEST_P(SpecialValues, NoRowsGiveAnEmptyResult) {
  const at::Tensor y = kernel_->Forward(at::empty({0, kK}, at::kHalf));
  EXPECT_EQ(y.size(0), 0);
  EXPECT_EQ(y.size(1), kN);
}

INSTANTIATE_TEST_SUITE_P(Kernels, SpecialValues,
                         testing::Values(FamilyAndFormat{"marlin", Format::kAwq}, FamilyAndFormat{"awq", Format::kAwq},
                                         FamilyAndFormat{"gptq", Format::kGptq}),
                         [](const auto& info) { return std::string(info.param.family); });

}  // namespace
}  // namespace kernels
