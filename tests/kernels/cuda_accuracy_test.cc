// Every CUDA kernel against float64, within the bounds derived in reference.cc, on
// shapes that each have a reason.
#include <ATen/Context.h>
#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/cuda/layout.h"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/stream_plan.h"
#include "kernels/int4_matmul.h"
#include "kernels/torch_cuda.h"
#include "tests/kernels/accuracy_cases.h"
#include "tests/kernels/random_layer.h"
#include "tests/kernels/reference.h"

namespace kernels {
namespace {

const Shape kShapes[] = {
    {"OneGroup", 1, 128, 64},
    {"DecodeOfTheEmbeddedModel", 1, 1024, 256},
    {"LastRowOfOneBlock", 8, 256, 128},
    {"FirstRowOfTwoBlocks", 9, 256, 128},
    {"LastStreamRow", 16, 256, 128},
    {"TwoRows", 2, 4096, 264},
    {"FirstTileRow", 17, 256, 128},
    {"TileOf32", 32, 256, 128},
    {"TileOf64", 33, 256, 136},
    {"LastSliceRow", 50, 384, 136},
    {"FirstRowBeyondSlices", 51, 384, 136},
    {"TileOf128", 65, 256, 136},
    {"TwoTilesOfRows", 129, 512, 72},
    {"LastTileRow", 256, 512, 264},
    {"FirstDequantizedRow", 257, 512, 264},
    {"ManyRows", 600, 256, 64},
    {"FewestColumns", 3, 128, 8},
    {"EightColumnsOfAStrip", 5, 256, 24},
    {"EightColumnsOfATile", 40, 256, 136},
    {"ColumnsBeyondOneBlock", 1, 256, 1032},
    {"ColumnsBeyondOneBlockOfTiles", 20, 256, 1032},
    {"ManyTilesForEachWarp", 2, 8192, 64},
    {"ManyTilesWithoutSplit", 30, 4096, 64},
    {"KNotAMultipleOf64", 6, 160, 64, 32},
    {"KNotAMultipleOf64InTiles", 70, 160, 72, 32},
    {"KNotAMultipleOf64Dequantized", 300, 160, 72, 32},
    {"GroupOf64", 7, 512, 64, 64},
    {"GroupOf64InTiles", 100, 512, 64, 64},
    {"GroupOfTwoSlices", 7, 512, 64, 256},
    {"ShortestK", 4, 32, 16, 32},
    {"WideLayer", 1, 1024, 16384},
    {"WideLayerManyRows", 11, 1024, 16384},
    {"OddTilesOfOneRow", 1, 4160, 40, 64},
    {"OddTilesOfManyRows", 13, 4160, 40, 64},
    {"PiecesInTurns", 16, 12288, 72},
    {"LastPieceShort", 10, 8576, 40},
    {"GroupsOf32", 1, 1184, 200, 32},
    {"GroupsOf32ManyRows", 14, 1184, 200, 32},
    {"GroupsOf256", 1, 2048, 48, 256},
    {"KInSplits", 24, 4096, 200},
    {"KInSplitsOf64Rows", 40, 4096, 264},
    {"KInSplitsOfGroupsOf32", 100, 2080, 136, 32},
    {"OddNumberOfTilesOfK", 130, 448, 200, 64},
};
// Beyond what ATen takes, or so long that the bound of tinygemm, whose weights are
// rounded to bfloat16, would not see a sixteenth of K left out.
const Shape kBuiltinShapes[] = {
    {"PiecesInTurnsOfEightRows", 8, 17408, 72},
    {"OneGroupForAllRows", 5, 384, 64, 384},
    {"OneGroupForAllRowsInTiles", 60, 384, 64, 384},
    {"GroupsThatSlicesCut", 5, 288, 64, 96},
    {"GroupsOf8", 3, 72, 40, 8},
    {"GroupsOf8InTiles", 48, 200, 72, 8},
    {"GroupsOf8Dequantized", 300, 72, 40, 8},
    {"GroupsOf24", 12, 264, 72, 24},
    {"GroupsOf24InTiles", 80, 264, 72, 24},
    {"GroupsOf24Dequantized", 260, 264, 72, 24},
    {"GroupsOf16", 1, 176, 16, 16},
    {"GroupsOf192", 1, 1344, 72, 192},
    {"GroupsOf192ManyRows", 9, 1344, 72, 192},
    {"GroupsOf96ManyRows", 16, 1248, 72, 96},
    {"GroupsOf8ManyRows", 16, 1096, 40, 8},
};
// So many half sums have no bound worth the name: not gptq.
const Shape kLongShapes[] = {
    {"LongestK", 1, 65408, 8},
    {"LongestKInTiles", 18, 65408, 8},
};

std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const Shape& shape : kShapes) {
    AddBuiltin(shape, cases);
    AddTinygemm(shape, cases);
  }
  for (const Shape& shape : kBuiltinShapes) AddBuiltin(shape, cases);
  for (const Shape& shape : kLongShapes) {
    cases.push_back({"marlin_from_gptq", "marlin", Format::kGptq, shape});
    cases.push_back({"awq", "awq", Format::kAwq, shape});
  }
  for (const Shape& shape : kShapes) cases.push_back({"invariant", "marlin", Format::kAwq, shape, false, true});
  for (const Shape& shape : kBuiltinShapes) cases.push_back({"invariant", "awq", Format::kAwq, shape, false, true});
  for (const Shape& shape : {Shape{"DescActOneRow", 1, 512, 72}, Shape{"DescActTiles", 33, 512, 72},
                             Shape{"DescActDequantized", 300, 512, 72}, Shape{"DescActGroupsOf8", 9, 80, 24, 8}}) {
    AddDescAct(shape, cases);
  }
  return cases;
}

