// The bits that microkernels.h promises, computed apart: sums of a block exact, in
// float64, then one rounding and one fused multiply-add; over halves of every size,
// so that x takes from one digit to six.
#include <ATen/ops/empty.h>
#include <c10/util/Half.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/microkernels.h"
#include "kernels/int4_matmul.h"
#include "tests/kernels/random_layer.h"

namespace kernels {
namespace {

constexpr std::int64_t kSlice = 128;

// How the sum of one block becomes a float.
enum class BlockSum {
  kExact,  // the promise
  kChain,  // fused multiply-adds in ascending k: what a float kernel would do
};

at::Tensor Expected(const QuantizedLinear& layer, const at::Tensor& x, bool split_k, BlockSum how) {
  // W / scale is q - z, and the scale itself: Dequantize() multiplies exactly those.
  QuantizedLinear units = layer;
  units.scales = at::empty(layer.scales.sizes(), at::kHalf).fill_(1);
  const at::Tensor codes = Dequantize(units).contiguous(), scales = layer.scales.to(at::kFloat).contiguous();
  const at::Tensor values = x.to(at::kFloat).contiguous();
  const std::int64_t m = x.size(0), n = layer.n, k = layer.k;
  const float* const w = codes.const_data_ptr<float>();
  at::Tensor y = at::empty({m, n}, at::kHalf);
  for (std::int64_t r = 0; r < m; ++r) {
    const float* const xs = values.const_data_ptr<float>() + r * k;
    for (std::int64_t c = 0; c < n; ++c) {
      float total = 0, halves = 0;
      for (std::int64_t begin = 0; begin < k;) {
        const std::int64_t group = begin / layer.group_size;
        std::int64_t end = std::min({k, (group + 1) * layer.group_size, begin + cpu::kMaxBlockRows});
        if (split_k) end = std::min(end, (begin / kSlice + 1) * kSlice);
        double exact = 0;
        float chain = 0;
        for (std::int64_t i = begin; i < end; ++i) {
          exact += static_cast<double>(xs[i]) * w[i * n + c];
          chain = std::fma(xs[i], w[i * n + c], chain);
        }
        const float sum = how == BlockSum::kExact ? static_cast<float>(exact) : chain;
        total = std::fma(scales.const_data_ptr<float>()[group * n + c], sum, total);
        begin = end;
        if (split_k && (begin % kSlice == 0 || begin == k)) {
          halves = static_cast<float>(c10::Half(halves + static_cast<float>(c10::Half(total))));
          total = 0;
        }
      }
      y.mutable_data_ptr<at::Half>()[r * n + c] = c10::Half(split_k ? halves : total);
    }
  }
  return y;
}

// Row r: digits from as few to as many as its values of 2^-24 ... 2^low times up to
// 2048 take.
at::Tensor ManyMagnitudes(std::int64_t m, std::int64_t k, std::uint64_t seed) {
  Random random(seed);
  at::Tensor x = at::empty({m, k}, at::kHalf);
  for (std::int64_t r = 0; r < m; ++r) {
    const std::uint32_t widest = 1 + static_cast<std::uint32_t>(r) % 31;  // exponents in the row
    for (std::int64_t i = 0; i < k; ++i) {
      const std::uint32_t exponent = random.Below(widest), mantissa = random.Below(1024), sign = random.Below(2);
      x.mutable_data_ptr<at::Half>()[r * k + i].x = static_cast<std::uint16_t>(sign << 15 | exponent << 10 | mantissa);
    }
  }
  return x;
}

// But for the payload of a NaN: partial sums that overflow half meet as inf - inf.
bool SameBits(const at::Tensor& a, const at::Tensor& b) {
  const auto* const x = a.const_data_ptr<at::Half>();
  const auto* const y = b.const_data_ptr<at::Half>();
  const auto is_nan = [](at::Half half) { return (half.x & 0x7FFF) > 0x7C00; };
  return std::equal(x, x + a.numel(), y, y + b.numel(), [&](at::Half left, at::Half right) {
    return left.x == right.x || (is_nan(left) && is_nan(right));
  });
}

struct Case {
  const char* family;
  Format format;
  std::int64_t k, group_size;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.family << " K " << c.k << " G " << c.group_size; }

class ExactSums : public testing::TestWithParam<Case> {
 protected:
  ~ExactSums() override { cpu::SetActiveIsa(before_); }
  const bool split_k_ = std::string(GetParam().family) == "gptq";
  const cpu::Isa before_ = cpu::ActiveIsa();
};

TEST_P(ExactSums, AreWhatEveryInstructionSetGives) {
  const QuantizedLinear layer =
      RandomLayer(GetParam().format, {.k = GetParam().k, .n = 200, .group_size = GetParam().group_size}, 21);
  const auto kernel = MakeInt4Matmul({GetParam().family}, layer);
  bool other_differs = false;
  for (const std::int64_t m : {1, 3, 5, 33, 67}) {
    for (const at::Tensor& x : {ManyMagnitudes(m, layer.k, 22), RandomActivations(m, layer.k, at::kHalf, 23)}) {
      const at::Tensor expected = Expected(layer, x, split_k_, BlockSum::kExact);
      // Control: another way to the same sum is seen. Halves as partial sums hide the
      // last bits of a chain, so there it is no partial sums at all.
      const at::Tensor other =
          split_k_ ? Expected(layer, x, false, BlockSum::kExact) : Expected(layer, x, false, BlockSum::kChain);
      other_differs |= !SameBits(other, expected);
      for (const cpu::Isa isa : cpu::SupportedIsas()) {
        cpu::SetActiveIsa(isa);
        EXPECT_TRUE(SameBits(kernel->ForwardOrdered(x), expected)) << cpu::NameOf(isa) << ", m = " << m;
      }
    }
  }
  EXPECT_TRUE(other_differs);
}

INSTANTIATE_TEST_SUITE_P(Kernels, ExactSums,
                         testing::Values(Case{"marlin", Format::kAwq, 512, 128}, Case{"marlin", Format::kGptq, 256, 32},
                                         Case{"awq", Format::kAwq, 384, 384}, Case{"awq", Format::kAwq, 144, 72},
                                         Case{"gptq", Format::kGptq, 512, 128}, Case{"gptq", Format::kGptq, 288, 96}),
                         [](const auto& info) {
                           return std::string(info.param.family) + "_" + std::to_string(info.param.k) + "_" +
                                  std::to_string(info.param.group_size);
                         });

// Digits weighed by their place are x again, whatever x is, and as few as can be.
TEST(Digits, AreXOnEveryInstructionSet) {
  for (const cpu::Isa isa : cpu::SupportedIsas()) {
    const cpu::Microkernels& kernels = cpu::MicrokernelsFor(isa);
    std::vector<int> seen(cpu::kMaxDigits + 1);
    const at::Tensor x = ManyMagnitudes(90, 128, 24);
    for (int r = 0; r < 90; ++r) {
      for (const int rows : {8, 72, 128}) {
        const auto* const values = reinterpret_cast<const std::uint16_t*>(x.const_data_ptr<at::Half>()) + r * 128;
        const cpu::RowInBlock row = kernels.measure(values, rows);
        ASSERT_TRUE(row.finite);
        ASSERT_GE(row.count, 1);
        ASSERT_LE(row.count, cpu::kMaxDigits);
        ++seen[static_cast<std::size_t>(row.count)];
        std::vector<std::int8_t> digits(cpu::kMaxSteps * cpu::kMaxDigits * cpu::kStepRows, 99);
        std::vector<std::int32_t> minus_sums(cpu::kMaxDigits);
        float unit = 0;
        std::int16_t place = 0;
        cpu::RowTile tile = {digits.data(), minus_sums.data(), &unit, &place, 1, 1, row.count};
        kernels.split(values, rows, row, tile, 0);
        std::vector<int> sums(cpu::kMaxDigits);
        for (int i = 0; i < rows; ++i) {
          double value = 0;
          for (int d = row.count - 1; d >= 0; --d) {
            const int digit = digits[static_cast<std::size_t>(
                (i / cpu::kStepRows * cpu::kMaxDigits + d) * cpu::kStepRows + i % cpu::kStepRows)];
            value = value * 256 + digit;
            sums[static_cast<std::size_t>(d)] += digit;
          }
          ASSERT_EQ(value * unit, static_cast<double>(static_cast<float>(x[r].const_data_ptr<at::Half>()[i])))
              << cpu::NameOf(isa) << " row " << r << " of " << rows << ", " << i;
        }
        for (int d = 0; d < row.count; ++d) {
          ASSERT_EQ(static_cast<std::int16_t>(minus_sums[static_cast<std::size_t>(d)]),
                    -sums[static_cast<std::size_t>(d)]);
        }
        for (int i = rows; i < (rows + 63) / 64 * 64; ++i) {
          ASSERT_EQ(digits[static_cast<std::size_t>(i / 64 * cpu::kMaxDigits * 64 + i % 64)], 0);
        }
      }
    }
    for (int count = 2; count <= cpu::kMaxDigits; ++count) EXPECT_GT(seen[static_cast<std::size_t>(count)], 0) << count;
  }
}

TEST(Digits, OfOneAndOfTheSmallestHalf) {
  for (const cpu::Isa isa : cpu::SupportedIsas()) {
    const cpu::Microkernels& kernels = cpu::MicrokernelsFor(isa);
    std::vector<std::uint16_t> x(8, 0);
    EXPECT_EQ(kernels.measure(x.data(), 8).count, 1);
    x[3] = 0x3C00;  // 1: one digit, whatever its place
    EXPECT_EQ(kernels.measure(x.data(), 8).lowest_bit, 24);
    EXPECT_EQ(kernels.measure(x.data(), 8).count, 1);
    x[4] = 0x8001;  // -2^-24: 25 bits
    EXPECT_EQ(kernels.measure(x.data(), 8).lowest_bit, 0);
    EXPECT_EQ(kernels.measure(x.data(), 8).count, 4);
    x[5] = 0x7BFF;  // 65504
    EXPECT_EQ(kernels.measure(x.data(), 8).count, 6);
    x[6] = 0x7C00;
    EXPECT_FALSE(kernels.measure(x.data(), 8).finite);
  }
}

}  // namespace
}  // namespace kernels
