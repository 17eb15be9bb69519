// The loops on raw memory: nothing is written beside the result, and no pointer
// needs an alignment.
#include <c10/util/Half.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/cpu/gemm.h"
#include "kernels/cpu/isa.h"
#include "tests/kernels/random_layer.h"

namespace kernels::cpu {
namespace {

float FloatOf(std::uint16_t half) { return static_cast<float>(c10::Half(half, c10::Half::from_bits())); }

using Gemm = void (*)(const Weights&, const std::uint16_t*, std::int64_t, std::uint16_t*);

// A layer with a zero point of 8 and a scale of 1 / 64, padded with codes that
// would show: 15.
struct Layer {
  Layer(std::int64_t k, std::int64_t n) {
    weights.k = k;
    weights.n = n;
    padded = weights.padded_n();
    Random random(11);
    codes.assign(static_cast<std::size_t>(k * padded), 15);
    for (std::int64_t row = 0; row < k; ++row) {
      for (std::int64_t col = 0; col < n; ++col) code(row, col) = static_cast<std::uint8_t>(random.Below(16));
    }
    words.assign(static_cast<std::size_t>(k / 8 * padded), 0);
    for (std::int64_t row = 0; row < k; ++row) {
      for (std::int64_t col = 0; col < padded; ++col) {
        words[(col / kTileColumns * (k / 8) + row / 8) * kTileColumns + col % kTileColumns] |=
            std::uint32_t{code(row, col)} << ShiftOf(static_cast<int>(row % 8));
      }
    }
    zeros.assign(static_cast<std::size_t>(k / weights.group_size * padded), 8);
    constexpr std::uint16_t kOneSixtyFourth = 0x2400;
    scales.assign(zeros.size(), kOneSixtyFourth);
    weights.words = words.data();
    weights.zeros = zeros.data();
    weights.scales = scales.data();
  }
  std::uint8_t& code(std::int64_t row, std::int64_t col) { return codes[static_cast<std::size_t>(row * padded + col)]; }
  std::int64_t padded = 0;
  std::vector<std::uint8_t> codes;  // [k, padded]
  std::vector<std::uint32_t> words;
  std::vector<std::uint8_t> zeros;
  std::vector<std::uint16_t> scales;
  Weights weights;
};

struct Case {
  const char* name;
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
      const Layer layer(256, n);
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
  Layer layer(128, 72);
  std::vector<std::uint16_t> x(128, 0x3C00), y(72);
  GetParam().gemm(layer.weights, x.data(), 1, y.data());
  for (std::int64_t n = 0; n < 72; ++n) {
    int sum = 0;
    for (std::int64_t k = 0; k < 128; ++k) sum += layer.code(k, n) - 8;
    EXPECT_EQ(FloatOf(y[n]), static_cast<float>(sum) / 64) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Gemms, RawGemm,
                         testing::Values(Case{"ordered", OrderedGemm}, Case{"split_k_ordered", SplitKGemmOrdered},
                                         Case{"split_k_arrival", SplitKGemmArrival}),
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
  const Microkernels& portable = PortableMicrokernels();
  std::vector<std::uint16_t> expected(values.size()), expected_sum(values.size());
  portable.float_to_half(values.data(), expected.data(), count);
  expected_sum.assign(expected.rbegin(), expected.rend());
  portable.add_halves(expected.data(), expected_sum.data(), count);
  for (const Isa isa : SupportedIsas()) {
    const Microkernels& kernels = MicrokernelsFor(isa);
    std::vector<std::uint16_t> halves(values.size());
    kernels.float_to_half(values.data(), halves.data(), count);
    EXPECT_EQ(halves, expected) << NameOf(isa);
    std::vector<std::uint16_t> sum(expected.rbegin(), expected.rend());
    kernels.add_halves(expected.data(), sum.data(), count);
    for (std::size_t i = 0; i < sum.size(); ++i) {
      const bool nan = (expected_sum[i] & 0x7FFF) > 0x7C00;  // inf - inf: the payload is the machine's
      EXPECT_TRUE(nan ? (sum[i] & 0x7FFF) > 0x7C00 : sum[i] == expected_sum[i]) << NameOf(isa) << " " << i;
    }
  }
}

}  // namespace
}  // namespace kernels::cpu