// `ordered`: of gptq's twin.
Reference ReferenceFor(const Case& c, const QuantizedLinear& layer, const at::Tensor& x, WeightRounding rounding,
                       bool ordered = false) {
  const std::string family = c.family;
  if (family == "tinygemm") return TinygemmReference(layer, x);
  const cuda::Family kernel = family == "marlin" ? cuda::Family::kMarlin
                              : family == "awq"  ? cuda::Family::kAwq
                              : ordered          ? cuda::Family::kGptqOrdered
                                                 : cuda::Family::kGptq;
  const cuda::Plan plan =
      cuda::PlanOn(x.device(), kernel, x.size(0), layer.k, layer.n, layer.group_size, c.batch_invariant);
  switch (plan.path) {
    case cuda::Path::kStream: {
      // The sums of a unit, two chains of instructions that are added, are multiplied
      // by the scale and added to the warp's, group by group, without a weight being
      // rounded; then the eight warps' are added.
      const bool integers = layer.group_size % 32 == 0;
      const std::int64_t groups = integers ? std::max<std::int64_t>(1, cuda::kUnitK / layer.group_size) : 1;
      const std::int64_t units = (layer.k + cuda::kUnitK - 1) / cuda::kUnitK;
      const std::int64_t warp_units = (units + cuda::kSharers - 1) / cuda::kSharers;
      if (integers) rounding = WeightRounding::kNone;
      if (family == "gptq") {
        return TensorCoreSplitKReference(layer, x, rounding, {cuda::kUnitK, 1 + groups});
      }
      return TensorCoreReference(layer, x, rounding, {cuda::kUnitK, 1 + groups * warp_units + cuda::kSharers});
    }
    case cuda::Path::kTile:
    case cuda::Path::kWgmma:
      return TensorCoreReference(layer, x, rounding, {plan.tiles_per_split * cuda::kTileK, plan.splits});
    case cuda::Path::kSlices:
      return TensorCoreSplitKReference(layer, x, rounding);
    case cuda::Path::kDequantize:
      break;
  }
  return TensorCoreReference(layer, x, rounding, {layer.k, 64});  // cuBLAS may split K too
}

class CudaAccuracy : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (TorchCuda().devices == 0) GTEST_SKIP() << TorchCuda().reason;
    layer_ = LayerOf(GetParam());
    x_ = ActivationsOf(GetParam()).to(at::kCUDA);
    kernel_ = MakeInt4Matmul(Request("cuda"), layer_);
  }

  static KernelRequest Request(const char* device) {
    KernelRequest request{GetParam().family, OwnProvider(GetParam().family), device};
    request.batch_invariant = GetParam().batch_invariant;
    return request;
  }

  QuantizedLinear layer_;
  at::Tensor x_;
  std::unique_ptr<Int4Matmul> kernel_;
};

