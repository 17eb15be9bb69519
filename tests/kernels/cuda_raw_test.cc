// The launch functions on raw memory: every element of the result is written and
// nothing beside it, nothing is read from the workspace that was not written, and
// inputs stay as they are. Small enough to run under compute-sanitizer: see
// tests/kernels/sanitize_cuda.sh.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <ostream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/launch_check.h"
#include "kernels/cuda/layout.h"
#include "kernels/cuda/plan.h"
#include "kernels/cuda/stream_plan.h"
#include "kernels/int4_pack.h"
#include "kernels/torch_cuda.h"
#include "tests/kernels/random_layer.h"

namespace kernels::cuda {
namespace {

constexpr int kFence = 128;
constexpr std::int16_t kSentinel = 0x7EEF;  // a NaN that no finite input gives

struct Case {
  const char* name;
  Family family;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

at::TensorOptions On(at::ScalarType dtype) { return at::TensorOptions().dtype(dtype).device(at::kCUDA); }

// A layer whose every sum is exact, in any order and with the sums of slices rounded
// to half: codes and zero points are integers, a column's scale is a power of two and
// an input is -1, 0 (three of four) or 1, so that no sum comes near 2^11 steps.
struct Layer {
  at::Tensor words, zeros, scales;  // on the device
  at::Tensor weights;               // F64 [k, n]
};
const Layer& LayerOf(int k, int n, int group) {
  static std::map<std::tuple<int, int, int>, Layer> made;
  Layer& layer = made[{k, n, group}];
  if (layer.words.defined()) return layer;
  const int padded = static_cast<int>(RoundUp(n, kMarlinColumns)), groups = k / group;
  const std::int64_t padded_k = RoundUp(k, kTileK);
  Random random(1);
  at::Tensor words = at::zeros({padded * padded_k / 8}, at::kInt), zeros = at::empty({groups, padded}, at::kByte);
  at::Tensor scales = at::zeros({groups, padded}, at::kFloat);
  layer.weights = at::empty({k, n}, at::kDouble);
  auto* const word = reinterpret_cast<std::uint32_t*>(words.mutable_data_ptr<std::int32_t>());
  for (std::int64_t i = 0; i < words.numel(); ++i) word[i] = static_cast<std::uint32_t>(random.Next() >> 32);
  auto* const zero = zeros.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t i = 0; i < zeros.numel(); ++i) zero[i] = static_cast<std::uint8_t>(random.Below(16));
  for (int c = 0; c < n; ++c) scales.select(1, c).fill_(1.0 / (64 << c % 3));
  double* weight = layer.weights.mutable_data_ptr<double>();
  for (int i = 0; i < k; ++i) {
    for (int c = 0; c < n; ++c) {
      const WordPosition at = MarlinPosition(i, c, padded_k);
      const int code = static_cast<int>(word[at.word] >> at.shift & 15);
      *weight++ = static_cast<double>(code - zero[i / group * padded + c]) / (64 << c % 3);
    }
  }
  layer.words = words.to(at::kCUDA), layer.zeros = zeros.to(at::kCUDA);
  layer.scales = scales.to(at::kHalf).to(at::kCUDA);
  return layer;
}
Gemm ViewOf(const Layer& layer, int k, int n, int group) {
  Gemm gemm;
  gemm.k = k, gemm.n = n;
  gemm.words = reinterpret_cast<const std::uint32_t*>(layer.words.const_data_ptr());
  gemm.zeros = layer.zeros.const_data_ptr();
  gemm.scales = layer.scales.const_data_ptr();
  gemm.padded_n = static_cast<int>(RoundUp(n, kMarlinColumns)), gemm.group_size = group, gemm.groups = k / group;
  return gemm;
}
struct Product {
  at::Tensor x, y;  // F16, on the device and on the host
};
const Product& ProductOf(int m, int k, int n, int group) {
  static std::map<std::tuple<int, int, int, int>, Product> made;
  Product& product = made[{m, k, n, group}];
  if (product.x.defined()) return product;
  Random random(2);
  const at::Tensor x = at::empty({m, k}, at::kDouble);
  double* const to = x.mutable_data_ptr<double>();
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const std::uint32_t draw = random.Below(8);
    to[i] = draw == 0 ? -1 : draw == 1 ? 1 : 0;
  }
  product.y = at::mm(x, LayerOf(k, n, group).weights).to(at::kHalf);
  product.x = x.to(at::kHalf).to(at::kCUDA);
  return product;
}

class RawCudaGemm : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (TorchCuda().devices == 0) GTEST_SKIP() << TorchCuda().reason;
    cudaDeviceGetAttribute(&shared_limit_, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0);
  }

  // As a device before sm_90 has it: wgmma has tests of its own.
  void Check(int m, int k, int n, int group) {
    Check(PlanFor(GetParam().family, m, k, n, 132, 80, group, false, shared_limit_), m, k, n, group);
  }
  // As a device has it whose blocks have no room for a stream.
  void CheckWithoutStream(int m, int k, int n, int group) {
    const Plan plan = PlanFor(GetParam().family, m, k, n, 132, 80, group, false, /*shared_limit=*/0);
    ASSERT_EQ(plan.path, GetParam().family == Family::kGptq ? Path::kSlices : Path::kTile);
    ASSERT_EQ(plan.row_blocks, plan.path == Path::kTile ? 4 : m <= 8 ? 1 : 2);
    Check(plan, m, k, n, group);
  }
  void Check(const Plan& plan, int m, int k, int n, int group) {
    const at::Tensor y = Multiply(plan, m, k, n, group), expected = ProductOf(m, k, n, group).y;
    EXPECT_TRUE(y.equal(expected)) << m << " x " << k << " x " << n << ", " << NameOf(plan) << ": "
                                   << y.ne(expected).sum().item<std::int64_t>() << " wrong";
  }
  // The result as it is, F16 [m, n] on the host; checks all but its values.
  at::Tensor Multiply(const Plan& plan, int m, int k, int n, int group) {
    const Layer& layer = LayerOf(k, n, group);
    const at::Tensor x = ProductOf(m, k, n, group).x;
    const at::Tensor inputs[] = {x, layer.words, layer.zeros, layer.scales};
    std::vector<at::Tensor> before;
    for (const at::Tensor& input : inputs) before.push_back(input.clone());
    const at::Tensor storage = at::full({static_cast<std::int64_t>(m) * n + 2 * kFence}, kSentinel, On(at::kShort));

    const std::int64_t bytes = WorkspaceBytes(plan, m, n);
    const at::Tensor workspace = at::full({bytes / 2 + kFence}, kSentinel, On(at::kShort));
    Gemm gemm = ViewOf(layer, k, n, group);
    gemm.x = x.const_data_ptr();
    gemm.y = storage.mutable_data_ptr<std::int16_t>() + kFence;
    gemm.m = m;
    const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
    // Weights are read before the launch ahead has ended.
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    GemmBy(GetParam().family, gemm, plan, workspace.mutable_data_ptr(), stream);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    const std::string shape =
        std::to_string(m) + " x " + std::to_string(k) + " x " + std::to_string(n) + ", " + NameOf(plan);
    const at::Tensor fences = storage.cpu();
    EXPECT_TRUE(fences.narrow(0, 0, kFence).eq(kSentinel).all().item<bool>()) << shape;
    EXPECT_TRUE(fences.narrow(0, kFence + static_cast<std::int64_t>(m) * n, kFence).eq(kSentinel).all().item<bool>())
        << shape;
    EXPECT_TRUE(workspace.narrow(0, bytes / 2, kFence).eq(kSentinel).all().item<bool>()) << shape;
    for (std::size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(inputs[i].equal(before[i])) << shape << ", input " << i;
    return fences.narrow(0, kFence, static_cast<std::int64_t>(m) * n).view(at::kHalf).view({m, n});
  }
  int shared_limit_ = 0;
};

