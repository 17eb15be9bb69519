// Each operation against float64 within a derived bound, on every instruction
// set that this CPU runs, and the same bits on all of them.
#include "suites/model/row_ops.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace suites::internal {
namespace {

std::vector<Isa> Isas() {
  std::vector<Isa> isas;
  for (const Isa isa : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512}) {
    if (isa <= BestIsa()) isas.push_back(isa);
  }
  return isas;
}

std::size_t SizeOf(Precision precision) { return precision == Precision::kFp32 ? 4 : 2; }
// Half an ulp, relative; the smallest absolute step of a subnormal result.
double UnitRoundoff(Precision precision) {
  return precision == Precision::kFp32 ? 0x1p-24 : precision == Precision::kFp16 ? 0x1p-11 : 0x1p-8;
}
double SubnormalStep(Precision precision) { return precision == Precision::kFp16 ? 0x1p-25 : 0x1p-149; }

// Values that the precision can hold, as it holds them and as float.
struct Values {
  std::vector<std::byte> stored;
  std::vector<float> exact;
  const void* data() const { return stored.data(); }
};
Values MakeValues(Precision precision, std::size_t n, std::uint32_t seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  Values values;
  values.exact.resize(n);
  for (float& value : values.exact) value = normal(generator);
  values.stored.resize(n * SizeOf(precision));
  const RowOps& ops = RowOpsBaseline(precision);
  ops.from_float(values.exact.data(), values.stored.data(), static_cast<std::int64_t>(n));
  ops.to_float(values.stored.data(), values.exact.data(), static_cast<std::int64_t>(n));
  return values;
}
std::vector<float> ToFloats(Precision precision, const std::vector<std::byte>& stored) {
  std::vector<float> values(stored.size() / SizeOf(precision));
  RowOpsBaseline(precision).to_float(stored.data(), values.data(), static_cast<std::int64_t>(values.size()));
  return values;
}

class RowOpsTest : public testing::TestWithParam<Precision> {
 protected:
  // Runs `fill` with the table of each instruction set into a poisoned buffer of
  // `n` elements between sentinels; returns the elements as floats.
  std::vector<float> OnEveryIsa(std::size_t n, const std::function<void(const RowOps&, void*)>& fill) {
    constexpr std::size_t kFence = 64;
    std::vector<std::byte> first;
    for (const Isa isa : Isas()) {
      std::vector<std::byte> buffer(n * SizeOf(GetParam()) + 2 * kFence, std::byte{0xa5});
      fill(RowOpsFor(GetParam(), isa), buffer.data() + kFence);
      for (std::size_t i = 0; i < kFence; ++i) {
        EXPECT_EQ(buffer[i], std::byte{0xa5}) << "written before the output, byte " << i;
        EXPECT_EQ(buffer[buffer.size() - 1 - i], std::byte{0xa5}) << "written after the output";
      }
      std::vector<std::byte> out(buffer.begin() + kFence, buffer.end() - kFence);
      if (first.empty()) first = out;
      EXPECT_EQ(out, first) << "instruction set " << static_cast<int>(isa) << " gives other bits than the baseline";
    }
    return ToFloats(GetParam(), first);
  }
};

std::string PrecisionName(const testing::TestParamInfo<Precision>& info) {
  return info.param == Precision::kFp16 ? "fp16" : info.param == Precision::kBf16 ? "bf16" : "fp32";
}
INSTANTIATE_TEST_SUITE_P(Precisions, RowOpsTest, testing::Values(Precision::kFp16, Precision::kBf16, Precision::kFp32),
                         PrecisionName);

// Lengths: below, at and above a vector of 16, and a real row.
constexpr std::int64_t kLengths[] = {1, 15, 16, 17, 48, 100, 256};

TEST(RowOpsConversion, EveryHalfWidensAsC10Does) {
  for (const Isa isa : Isas()) {
    std::vector<std::uint16_t> halves(65536);
    for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
    std::vector<float> fp16(halves.size());
    std::vector<float> bf16(halves.size());
    RowOpsFor(Precision::kFp16, isa).to_float(halves.data(), fp16.data(), 65536);
    RowOpsFor(Precision::kBf16, isa).to_float(halves.data(), bf16.data(), 65536);
    for (std::size_t i = 0; i < halves.size(); ++i) {
      const float half = c10::Half(halves[i], c10::Half::from_bits());
      const float brain = c10::BFloat16(halves[i], c10::BFloat16::from_bits());
      if (std::isnan(half)) {
        ASSERT_TRUE(std::isnan(fp16[i])) << i;
      } else {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(fp16[i]), std::bit_cast<std::uint32_t>(half)) << i;
      }
      if (std::isnan(brain)) {
        ASSERT_TRUE(std::isnan(bf16[i])) << i;
      } else {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(bf16[i]), std::bit_cast<std::uint32_t>(brain)) << i;
      }
    }
  }
}

