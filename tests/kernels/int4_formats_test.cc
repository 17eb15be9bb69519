// Dequantize() and ConcatenateColumns() against the formulas, written out once
// more from the formats, and the errors.
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <stdexcept>
#include <string>

#include "kernels/int4_matmul.h"
#include "tests/kernels/random_layer.h"

namespace kernels {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::uint32_t WordAt(const at::Tensor& tensor, std::int64_t index) {
  return static_cast<std::uint32_t>(tensor.const_data_ptr<std::int32_t>()[index]);
}
float HalfAt(const at::Tensor& tensor, std::int64_t index) { return tensor.const_data_ptr<at::Half>()[index]; }
float BFloatAt(const at::Tensor& tensor, std::int64_t index) { return tensor.const_data_ptr<at::BFloat16>()[index]; }

// One weight by the format's description; uses none of the project's unpacking.
float WeightOf(const QuantizedLinear& l, std::int64_t k, std::int64_t n) {
  const std::int64_t g = k / l.group_size;
  switch (l.format) {
    case Format::kAwq: {
      const int position[8] = {0, 4, 1, 5, 2, 6, 3, 7};  // of column n % 8 in its word
      const int shift = 4 * position[n % 8];
      const int q = (WordAt(l.qweight, k * (l.n / 8) + n / 8) >> shift) & 15;
      const int z = (WordAt(l.qzeros, g * (l.n / 8) + n / 8) >> shift) & 15;
      return static_cast<float>(q - z) * HalfAt(l.scales, g * l.n + n);
    }
    case Format::kGptq: {
      const std::int64_t group = l.g_idx.defined() ? l.g_idx.const_data_ptr<std::int32_t>()[k] : g;
      const int q = (WordAt(l.qweight, k / 8 * l.n + n) >> (4 * (k % 8))) & 15;
      const std::uint32_t zeros = WordAt(l.qzeros, group * (l.n / 8) + n / 8) + (l.gptq_v1_zeros ? 0x11111111u : 0);
      const int z = (zeros >> (4 * (n % 8))) & 15;
      return static_cast<float>(q - z) * HalfAt(l.scales, group * l.n + n);
    }
    case Format::kTorchaoTilePacked: {
      const std::int64_t padded_n = (l.n + 7) / 8 * 8, padded_k = (l.k + 1023) / 1024 * 1024;
      // Search the word and nibble that the description gives to (k, n).
      const std::int64_t nt = n / 8, ko = k / 128;
      for (std::int64_t t = 4 * (n % 8); t < 4 * (n % 8) + 4; ++t) {
        for (std::int64_t j = 0; j < 4; ++j) {
          const std::int64_t kb = 128 * ko + 32 * j + 2 * (t % 4);
          for (int i = 0; i < 8; ++i) {
            if (kb + 8 * (i % 4) + i / 4 != k) continue;
            const int q = (WordAt(l.qweight, ((nt * (padded_k / 128) + ko) * 32 + t) * 4 + j) >> (4 * i)) & 15;
            const std::int64_t at = (g * padded_n + n) * 2;
            return static_cast<float>(q - 8) * BFloatAt(l.scales, at) + BFloatAt(l.scales, at + 1);
          }
        }
      }
      ADD_FAILURE() << "no place for " << k << ", " << n;
      return 0;
    }
    case Format::kTorchaoPlain: {
      const auto byte = static_cast<std::uint8_t>(l.qweight.const_data_ptr<std::int8_t>()[n * (l.k / 2) + k / 2]);
      int q = k % 2 == 0 ? byte & 15 : byte >> 4;
      if (q > 7) q -= 16;
      return static_cast<float>(q) * BFloatAt(l.scales, g * l.n + n) + BFloatAt(l.qzeros, g * l.n + n);
    }
  }
  return 0;
}

void ExpectWeights(const QuantizedLinear& layer) {
  const at::Tensor weights = Dequantize(layer);
  ASSERT_EQ(weights.scalar_type(), at::kFloat);
  ASSERT_EQ(weights.sizes(), (at::IntArrayRef{layer.k, layer.n}));
  const float* const w = weights.const_data_ptr<float>();
  for (std::int64_t k = 0; k < layer.k; ++k) {
    for (std::int64_t n = 0; n < layer.n; ++n) ASSERT_EQ(w[k * layer.n + n], WeightOf(layer, k, n)) << k << ", " << n;
  }
}

TEST(Dequantize, AwqWithZeroPoints) { ExpectWeights(RandomLayer(Format::kAwq, {.k = 256, .n = 72}, 1)); }
TEST(Dequantize, GptqWithZeroPointsThatBorrow) {
  ExpectWeights(RandomLayer(Format::kGptq, {.k = 256, .n = 72, .group_size = 64}, 1));
}
TEST(Dequantize, GptqDescActFollowsGIdx) {
  ExpectWeights(RandomLayer(Format::kGptq, {.k = 256, .n = 24, .desc_act = true}, 1));
}
TEST(Dequantize, TorchaoTilesWithPaddingInBothDirections) {
  ExpectWeights(RandomLayer(Format::kTorchaoTilePacked, {.k = 1152, .n = 20}, 1));
}
TEST(Dequantize, TorchaoPlainIsSigned) { ExpectWeights(RandomLayer(Format::kTorchaoPlain, {.k = 256, .n = 20}, 1)); }

TEST(Dequantize, GptqV2ZerosAreStoredAsTheyAre) {
  QuantizedLinear layer = RandomLayer(Format::kGptq, {.k = 128, .n = 16}, 1);
  const at::Tensor v1 = Dequantize(layer);
  layer.gptq_v1_zeros = false;
  ExpectWeights(layer);
  EXPECT_FALSE(Dequantize(layer).equal(v1));
}

TEST(ConcatenateColumns, IsConcatenationOfTheWeights) {
  for (const Format format : {Format::kAwq, Format::kGptq, Format::kTorchaoTilePacked, Format::kTorchaoPlain}) {
    QuantizedLinear q = RandomLayer(format, {.k = 256, .n = 64}, 1), k = RandomLayer(format, {.k = 256, .n = 24}, 2),
                    v = RandomLayer(format, {.k = 256, .n = 40}, 3);
    q.name = "layers.0.q_proj";
    k.name = "layers.0.k_proj";
    v.name = "layers.0.v_proj";
    const auto joined = ConcatenateColumns({q, k, v});
    ASSERT_NE(joined, nullptr);
    EXPECT_EQ(joined->n, 128);
    EXPECT_EQ(joined->name, "layers.0.q_proj+k_proj+v_proj");
    EXPECT_TRUE(Dequantize(*joined).equal(at::cat({Dequantize(q), Dequantize(k), Dequantize(v)}, 1))) << NameOf(format);
  }
}

TEST(ConcatenateColumns, NothingWhereGIdxDiffers) {
  const QuantizedLinear a = RandomLayer(Format::kGptq, {.k = 256, .n = 16, .desc_act = true}, 1);
  const QuantizedLinear b = RandomLayer(Format::kGptq, {.k = 256, .n = 16, .desc_act = true}, 2);
  EXPECT_EQ(ConcatenateColumns({a, b}), nullptr);
  EXPECT_NE(ConcatenateColumns({a, a}), nullptr);
}

// GPTQModel's "dynamic" and compressed-tensors' groups of config give q another group size than k.
TEST(ConcatenateColumns, NothingWhereGroupSizesDiffer) {
  for (const Format format : {Format::kAwq, Format::kGptq, Format::kTorchaoPlain}) {
    const QuantizedLinear a = RandomLayer(format, {.k = 256, .n = 16, .group_size = 32}, 1);
    const QuantizedLinear b = RandomLayer(format, {.k = 256, .n = 16, .group_size = 64}, 2);
    EXPECT_EQ(ConcatenateColumns({a, b}), nullptr) << NameOf(format);
    EXPECT_NE(ConcatenateColumns({b, b}), nullptr) << NameOf(format);
  }
}

template <typename Call>
std::string ErrorOf(Call call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), testing::Not(HasSubstr("\n")));
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Errors, NameTheLayerAndTheTensor) {
  const QuantizedLinear good = RandomLayer(Format::kAwq, {.k = 256, .n = 16}, 1);
  QuantizedLinear bad = good;
  bad.qweight = good.qweight.narrow(0, 0, 128);
  EXPECT_THAT(ErrorOf([&] { Dequantize(bad); }), AllOf(HasSubstr("layers.0.test_proj (awq, K = 256, N = 16)"),
                                                       HasSubstr("qweight must be Int [256, 2], but is Int [128, 2]")));
  bad = good;
  bad.scales = good.scales.to(at::kDouble);
  EXPECT_THAT(ErrorOf([&] { Dequantize(bad); }), HasSubstr("scales must be Half [2, 16], but is Double [2, 16]"));
  // Wider scales can be dequantized; the kernels multiply by float16.
  bad.scales = good.scales.to(at::kFloat);
  EXPECT_EQ(ErrorOf([&] { Dequantize(bad); }), "nothing was thrown");
  EXPECT_THAT(ErrorOf([&] { MakeInt4Matmul({.family = "awq"}, bad); }), HasSubstr("its scales are Float"));
  bad = good;
  bad.qzeros = at::Tensor();
  EXPECT_THAT(ErrorOf([&] { Dequantize(bad); }), HasSubstr("qzeros must be Int [2, 2], but is missing"));
  bad = good;
  bad.group_size = 100;
  EXPECT_THAT(ErrorOf([&] { Dequantize(bad); }), HasSubstr("K is not a multiple of the group size 100"));
  bad = RandomLayer(Format::kGptq, {.k = 256, .n = 16}, 1);
  bad.g_idx = bad.g_idx.clone();
  bad.g_idx.mutable_data_ptr<std::int32_t>()[17] = 2;
  EXPECT_THAT(ErrorOf([&] { Dequantize(bad); }), HasSubstr("g_idx holds 2, but there are 2 groups"));
  QuantizedLinear other = RandomLayer(Format::kGptq, {.k = 256, .n = 16}, 1);
  EXPECT_THAT(ErrorOf([&] { ConcatenateColumns({good, other}); }), HasSubstr("cannot be joined"));
}