TEST_P(RawCudaGemm, WritesTheResultAndNothingElse) {
  for (const int m : {1, 8, 9, 16, 17, 33, 50}) {
    for (const int n : {8, 24, 136, 264}) {
      Check(m, 256, n, 128);
      Check(m, 2048, n, 128);  // in splits
      Check(m, 72, n, 8);      // ends within a tile
      Check(m, 160, n, 32);
      Check(m, 192, n, 64);    // an odd number of tiles
      Check(m, 9216, n, 128);  // pieces of x in turns, for 16 rows
      if (m > kMaxStreamRows) continue;
      CheckWithoutStream(m, 2048, n, 128);
      CheckWithoutStream(m, 72, n, 8);
      CheckWithoutStream(m, 160, n, 32);
    }
  }
  if (GetParam().family != Family::kGptq) {
    Check(65, 256, 136, 64);
    Check(129, 4096, 72, 64);
    Check(256, 256, 24, 64);
  }
}

// Every kernel and every instance of its template once: what sanitize_cuda.sh runs.
TEST_P(RawCudaGemm, SanitizedShapes) {
  for (const int m : {3, 12, 20, 40, 50}) {
    Check(m, 256, 40, 64);
    Check(m, 72, 24, 8);
    Check(m, 96, 24, 32);
  }
  for (const int m : {1, 2, 16}) {  // few rows: each group size, odd tiles, several pieces of x
    Check(m, 192, 40, 64);
    Check(m, 1184, 24, 32);
    Check(m, 2048, 40, 128);
    Check(m, 264, 24, 24);
  }
  Check(16, 9216, 24, 128);
  Check(20, 1024, 24, 128);  // in splits
  if (GetParam().family != Family::kGptq) {
    Check(100, 192, 24, 64);
    Check(100, 72, 24, 8);
    Check(100, 96, 24, 32);
  }
  Check(1, 64, 8448, 64);  // several strips a block
  Check(12, 72, 8448, 8);
  for (const int m : {1, 8, 12}) {  // what other devices do with few rows
    CheckWithoutStream(m, 448, 40, 64);
    CheckWithoutStream(m, 72, 24, 8);
    CheckWithoutStream(m, 160, 24, 32);
  }
}