TEST_P(CudaAccuracy, WithinTheDerivedBound) {
  for (const bool ordered : {false, true}) {
    const Reference exact = ReferenceFor(GetParam(), layer_, x_, WeightRounding::kExact, ordered);
    const Reference rounded = ReferenceFor(GetParam(), layer_, x_, WeightRounding::kToHalf, ordered);
    const at::Tensor y = ordered ? kernel_->ForwardOrdered(x_) : kernel_->Forward(x_);
    EXPECT_EQ(y.scalar_type(), x_.scalar_type());
    EXPECT_EQ(y.device(), x_.device());
    EXPECT_TRUE(y.is_contiguous());
    EXPECT_EQ(FirstOutside(y, exact), "") << kernel_->PathFor(x_.size(0));
    EXPECT_EQ(FirstOutside(y, rounded), "") << kernel_->PathFor(x_.size(0)) << ", weights rounded to half";
  }
}

// From tensors that lie on the device already, the same kernel.
TEST_P(CudaAccuracy, LayersOnTheDeviceGiveTheSameBits) {
  QuantizedLinear there = layer_;
  for (at::Tensor* const tensor : {&there.qweight, &there.qzeros, &there.scales, &there.g_idx}) {
    if (tensor->defined()) *tensor = tensor->to(at::kCUDA);
  }
  const auto kernel = MakeInt4Matmul(Request("cuda:0"), there);
  EXPECT_TRUE(kernel->ForwardOrdered(x_).equal(kernel_->ForwardOrdered(x_)));
}

// The bound must be narrow enough to be worth something. It sees one row of K gone,
// where there are several rows of x (in one row, that very input may be near 0);
// where it allows for half sums in any order or for bfloat16 weights, one group;
// of many thousands of rows a sixteenth.
TEST_P(CudaAccuracy, SeesWhatIsLeftOut) {
  const std::string family = GetParam().family;
  const Shape& shape = GetParam().shape;
  const bool rounds_once = family == "marlin" || family == "awq";
  const std::int64_t rows = shape.k >= 8192 ? shape.k / 16 : rounds_once && shape.m >= 3 ? 1 : shape.group_size;
  const Reference reference = ReferenceFor(GetParam(), layer_, x_, WeightRounding::kToHalf);
  at::Tensor without = x_.clone();
  without.narrow(1, shape.k - rows, rows).zero_();
  EXPECT_NE(FirstOutside(kernel_->Forward(without), reference), "");
}

INSTANTIATE_TEST_SUITE_P(Kernels, CudaAccuracy, testing::ValuesIn(Cases()), CaseName);

class CudaSpecialValues : public testing::TestWithParam<FamilyAndFormat> {
 protected:
  static constexpr std::int64_t kK = 256, kN = 72;
  void SetUp() override {
    if (TorchCuda().devices == 0) GTEST_SKIP() << TorchCuda().reason;
    layer_ = RandomLayer(GetParam().format, {.k = kK, .n = kN}, 9);
    kernel_ = MakeInt4Matmul({GetParam().family, OwnProvider(GetParam().family), "cuda"}, layer_);
  }
  QuantizedLinear layer_;
  std::unique_ptr<Int4Matmul> kernel_;
};

TEST_P(CudaSpecialValues, NanAndInfinityStayInTheirRow) {
  for (const std::int64_t m : {3, 20, 300}) ExpectNanAndInfinityInTheirRows(*kernel_, layer_, m, at::kCUDA);
}

TEST_P(CudaSpecialValues, MinusZeroGivesPlusZero) {
  for (const std::int64_t m : {5, 20, 300}) ExpectPlusZeroOfMinusZero(*kernel_, m, at::kCUDA);
}

TEST_P(CudaSpecialValues, NoRowsGiveAnEmptyResult) { ExpectNoRowsOfNoRows(*kernel_, at::kCUDA); }

// A view that begins at an odd element: 16-byte loads would not do.
TEST_P(CudaSpecialValues, InputsNeedNoAlignment) {
  for (const std::int64_t m : {2, 20, 60}) {
    const at::Tensor x = RandomActivations(m, kK, at::kHalf, 10).to(at::kCUDA);
    at::Tensor storage = at::empty({m * kK + 1}, x.options());
    const at::Tensor odd = storage.narrow(0, 1, m * kK).view({m, kK});
    odd.copy_(x);
    EXPECT_TRUE(kernel_->ForwardOrdered(odd).equal(kernel_->ForwardOrdered(x)));
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, CudaSpecialValues, OwnFamilies(), FamilyName);

}  // namespace
}  // namespace kernels
