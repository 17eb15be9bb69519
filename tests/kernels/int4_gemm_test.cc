// The loops on raw memory: nothing is written beside the result, and no pointer
// needs an alignment.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/isa.h"
#include "kernels/int4_pack.h"
#include "tests/kernels/random_layer.h"

namespace kernels::cpu {
namespace {

using Gemm = void (*)(const Weights&, const std::uint16_t*, std::int64_t, std::uint16_t*);

// A layer in either layout, with a zero point of 8 and a scale of 1 / 64, padded
// with codes that would show: 15.
struct Layer {
  Layer(WordLayout layout, std::int64_t k, std::int64_t n) {
    weights.layout = layout;
    weights.k = k;
    weights.n = n;
    const std::int64_t padded = weights.padded_n(), groups = k / weights.group_size;
    Random random(11);
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(k * padded), 15);
    for (std::int64_t row = 0; row < k; ++row) {
      for (std::int64_t col = 0; col < n; ++col)
        codes[row * padded + col] = static_cast<std::uint8_t>(random.Below(16));
    }
    words = layout == WordLayout::kAlongK ? PackGptq(codes, k, padded) : PackAwq(codes, k, padded);
    zeros.assign(static_cast<std::size_t>(groups * padded), 8);
    constexpr std::uint16_t kOneSixtyFourth = 0x2400;
    scales.assign(zeros.size(), kOneSixtyFourth);
    weights.words = reinterpret_cast<const std::uint32_t*>(words.data());
    weights.zeros = zeros.data();
    weights.scales = scales.data();
    const bool along_k = layout == WordLayout::kAlongK;
    weights.tile_stride = along_k ? kTileAlongK : kTileAlongN / 8;
    weights.row_stride = along_k ? padded : padded / 8;
  }
  std::vector<std::int32_t> words;
  std::vector<std::uint8_t> zeros;
  std::vector<std::uint16_t> scales;
  Weights weights;
};

struct Case {
  const char* name;
  WordLayout layout;
  Gemm gemm;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class RawGemm : public testing::TestWithParam<Case> {};

TEST_P(RawGemm, WritesTheResultAndNothingElse) {
  constexpr std::uint16_t kSentinel = 0xBEEF;
  constexpr std::size_t kFence = 64;
  for (const Isa isa : SupportedIsas()) {
    SetActiveIsa(isa);
    // Columns of a whole tile, of a part of one, and of one and a part.
    for (const std::int64_t n : {8, 64, 72, 128, 136, 200}) {
      const Layer layer(GetParam().layout, 256, n);
      for (const std::int64_t m : {1, 5, 100}) {
        // One element off every alignment.
        std::vector<std::uint16_t> x_storage(static_cast<std::size_t>(m * 256 + 1), 0x3C00);  // 1.0
        std::vector<std::uint16_t> y(static_cast<std::size_t>(m * n) + 2 * kFence + 1, kSentinel);
        std::uint16_t* const result = y.data() + kFence + 1;
        GetParam().gemm(layer.weights, x_storage.data() + 1, m, result);
        for (std::size_t i = 0; i < y.size(); ++i) {
          const bool inside = i > kFence && i <= kFence + static_cast<std::size_t>(m * n);
          // The sentinel is a quiet NaN no finite input can give.
          if (inside) {
            ASSERT_NE(y[i], kSentinel) << NameOf(isa) << " n = " << n << " m = " << m << " element " << i - kFence - 1;
          } else {
            ASSERT_EQ(y[i], kSentinel) << NameOf(isa) << " n = " << n << " m = " << m << " at " << i;
          }
        }
      }
    }
  }
  SetActiveIsa(SupportedIsas().back());
}

// All-ones input: a column's result is the sum of its (q - 8) / 64, which fp16 holds exactly.
TEST_P(RawGemm, SumsOfAColumnByHand) {
  const Layer layer(GetParam().layout, 128, 72);
  const auto codes = GetParam().layout == WordLayout::kAlongK ? UnpackGptq(layer.words, 128, layer.weights.padded_n())
                                                              : UnpackAwq(layer.words, 128, layer.weights.padded_n());
  std::vector<std::uint16_t> x(128, 0x3C00), y(72);
  GetParam().gemm(layer.weights, x.data(), 1, y.data());
  for (std::int64_t n = 0; n < 72; ++n) {
    int sum = 0;
    for (std::int64_t k = 0; k < 128; ++k) sum += codes[k * layer.weights.padded_n() + n] - 8;
    const std::uint16_t eight[8] = {y[n]};
    float floats[8];
    PortableMicrokernels(WordLayout::kAlongK).half_to_float(eight, floats, 8);
    EXPECT_EQ(floats[0], static_cast<float>(sum) / 64) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Gemms, RawGemm,
                         testing::Values(Case{"ordered_along_k", WordLayout::kAlongK, OrderedGemm},
                                         Case{"ordered_along_n", WordLayout::kAlongN, OrderedGemm},
                                         Case{"split_k_ordered", WordLayout::kAlongK, SplitKGemmOrdered},
                                         Case{"split_k_arrival", WordLayout::kAlongK, SplitKGemmArrival}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(HalfArithmetic, EveryInstructionSetRoundsAndAddsAlike) {
  // Values around the ties, the subnormals and the overflow of half.
  std::vector<float> values = {0.0F,        -0.0F,    1.0F,       1.00048828125F, 1.0009765625F, 1.00146484375F,
                               65504.0F,    65519.9F, 65520.0F,   -65520.0F,      5.9604645e-8F, 2.9802322e-8F,
                               2.98024e-8F, 6.1e-5F,  -6.097e-5F, 1.0e-10F};
  Random random(3);
  while (values.size() % 8 != 0 || values.size() < 4096) {
    values.push_back(static_cast<float>(random.Uniform(-70000, 70000)));
    values.push_back(static_cast<float>(random.Uniform(-1e-4, 1e-4)));
  }
  const auto count = static_cast<std::ptrdiff_t>(values.size());
  const Microkernels& portable = PortableMicrokernels(WordLayout::kAlongK);
  std::vector<std::uint16_t> expected(values.size()), expected_sum(values.size());
  portable.float_to_half(values.data(), expected.data(), count);
  expected_sum.assign(expected.rbegin(), expected.rend());
  portable.accumulate_half(values.data(), expected_sum.data(), count);
  for (const Isa isa : SupportedIsas()) {
    const Microkernels& kernels = MicrokernelsFor(isa, WordLayout::kAlongK);
    std::vector<std::uint16_t> halves(values.size());
    kernels.float_to_half(values.data(), halves.data(), count);
    EXPECT_EQ(halves, expected) << NameOf(isa);
    std::vector<std::uint16_t> sum(expected.rbegin(), expected.rend());
    kernels.accumulate_half(values.data(), sum.data(), count);
    for (std::size_t i = 0; i < sum.size(); ++i) {
      const bool nan = (expected_sum[i] & 0x7FFF) > 0x7C00;  // inf - inf: the payload is the machine's
      EXPECT_TRUE(nan ? (sum[i] & 0x7FFF) > 0x7C00 : sum[i] == expected_sum[i]) << NameOf(isa) << " " << i;
    }
  }
}

}  // namespace
}  // namespace kernels::cpu