INSTANTIATE_TEST_SUITE_P(Kernels, RawCudaGemm,
                         testing::Values(Case{"marlin", Family::kMarlin}, Case{"awq", Family::kAwq},
                                         Case{"gptq_arrival", Family::kGptq},
                                         Case{"gptq_ordered", Family::kGptqOrdered}),
                         [](const auto& info) { return std::string(info.param.name); });

// The wgmma kernel: every tile, K whole, in as many splits as a plan may have, and folded.
class RawCudaWgmma : public RawCudaGemm {
 protected:
  void SetUp() override {
    RawCudaGemm::SetUp();
    if (IsSkipped()) return;
    int major = 0, minor = 0;
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
    cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
    if (!HasWgmma()) GTEST_SKIP() << "this build has no code for sm_90a";
    if (major != 9 || minor != 0) GTEST_SKIP() << "wgmma wants a device of compute capability 9.0";
  }
  static constexpr WgmmaTile kFolded = {128, 128};

  // `units` of K in each split.
  static Plan PlanOf(const WgmmaTile& tile, int splits, bool folded, std::int64_t units) {
    Plan plan;
    plan.path = Path::kWgmma;
    plan.columns = tile.columns, plan.row_blocks = tile.rows / 8;
    plan.splits = splits, plan.tiles_per_split = kUnitK / kTileK * units, plan.folded = folded, plan.blocks = 3;
    return plan;
  }
  void CheckTile(const WgmmaTile& tile, int splits, bool folded, int m, int k, int n, int group) {
    const std::int64_t units = RoundUp(k, kUnitK) / kUnitK, part = RoundUp(units, splits) / splits;
    if (RoundUp(units, part) / part != splits) return;  // a split would be empty
    Check(PlanOf(tile, splits, folded, part), m, k, n, group);
    ++(folded ? folds_ : splits_)[splits];
  }
  void CheckTiles(int m, int k, int n, int group) {
    for (int splits = 1; splits <= kMaxWgmmaSplits; ++splits) {
      for (const WgmmaTile& tile : kWgmmaTiles) CheckTile(tile, splits, false, m, k, n, group);
      if (splits > 1) CheckTile(kFolded, splits, true, m, k, n, group);
    }
  }
  void ExpectEveryCut() {
    for (int splits = 1; splits <= kMaxWgmmaSplits; ++splits) {
      EXPECT_GT(splits_[splits], 0) << "no shape was cut into " << splits;
      EXPECT_TRUE(splits == 1 || folds_[splits] > 0) << "no shape was folded into " << splits;
    }
  }
  std::map<int, int> splits_, folds_;  // how many multiplications had so many
};