TEST(RowOpsConversion, FloatsNarrowToNearestEvenAsC10Does) {
  std::vector<float> floats;
  // The neighbourhood of every half: itself, the ties to both sides, and a step beyond.
  for (std::uint32_t i = 0; i < 0x7c00u; ++i) {
    const float value = c10::Half(static_cast<std::uint16_t>(i), c10::Half::from_bits());
    const float next =
        i + 1 == 0x7c00u ? 65536.0f : float(c10::Half(static_cast<std::uint16_t>(i + 1), c10::Half::from_bits()));
    const float tie = (value + next) / 2;
    for (const float x : {value, tie, std::nextafter(tie, 0.0f), std::nextafter(tie, 1e30f)}) {
      floats.push_back(x);
      floats.push_back(-x);
    }
  }
  std::mt19937 generator(1);
  for (int i = 0; i < 200000; ++i) floats.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(generator())));
  const float infinity = std::numeric_limits<float>::infinity();
  floats.insert(floats.end(), {infinity, -infinity, std::nanf(""), 3.4e38f, -3.4e38f, 1e-45f});
  const auto n = static_cast<std::int64_t>(floats.size());
  for (const Isa isa : Isas()) {
    std::vector<std::uint16_t> fp16(floats.size());
    std::vector<std::uint16_t> bf16(floats.size());
    RowOpsFor(Precision::kFp16, isa).from_float(floats.data(), fp16.data(), n);
    RowOpsFor(Precision::kBf16, isa).from_float(floats.data(), bf16.data(), n);
    for (std::size_t i = 0; i < floats.size(); ++i) {
      if (std::isnan(floats[i])) {
        ASSERT_TRUE(std::isnan(float(c10::Half(fp16[i], c10::Half::from_bits()))));
        ASSERT_TRUE(std::isnan(float(c10::BFloat16(bf16[i], c10::BFloat16::from_bits()))));
        continue;
      }
      ASSERT_EQ(fp16[i], c10::Half(floats[i]).x) << floats[i];
      ASSERT_EQ(bf16[i], c10::BFloat16(floats[i]).x) << floats[i];
    }
  }
}

TEST_P(RowOpsTest, RmsNorm) {
  const double u = UnitRoundoff(GetParam());
  for (const std::int64_t n : kLengths) {
    const Values x = MakeValues(GetParam(), static_cast<std::size_t>(n), 2);
    const Values weight = MakeValues(GetParam(), static_cast<std::size_t>(n), 3);
    const auto y = OnEveryIsa(static_cast<std::size_t>(n), [&](const RowOps& ops, void* out) {
      ops.rms_norm(x.data(), weight.data(), out, n, 1e-6f);
    });
    double squares = 0;
    for (const float value : x.exact) squares += static_cast<double>(value) * value;
    const double inverse = 1.0 / std::sqrt(squares / static_cast<double>(n) + 1e-6);
    for (std::size_t i = 0; i < y.size(); ++i) {
      const double expected = weight.exact[i] * (x.exact[i] * inverse);
      // Two roundings to the type, and in float32: n/16 + 4 additions of squares
      // (halved by the root), a division, an addition, a root, a product.
      const double bound = std::abs(expected) * (2.1 * u + (static_cast<double>(n) / 32 + 8) * 0x1p-24) +
                           (1 + std::abs(weight.exact[i])) * SubnormalStep(GetParam());
      ASSERT_NEAR(y[i], expected, bound) << "n " << n << " element " << i;
    }
  }
}

TEST_P(RowOpsTest, Add) {
  for (const std::int64_t n : kLengths) {
    const Values a = MakeValues(GetParam(), static_cast<std::size_t>(n), 4);
    const Values b = MakeValues(GetParam(), static_cast<std::size_t>(n), 5);
    const auto y = OnEveryIsa(static_cast<std::size_t>(n),
                              [&](const RowOps& ops, void* out) { ops.add(a.data(), b.data(), out, n); });
    for (std::size_t i = 0; i < y.size(); ++i) {
      const double expected = static_cast<double>(a.exact[i]) + b.exact[i];
      ASSERT_NEAR(y[i], expected, std::abs(expected) * 1.01 * UnitRoundoff(GetParam())) << i;
    }
  }
}