TEST(Errors, KernelsRefuseWhatTheyCannotDo) {
  const QuantizedLinear awq = RandomLayer(Format::kAwq, {.k = 256, .n = 16}, 1);
  const QuantizedLinear gptq = RandomLayer(Format::kGptq, {.k = 256, .n = 16}, 1);
  const QuantizedLinear tiles = RandomLayer(Format::kTorchaoTilePacked, {.k = 256, .n = 24}, 1);
  EXPECT_THAT(ErrorOf([&] { MakeInt4Matmul({"awq"}, gptq); }),
              AllOf(HasSubstr("layers.0.test_proj"), HasSubstr("kernel awq/builtin reads awq, not gptq")));
  EXPECT_THAT(ErrorOf([&] { MakeInt4Matmul({"gptq"}, awq); }), HasSubstr("kernel gptq/builtin reads gptq, not awq"));
  EXPECT_THAT(ErrorOf([&] { MakeInt4Matmul({"marlin"}, tiles); }), HasSubstr("reads awq and gptq"));
  EXPECT_THAT(ErrorOf([&] { MakeInt4Matmul({"tinygemm"}, awq); }), HasSubstr("reads torchao's formats"));
  EXPECT_THAT(ErrorOf([&] { MakeInt4Matmul({"tinygemm"}, tiles); }), HasSubstr("N to be a multiple of 16"));
  EXPECT_THAT(ErrorOf([&] { MakeInt4Matmul({"cutlass"}, awq); }),
              AllOf(HasSubstr("no INT4 kernel cutlass/auto/cpu"), HasSubstr("marlin/builtin/cpu")));
  EXPECT_THAT(ErrorOf([&] { MakeInt4Matmul({"marlin", "auto", "tpu"}, awq); }), HasSubstr("marlin/auto/tpu"));
  EXPECT_THAT(ErrorOf([&] { MakeInt4Matmul({"marlin", "auto", "cuda:99"}, awq); }), HasSubstr("device \"cuda:99\""));
  QuantizedLinear uneven = gptq;
  uneven.g_idx = at::zeros({256}, at::kInt);
  EXPECT_THAT(ErrorOf([&] { MakeInt4Matmul({"gptq"}, uneven); }), HasSubstr("does not give each group 128 rows"));
  EXPECT_EQ(Dequantize(uneven).size(0), 256);  // the formula itself allows it
}

TEST(Errors, ActivationsAreChecked) {
  const auto kernel = MakeInt4Matmul({"awq"}, RandomLayer(Format::kAwq, {.k = 256, .n = 16}, 1));
  EXPECT_THAT(ErrorOf([&] { kernel->Forward(RandomActivations(2, 128, at::kHalf, 1)); }),
              HasSubstr("determinism_int4::awq_gemm: x must be Half [M, 256] on cpu, but is Half [2, 128] on cpu"));
  EXPECT_THAT(ErrorOf([&] { kernel->Forward(RandomActivations(2, 256, at::kFloat, 1)); }),
              HasSubstr("but is Float [2, 256]"));
  EXPECT_THAT(ErrorOf([&] { kernel->Forward(at::Tensor()); }), HasSubstr("but is undefined"));
}

}  // namespace
}  // namespace kernels