TEST_P(RawCudaWgmma, WritesTheResultAndNothingElse) {
  for (const int m : {1, 17, 130, 300}) {
    for (const int n : {8, 136, 392}) {
      CheckTiles(m, 128, n, 128);
      CheckTiles(m, 1024, n, 256);
      CheckTiles(m, 192, n, 64);
      CheckTiles(m, 160, n, 32);  // ends within a tile of K
      CheckTiles(m, 288, n, 96);
    }
  }
  CheckTiles(20, 4096, 520, 128);  // more stages than there are
  CheckTiles(200, 1920, 264, 32);  // the last of four splits is shorter
  ExpectEveryCut();
}

TEST_P(RawCudaWgmma, SanitizedShapes) {
  CheckTiles(19, 288, 200, 96);
  CheckTiles(19, 416, 200, 32);
  CheckTiles(140, 512, 136, 128);
  ExpectEveryCut();
}

// The negative control: what one split too few leaves out is seen.
TEST_P(RawCudaWgmma, ASplitThatIsLeftOutIsSeen) {
  for (int splits = 2; splits <= kMaxWgmmaSplits; ++splits) {
    const int k = (splits + 1) * kUnitK;
    std::vector<Plan> plans = {PlanOf(kFolded, splits, true, 1)};
    for (const WgmmaTile& tile : kWgmmaTiles) plans.push_back(PlanOf(tile, splits, false, 1));
    for (const Plan& plan : plans) {
      EXPECT_FALSE(Multiply(plan, 20, k, 136, 128).equal(ProductOf(20, k, 136, 128).y)) << NameOf(plan);
    }
  }
}

TEST_P(RawCudaWgmma, MoreSplitsThanThereMayBeAreRefused) {
  const Plan plan = PlanOf(kWgmmaTiles[0], kMaxWgmmaSplits + 1, false, 1);
  EXPECT_THROW(Multiply(plan, 1, 1024, 24, 128), std::runtime_error);
}

INSTANTIATE_TEST_SUITE_P(Kernels, RawCudaWgmma, testing::Values(Case{"marlin", Family::kMarlin}),
                         [](const auto& info) { return std::string(info.param.name); });

// The words that the device makes against the same order on the host.
class RawCudaRepack : public testing::Test {
 protected:
  void SetUp() override {
    if (TorchCuda().devices == 0) GTEST_SKIP() << TorchCuda().reason;
  }
};

TEST_F(RawCudaRepack, GivesMarlinOrderFromBothFormats) {
  for (const auto& [k, n] : {std::pair<int, int>{72, 24}, {128, 64}, {256, 40}}) {
    const std::int64_t padded_k = RoundUp(k, kTileK), padded_n = RoundUp(n, kMarlinColumns);
    Random random(3);
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(k) * n);
    for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(random.Below(16));
    std::vector<std::uint32_t> expected(static_cast<std::size_t>(padded_k * padded_n / 8));
    std::vector<std::int64_t> order(static_cast<std::size_t>(k));
    for (int i = 0; i < k; ++i) order[i] = k - 1 - i;
    for (const bool reversed : {false, true}) {
      std::fill(expected.begin(), expected.end(), 0u);
      for (int i = 0; i < k; ++i) {
        for (int c = 0; c < n; ++c) {
          const WordPosition at = MarlinPosition(i, c, padded_k);
          expected[at.word] |= static_cast<std::uint32_t>(codes[(reversed ? k - 1 - i : i) * n + c]) << at.shift;
        }
      }
      at::Tensor row_order = at::empty({k}, at::kLong);
      std::copy(order.begin(), order.end(), row_order.mutable_data_ptr<std::int64_t>());
      row_order = row_order.to(at::kCUDA);
      for (const CodeLayout layout : {CodeLayout::kAwq, CodeLayout::kGptq}) {
        const std::vector<std::int32_t> words =
            layout == CodeLayout::kAwq ? PackAwq(codes, k, n) : PackGptq(codes, k, n);
        at::Tensor from = at::empty({static_cast<std::int64_t>(words.size())}, at::kInt);
        std::copy(words.begin(), words.end(), from.mutable_data_ptr<std::int32_t>());
        from = from.to(at::kCUDA);
        const at::Tensor to = at::full({static_cast<std::int64_t>(expected.size())}, -1, On(at::kInt));
        Repack repack;
        repack.words = reinterpret_cast<const std::uint32_t*>(from.const_data_ptr());
        repack.layout = layout;
        repack.row_order = reversed ? row_order.const_data_ptr<std::int64_t>() : nullptr;
        repack.k = k, repack.n = n;
        RepackMarlin(repack, reinterpret_cast<std::uint32_t*>(to.mutable_data_ptr()),
                     c10::cuda::getCurrentCUDAStream());
        const at::Tensor actual = to.cpu();
        for (std::size_t i = 0; i < expected.size(); ++i) {
          ASSERT_EQ(static_cast<std::uint32_t>(actual.const_data_ptr<std::int32_t>()[i]), expected[i])
              << k << " x " << n << " word " << i << (reversed ? ", reversed" : "");
        }
      }
    }
  }
}