TEST_P(RowOpsTest, SiluMulFromVerySmallToVeryLarge) {
  for (const float scale : {1e-3f, 1.0f, 10.0f, 60.0f}) {
    const std::int64_t n = 1000;
    const Values gate = MakeValues(GetParam(), 1000, 6, scale);
    const Values up = MakeValues(GetParam(), 1000, 7);
    const auto y =
        OnEveryIsa(1000, [&](const RowOps& ops, void* out) { ops.silu_mul(gate.data(), up.data(), out, n); });
    for (std::size_t i = 0; i < y.size(); ++i) {
      const double g = gate.exact[i];
      const double expected = g / (1 + std::exp(-g)) * up.exact[i];
      // Two roundings to the type. exp: the argument's error is 2 ulp of float32 at
      // most after the reduction, the polynomial's evaluation 8 more; an addition
      // and a division. exp(-g) ends at e^88: below, silu is less than 1e-36.
      const double bound = std::abs(expected) * (2.1 * UnitRoundoff(GetParam()) + 14 * 0x1p-24) +
                           (1 + std::abs(up.exact[i])) * SubnormalStep(GetParam()) + 1e-36 * std::abs(g * up.exact[i]);
      ASSERT_NEAR(y[i], expected, bound) << "gate " << g << " up " << up.exact[i];
    }
  }
}

TEST_P(RowOpsTest, SiluMulKeepsNotANumberAndInfinity) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> gate = {std::nanf(""), infinity, -1e4f, 0.0f};
  std::vector<std::byte> stored(4 * SizeOf(GetParam()));
  std::vector<std::byte> ones(stored.size());
  const std::vector<float> one(4, 1.0f);
  RowOpsBaseline(GetParam()).from_float(gate.data(), stored.data(), 4);
  RowOpsBaseline(GetParam()).from_float(one.data(), ones.data(), 4);
  for (const Isa isa : Isas()) {
    std::vector<std::byte> out(stored.size());
    RowOpsFor(GetParam(), isa).silu_mul(stored.data(), ones.data(), out.data(), 4);
    const auto y = ToFloats(GetParam(), out);
    EXPECT_TRUE(std::isnan(y[0]));
    EXPECT_EQ(y[1], infinity);
    EXPECT_NEAR(y[2], 0.0, 1e-30);
    EXPECT_EQ(y[3], 0.0f);
  }
}

TEST_P(RowOpsTest, RopeRotatesTheHalvesAgainstEachOther) {
  for (const std::int64_t half : {3, 16, 32, 64}) {
    const auto n = static_cast<std::size_t>(2 * half);
    const Values x = MakeValues(GetParam(), n, 8);
    std::vector<float> cosine, sine;
    for (std::int64_t i = 0; i < half; ++i) {
      cosine.push_back(std::cos(0.3f * static_cast<float>(i + 1)));
      sine.push_back(std::sin(0.3f * static_cast<float>(i + 1)));
    }
    const auto y = OnEveryIsa(n, [&](const RowOps& ops, void* out) {
      std::memcpy(out, x.data(), x.stored.size());
      ops.rope(out, cosine.data(), sine.data(), half);
    });
    for (std::int64_t i = 0; i < half; ++i) {
      const auto low = static_cast<std::size_t>(i);
      const auto high = static_cast<std::size_t>(i + half);
      const double c = cosine[low], s = sine[low];
      const double a = x.exact[low], b = x.exact[high];
      // Each product rounded, then their sum.
      const double bound = 2.1 * UnitRoundoff(GetParam()) * (std::abs(a) + std::abs(b)) + 3 * SubnormalStep(GetParam());
      ASSERT_NEAR(y[low], a * c - b * s, bound) << i;
      ASSERT_NEAR(y[high], b * c + a * s, bound) << i;
    }
  }
}

TEST_P(RowOpsTest, LinearAgainstFloat64WithRaggedColumnsAndK) {
  const std::int64_t rows = 7, columns = 11;
  for (const std::int64_t k : {5, 16, 100, 256}) {
    const Values x = MakeValues(Precision::kFp32, static_cast<std::size_t>(rows * k), 9);
    const Values w = MakeValues(GetParam(), static_cast<std::size_t>(columns * k), 10);
    const auto y = OnEveryIsa(static_cast<std::size_t>(rows * columns), [&](const RowOps& ops, void* out) {
      ops.linear(x.exact.data(), rows, k, w.data(), columns, out, columns);
    });
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        double expected = 0, absolute = 0;
        for (std::int64_t i = 0; i < k; ++i) {
          const double product = static_cast<double>(x.exact[static_cast<std::size_t>(r * k + i)]) *
                                 w.exact[static_cast<std::size_t>(c * k + i)];
          expected += product;
          absolute += std::abs(product);
        }
        // Products rounded, ceil(k / 16) + 4 additions on the longest path; then the type.
        const double terms = static_cast<double>((k + 15) / 16 + 5);
        const double bound = absolute * terms * 0x1p-24 * 1.01 + std::abs(expected) * UnitRoundoff(GetParam()) +
                             SubnormalStep(GetParam());
        ASSERT_NEAR(y[static_cast<std::size_t>(r * columns + c)], expected, bound) << r << ", " << c << " k " << k;
      }
    }
  }
}

// Queries, keys and values of a small attention, and its result by each table.
struct AttentionCase {
  std::int64_t rows, past, group, kv_heads, head_dim;
};

class AttentionProblem {
 public:
  AttentionProblem(Precision precision, const AttentionCase& c)
      : precision_(precision),
        case_(c),
        length_(c.past + c.rows),
        capacity_((length_ + 15) / 16 * 16 + 16),
        padded_((c.head_dim + 15) / 16 * 16),
        query(MakeValues(precision, static_cast<std::size_t>(c.rows * c.group * c.kv_heads * c.head_dim), 11)),
        key(MakeValues(precision, static_cast<std::size_t>(length_ * c.kv_heads * c.head_dim), 12)),
        value(MakeValues(precision, static_cast<std::size_t>(length_ * c.kv_heads * c.head_dim), 13)) {
    // What is not yet written is NaN: it must not reach a result.
    keys_.assign(static_cast<std::size_t>(c.kv_heads * capacity_ * c.head_dim) * SizeOf(precision), std::byte{0xff});
    values_.assign(static_cast<std::size_t>(c.kv_heads * capacity_ * padded_) * SizeOf(precision), std::byte{0xff});
    for (std::int64_t s = 0; s < length_; ++s) Store(s, key.stored, value.stored);
  }
  void Store(std::int64_t s, const std::vector<std::byte>& k, const std::vector<std::byte>& v) {
    const auto element = static_cast<std::int64_t>(SizeOf(precision_));
    for (std::int64_t h = 0; h < case_.kv_heads; ++h) {
      const std::int64_t offset = (s * case_.kv_heads + h) * case_.head_dim * element;
      RowOpsBaseline(precision_)
          .store_key_value(k.data() + offset, v.data() + offset,
                           keys_.data() + h * capacity_ * case_.head_dim * element,
                           values_.data() + h * capacity_ * padded_ * element, s, case_.head_dim, padded_);
    }
  }
  void Run(const RowOps& ops, void* out, std::int64_t tile) const {
    AttentionArgs args;
    args.query = query.data();
    args.query_stride = args.out_stride = case_.group * case_.kv_heads * case_.head_dim;
    args.keys = keys_.data();
    args.values = values_.data();
    args.capacity = capacity_;
    args.head_dim = case_.head_dim;
    args.padded_head_dim = padded_;
    args.group = case_.group;
    args.past = case_.past;
    args.scale = Scale();
    args.out = out;
    std::vector<float> scratch(static_cast<std::size_t>(AttentionScratch(args)));
    const std::int64_t lines = case_.rows * case_.group;
    for (std::int64_t h = 0; h < case_.kv_heads; ++h) {
      for (std::int64_t first = 0; first < lines; first += tile) {
        ops.attention(args, h, first, std::min(tile, lines - first), scratch.data());
      }
    }
  }
  float Scale() const { return 1.0f / std::sqrt(static_cast<float>(case_.head_dim)); }
  std::size_t size() const { return query.exact.size(); }

  Precision precision_;
  AttentionCase case_;
  std::int64_t length_, capacity_, padded_;
  Values query, key, value;
  std::vector<std::byte> keys_, values_;
};