// The dequantized weights, bit for bit, from both formats: with groups that end
// within a word, within a tile and at tiles, K and N within a tile and at its end.
TEST_F(RawCudaRepack, DequantizesToTheRoundedWeight) {
  struct Shape {
    int k, n, group;
  };
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
  for (const Format format : {Format::kAwq, Format::kGptq}) {
    for (const Shape shape : {Shape{72, 24, 8}, Shape{160, 40, 32}, Shape{128, 48, 64}}) {
      const QuantizedLinear layer =
          RandomLayer(format, {.k = shape.k, .n = shape.n, .group_size = shape.group}, /*seed=*/4);
      const at::Tensor expected = Dequantize(layer).to(at::kHalf);
      const at::Tensor words = layer.qweight.to(at::kCUDA), zeros = layer.qzeros.to(at::kCUDA),
                       scales = layer.scales.to(at::kCUDA);
      const CodeLayout layout = format == Format::kAwq ? CodeLayout::kAwq : CodeLayout::kGptq;
      const int groups = shape.k / shape.group, padded = static_cast<int>(RoundUp(shape.n, kMarlinColumns));
      const at::Tensor padded_zeros = at::empty({groups, padded}, On(at::kByte));
      const at::Tensor padded_scales = at::empty({groups, padded}, On(at::kHalf));
      RepackGroups(reinterpret_cast<const std::uint32_t*>(zeros.const_data_ptr()), layout,
                   format == Format::kGptq ? 0x11111111u : 0, scales.const_data_ptr(), groups, shape.n, padded,
                   padded_zeros.mutable_data_ptr<std::uint8_t>(), padded_scales.mutable_data_ptr(), stream);
      Repack repack;
      repack.words = reinterpret_cast<const std::uint32_t*>(words.const_data_ptr());
      repack.layout = layout;
      repack.k = shape.k, repack.n = shape.n;
      const at::Tensor tiles = at::empty({RoundUp(shape.k, kTileK) * padded / 8}, On(at::kInt));
      RepackMarlin(repack, reinterpret_cast<std::uint32_t*>(tiles.mutable_data_ptr()), stream);
      Gemm gemm;
      gemm.k = shape.k, gemm.n = shape.n, gemm.group_size = shape.group, gemm.groups = groups;
      gemm.words = reinterpret_cast<const std::uint32_t*>(tiles.const_data_ptr());
      gemm.zeros = padded_zeros.const_data_ptr();
      gemm.scales = padded_scales.const_data_ptr();
      gemm.padded_n = padded;
      const at::Tensor transposed = at::full({shape.n, shape.k}, 7.0, On(at::kHalf));
      DequantizeWeights(gemm, transposed.mutable_data_ptr(), stream);
      EXPECT_TRUE(transposed.t().cpu().equal(expected)) << shape.k << " x " << shape.n << ", " << layer.name;
    }
  }
}