TEST_P(RowOpsTest, AttentionAgainstFloat64) {
  const AttentionCase cases[] = {
      {1, 0, 1, 1, 16},    // one position: the value itself
      {1, 36, 2, 2, 64},   // a decode step of the embedded model
      {13, 0, 2, 2, 64},   // a prefill with a ragged last tile
      {5, 70, 4, 1, 128},  // a later chunk
      {6, 3, 3, 1, 24},    // a head that is no multiple of 16, a group that is no power of two
  };
  for (const AttentionCase& c : cases) {
    const AttentionProblem problem(GetParam(), c);
    const auto y = OnEveryIsa(problem.size(), [&](const RowOps& ops, void* out) { problem.Run(ops, out, 8); });
    for (std::int64_t r = 0; r < c.rows; ++r) {
      for (std::int64_t head = 0; head < c.group * c.kv_heads; ++head) {
        const std::int64_t length = c.past + r + 1;
        const std::int64_t q0 = (r * c.group * c.kv_heads + head) * c.head_dim;
        auto kv0 = [&](std::int64_t s) { return (s * c.kv_heads + head / c.group) * c.head_dim; };
        std::vector<double> weight(static_cast<std::size_t>(length));
        double largest = -1e30, score_absolute = 0;
        for (std::int64_t s = 0; s < length; ++s) {
          double dot = 0, absolute = 0;
          for (std::int64_t d = 0; d < c.head_dim; ++d) {
            const double product = static_cast<double>(problem.query.exact[static_cast<std::size_t>(q0 + d)]) *
                                   problem.key.exact[static_cast<std::size_t>(kv0(s) + d)];
            dot += product;
            absolute += std::abs(product);
          }
          weight[static_cast<std::size_t>(s)] = dot * problem.Scale();
          largest = std::max(largest, weight[static_cast<std::size_t>(s)]);
          score_absolute = std::max(score_absolute, absolute * problem.Scale());
        }
        double sum = 0;
        for (double& w : weight) sum += (w = std::exp(w - largest));
        for (std::int64_t d = 0; d < c.head_dim; ++d) {
          double expected = 0, absolute = 0;
          for (std::int64_t s = 0; s < length; ++s) {
            const double term =
                weight[static_cast<std::size_t>(s)] / sum * problem.value.exact[static_cast<std::size_t>(kv0(s) + d)];
            expected += term;
            absolute += std::abs(term);
          }
          // A score's error is (head_dim + 2) ulp of the sum of its terms, also of the
          // maximum; it becomes relative in the exponential (10 ulp more), above and
          // below the line; then `length` additions and the division; then the type.
          const double score_error = 2 * static_cast<double>(c.head_dim + 2) * score_absolute + 2 * std::abs(largest);
          const double relative = (2 * (score_error + 10) + static_cast<double>(2 * length + 8)) * 0x1p-24;
          const double bound =
              absolute * relative + std::abs(expected) * UnitRoundoff(GetParam()) + SubnormalStep(GetParam());
          ASSERT_NEAR(y[static_cast<std::size_t>(q0 + d)], expected, bound)
              << "row " << r << " head " << head << " d " << d << " head_dim " << c.head_dim;
        }
      }
    }
  }
}

TEST_P(RowOpsTest, AttentionOfALineDoesNotDependOnItsTile) {
  const AttentionProblem problem(GetParam(), {13, 20, 2, 2, 64});
  std::vector<std::byte> by_eight(problem.size() * SizeOf(GetParam()));
  problem.Run(RowOpsFor(GetParam()), by_eight.data(), 8);
  for (const std::int64_t tile : {1, 2, 3, 7}) {
    std::vector<std::byte> out(by_eight.size());
    problem.Run(RowOpsFor(GetParam()), out.data(), tile);
    EXPECT_EQ(out, by_eight) << "tiles of " << tile;
  }
}

TEST_P(RowOpsTest, AttentionDoesNotSeeWhatComesLater) {
  AttentionProblem problem(GetParam(), {13, 20, 2, 1, 64});
  const std::size_t row_bytes = 2 * 64 * SizeOf(GetParam());
  std::vector<std::byte> before(problem.size() * SizeOf(GetParam()));
  problem.Run(RowOpsFor(GetParam()), before.data(), 8);
  // Position 30 (row 10) turns to NaN.
  const std::vector<std::byte> nan(problem.key.stored.size(), std::byte{0xff});
  problem.Store(30, nan, nan);
  std::vector<std::byte> after(before.size());
  problem.Run(RowOpsFor(GetParam()), after.data(), 8);
  EXPECT_EQ(std::memcmp(before.data(), after.data(), 10 * row_bytes), 0) << "a row before it changed";
  EXPECT_TRUE(std::isnan(ToFloats(GetParam(), after)[10 * 128])) << "its own row did not";  // the control
}

}  // namespace
}  // namespace suites::internal