// Whose error a launch reports.
class RawCudaLaunch : public RawCudaRepack {
 protected:
  static constexpr int kK = 256, kN = 40, kGroup = 128;
  // A sound multiplication of m rows. torch's launches look for errors as well: all tensors are
  // made before there are any.
  void Make(int m) {
    x_ = ProductOf(m, kK, kN, kGroup).x;
    y_ = at::zeros({m, kN}, On(at::kHalf));
    gemm_ = ViewOf(LayerOf(kK, kN, kGroup), kK, kN, kGroup);
    gemm_.x = x_.const_data_ptr(), gemm_.y = y_.mutable_data_ptr(), gemm_.m = m;
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  }
  std::string ErrorOf(const Gemm& gemm, const Plan& plan) const {
    try {
      GemmBy(Family::kMarlin, gemm, plan, nullptr, stream_);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  }
  at::Tensor x_, y_;
  Gemm gemm_;
  cudaStream_t stream_ = nullptr;
};

TEST_F(RawCudaLaunch, IsNotBlamedForTheErrorOfAnotherCall) {
  for (const int m : {1, 20}) {
    SCOPED_TRACE(m);
    Make(m);
    const Plan plan = PlanFor(Family::kMarlin, m, kK, kN, 132, 80, kGroup);
    ASSERT_EQ(plan.splits, 1);
    ASSERT_EQ(ErrorOf(gemm_, plan), "") << "alone";  // what is asked once of CUDA may take an error away
    ASSERT_EQ(cudaMemsetAsync(y_.mutable_data_ptr(), 0xff, y_.nbytes(), stream_), cudaSuccess);
    ASSERT_NE(cudaSetDevice(-1), cudaSuccess);
    const cudaError_t left = cudaPeekAtLastError();
    ASSERT_NE(left, cudaSuccess);
    EXPECT_EQ(ErrorOf(gemm_, plan), "");
    EXPECT_EQ(cudaGetLastError(), left) << "it was not there when the launch was looked at";
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_TRUE(y_.cpu().equal(ProductOf(m, kK, kN, kGroup).y));
  }
}

// Without a device each call would leave its error again.
TEST_F(RawCudaLaunch, TakesItsOwnErrorAwayAndNoOther) {
  ASSERT_NE(cudaSetDevice(-1), cudaSuccess);
  const cudaError_t left = cudaPeekAtLastError();
  ASSERT_NE(left, cudaSuccess);
  EXPECT_NO_THROW(CheckLaunch("SomeKernel", cudaSuccess));
  EXPECT_EQ(cudaPeekAtLastError(), left);
  EXPECT_THROW(CheckLaunch("SomeKernel", left), std::runtime_error);
  EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
}

TEST_F(RawCudaLaunch, ThatIsRefusedSaysSoAndLeavesNothingBehind) {
  Make(20);
  const Plan plan = PlanFor(Family::kMarlin, 20, kK, kN, 132, 80, kGroup);
  Gemm too_many_rows = gemm_;  // a grid has at most 65,535 blocks of 32 rows
  too_many_rows.m = 32 * 65536;
  EXPECT_THAT(ErrorOf(too_many_rows, plan), testing::StartsWith("CUDA refused to launch MarlinGemmTile: invalid "));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  // Sums of all strips of one block, which takes 100,000 columns.
  Plan one_block = PlanFor(Family::kMarlin, 1, kK, kN, 132, 80, kGroup);
  one_block.blocks = 1;
  Gemm too_wide = gemm_;
  too_wide.m = 1, too_wide.n = too_wide.padded_n = 100000;
  const int bytes = StreamShapeFor(0, Sums::kFloat, 1, kK, too_wide.n, kGroup, 1, 0).shared_bytes;
  EXPECT_THAT(ErrorOf(too_wide, one_block),
              testing::StartsWith("MarlinGemmStream: a block needs " + std::to_string(bytes) +
                                  " bytes of shared memory, the device has "));
  EXPECT_EQ(ErrorOf(gemm_, plan), "");
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  EXPECT_TRUE(y_.cpu().equal(ProductOf(20, kK, kN, kGroup).y));
}

// A device that has failed stays so: in a process of its own.
TEST_F(RawCudaLaunch, IsToldApartFromEarlierWorkThatFailed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto fail = [this] {
    Make(20);
    const Plan plan = PlanFor(Family::kMarlin, 20, kK, kN, 132, 80, kGroup);
    Gemm nowhere = gemm_;
    nowhere.words = reinterpret_cast<const std::uint32_t*>(std::uintptr_t{16});
    std::string error = ErrorOf(nowhere, plan);
    if (error.empty() && cudaStreamSynchronize(stream_) != cudaSuccess) error = ErrorOf(gemm_, plan);
    std::fprintf(stderr, "%s\n", error.c_str());
    std::_Exit(7);
  };
  EXPECT_EXIT(fail(), testing::ExitedWithCode(7),
              "^MarlinGemmTile was not launched, earlier work on the device failed: an illegal memory access was "
              "encountered\n");
}

}  // namespace
}  // namespace kernels::cuda
