// Encoded layers read back by an unpacking of its own, written from the
// formulas of the formats, and compared with the weights.
#include "suites/quantize/linear_formats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "suites/quantize/half.h"

namespace suites::quantize {
namespace {

constexpr std::int64_t kGroup = 128;

// One linear layer with weights that a test chooses.
class OneLayer final : public WeightSource {
 public:
  OneLayer(std::int64_t n, std::int64_t k) : n_(n), k_(k), weights_(n * k) {
    for (std::int64_t i = 0; i < n * k; ++i) {
      // Dense in the mantissa, asymmetric, different in every row and group.
      const double wave = std::sin(static_cast<double>(i) * 1.618) + 0.3 * std::cos(static_cast<double>(i % 977));
      weights_[i] = static_cast<float>(wave * 0.01 * static_cast<double>(1 + i / k % 7 + i / kGroup % 3));
    }
  }
  const ModelConfig& config() const override { return config_; }
  const nlohmann::json& config_json() const override { return json_; }
  const std::map<std::string, std::string>& files() const override { return files_; }
  void Read(const TensorInfo& tensor, std::int64_t begin, std::int64_t end, float* out) const override {
    std::copy(weights_.begin() + begin * tensor.columns(), weights_.begin() + end * tensor.columns(), out);
  }
  TensorInfo tensor() const { return {"layer.weight", {n_, k_}, true}; }
  float& at(std::int64_t n, std::int64_t k) { return weights_[n * k_ + k]; }

 private:
  std::int64_t n_, k_;
  std::vector<float> weights_;
  ModelConfig config_;
  nlohmann::json json_;
  std::map<std::string, std::string> files_;
};

template <typename T>
std::vector<T> As(const std::vector<std::byte>& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

int Nibble(std::uint32_t word, int place) { return static_cast<int>((word >> (4 * place)) & 15); }

// A weight as stored: its value, and the ends and the step of its grid.
struct Stored {
  double value, low, high, step;
};
Stored Affine(int code, double zero, double scale, double offset = 0) {
  return {(code - zero) * scale + offset, (0 - zero) * scale + offset, (15 - zero) * scale + offset, scale};
}

using Reader = Stored (*)(const std::vector<std::vector<std::byte>>& parts, std::int64_t n, std::int64_t k,
                          std::int64_t N, std::int64_t K);

Stored ReadAwq(const std::vector<std::vector<std::byte>>& parts, std::int64_t n, std::int64_t k, std::int64_t N,
               std::int64_t) {
  // Bits 4i of word c hold output column 8c + {0,2,4,6,1,3,5,7}[i].
  const int order[] = {0, 2, 4, 6, 1, 3, 5, 7};
  const int place = static_cast<int>(std::find(order, order + 8, n % 8) - order);
  const std::int64_t g = k / kGroup;
  const int code = Nibble(As<std::uint32_t>(parts[0])[k * (N / 8) + n / 8], place);
  const int zero = Nibble(As<std::uint32_t>(parts[1])[g * (N / 8) + n / 8], place);
  return Affine(code, zero, FloatFromHalf(As<std::uint16_t>(parts[2])[g * N + n]));
}

Stored ReadGptq(const std::vector<std::vector<std::byte>>& parts, std::int64_t n, std::int64_t k, std::int64_t N,
                std::int64_t) {
  const std::int64_t g = As<std::int32_t>(parts[0])[k];
  EXPECT_EQ(g, k / kGroup);
  const int code = Nibble(As<std::uint32_t>(parts[1])[k / 8 * N + n], static_cast<int>(k % 8));
  // v1: the whole word was decremented by 0x11111111.
  const std::uint32_t zeros = As<std::uint32_t>(parts[2])[g * (N / 8) + n / 8] + 0x11111111u;
  const int zero = Nibble(zeros, static_cast<int>(n % 8));
  EXPECT_EQ(zero, 8);
  return Affine(code, zero, FloatFromHalf(As<std::uint16_t>(parts[3])[g * N + n]));
}

Stored ReadTorchao(const std::vector<std::vector<std::byte>>& parts, std::int64_t n, std::int64_t k, std::int64_t N,
                   std::int64_t K) {
  const std::int64_t padded = (K + 1023) / 1024 * 1024;
  // Word [n / 8][k / 128][t][j], t = 4 (n % 8) + (k % 16 % 8) / 2, j = k % 128 / 32;
  // bits 0, 4, 8, 12 are k steps of 8 from an even k, the upper half odd k.
  const std::int64_t within = k % 32;
  const std::int64_t t = 4 * (n % 8) + within % 8 / 2;
  const std::int64_t word = ((n / 8 * (padded / 128) + k / 128) * 32 + t) * 4 + k % 128 / 32;
  const int place = static_cast<int>(within / 8 + within % 2 * 4);
  const int code = Nibble(As<std::uint32_t>(parts[0])[word], place);
  const auto scales = As<std::uint16_t>(parts[1]);
  const std::int64_t at = (k / kGroup * N + n) * 2;
  return Affine(code, 8, FloatFromBFloat16(scales[at]), FloatFromBFloat16(scales[at + 1]));
}

Stored ReadOpenVino(const std::vector<std::vector<std::byte>>& parts, std::int64_t n, std::int64_t k, std::int64_t,
                    std::int64_t K) {
  const auto nibble = [](const std::vector<std::byte>& bytes, std::int64_t i) {
    return static_cast<int>(bytes[i / 2] >> (i % 2 * 4)) & 15;
  };
  const std::int64_t group = n * (K / kGroup) + k / kGroup;
  return Affine(nibble(parts[0], n * K + k), nibble(parts[1], group),
                FloatFromHalf(As<std::uint16_t>(parts[2])[group]));
}

Reader ReaderOf(OutputFormat format) {
  switch (format) {
    case OutputFormat::kAwq:
      return ReadAwq;
    case OutputFormat::kGptq:
      return ReadGptq;
    case OutputFormat::kTorchao:
      return ReadTorchao;
    case OutputFormat::kOpenVino:
      return ReadOpenVino;
  }
  return nullptr;
}

// How many weights are farther from what is stored than half a step, or, outside
// the grid, than its end. The step of a bfloat16 grid carries a rounding of its
// own in the sum with the zero point, hence the relative slack.
int CountFar(OutputFormat format, OneLayer& layer, const std::vector<std::vector<std::byte>>& parts) {
  const std::int64_t n_all = layer.tensor().rows(), k_all = layer.tensor().columns();
  int far = 0;
  // Every weight of some rows, and some weights of every row: As() copies.
  for (std::int64_t n = 0; n < n_all; ++n) {
    for (std::int64_t k = n % 13; k < k_all; k += n % 16 == 3 ? 7 : 61) {
      const Stored stored = ReaderOf(format)(parts, n, k, n_all, k_all);
      const double weight = layer.at(n, k);
      const double clipped = std::max({stored.low - weight, weight - stored.high, 0.0});
      far += std::abs(weight - stored.value) > std::max(stored.step / 2, clipped) + 1e-9 * stored.step;
    }
  }
  return far;
}

class EveryFormat : public testing::TestWithParam<OutputFormat> {};

TEST_P(EveryFormat, StoresEachWeightAtItsPlace) {
  // One group; a ragged last tile; K that torchao pads; several groups.
  for (const auto& [n, k] : {std::pair{8, 128}, {72, 256}, {64, 640}, {136, 1152}}) {
    SCOPED_TRACE(testing::Message() << n << " x " << k);
    OneLayer layer(n, k);
    auto parts = Encode(GetParam(), layer, layer.tensor(), kGroup, 2);
    const std::vector<TensorHeader> headers = HeadersFor(GetParam(), layer.tensor(), kGroup);
    ASSERT_EQ(parts.size(), headers.size());
    for (std::size_t i = 0; i < parts.size(); ++i) EXPECT_EQ(parts[i].size(), BytesOf(headers[i])) << headers[i].name;
    EXPECT_EQ(CountFar(GetParam(), layer, parts), 0);
  }
}

// Controls: codes of the wrong place, a wrong scale.
TEST_P(EveryFormat, AWrongPlaceIsSeen) {
  OneLayer layer(72, 256);
  const auto parts = Encode(GetParam(), layer, layer.tensor(), kGroup, 2);
  for (std::size_t part = GetParam() == OutputFormat::kGptq ? 1 : 0; part < parts.size(); ++part) {
    auto turned = parts;
    if (GetParam() == OutputFormat::kGptq && part == 2) continue;  // all zero points are 8
    std::rotate(turned[part].begin(), turned[part].begin() + 4, turned[part].end());
    EXPECT_GT(CountFar(GetParam(), layer, turned), 20) << "part " << part;
  }
}

TEST_P(EveryFormat, ThreadsDoNotChangeABit) {
  OneLayer layer(200, 384);
  const auto one = Encode(GetParam(), layer, layer.tensor(), kGroup, 1);
  EXPECT_EQ(one, Encode(GetParam(), layer, layer.tensor(), kGroup, 2));
  EXPECT_EQ(one, Encode(GetParam(), layer, layer.tensor(), kGroup, 5));
  layer.at(199, 383) += 0.5f;  // control
  EXPECT_NE(one, Encode(GetParam(), layer, layer.tensor(), kGroup, 2));
}

TEST_P(EveryFormat, SaysWhatDoesNotFit) {
  const auto error_of = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const CheckpointError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(error_of([&] {
              HeadersFor(GetParam(), {"a.weight", {8, 192}, true}, kGroup);
            }),
            "a.weight [8, 192]: its inputs are not a multiple of the group size 128");
  EXPECT_EQ(error_of([&] {
              HeadersFor(GetParam(), {"a.weight", {12, 128}, true}, kGroup);
            }),
            "a.weight [12, 128]: its outputs are not a multiple of 8");
  OneLayer layer(16, 128);
  layer.at(9, 100) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(error_of([&] { Encode(GetParam(), layer, layer.tensor(), kGroup, 2); }),
            "layer.weight: holds NaN or infinity");
  TensorInfo dense = layer.tensor();
  dense.quantized = false;
  EXPECT_EQ(error_of([&] { Encode(GetParam(), layer, dense, kGroup, 2); }), "layer.weight: holds NaN or infinity");
  layer.at(9, 100) = 70000;
  EXPECT_EQ(error_of([&] { Encode(GetParam(), layer, dense, kGroup, 2); }),
            GetParam() == OutputFormat::kTorchao ? "no error" : "layer.weight: holds a value beyond float16");
}

TEST_P(EveryFormat, DenseTensorsInHalfPrecision) {
  OneLayer layer(300, 24);
  TensorInfo dense = layer.tensor();
  dense.quantized = false;
  const auto parts = Encode(GetParam(), layer, dense, kGroup, 3);
  ASSERT_EQ(parts.size(), 1u);
  const auto bits = As<std::uint16_t>(parts[0]);
  ASSERT_EQ(bits.size(), 300u * 24);
  const bool brain = GetParam() == OutputFormat::kTorchao;
  EXPECT_EQ(HeadersFor(GetParam(), dense, kGroup)[0].dtype, brain ? "BF16" : "F16");
  for (std::int64_t i = 0; i < 300 * 24; ++i) {
    const float weight = layer.at(i / 24, i % 24);
    ASSERT_EQ(bits[i], brain ? BFloat16FromFloat(weight) : HalfFromFloat(weight)) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, EveryFormat,
                         testing::Values(OutputFormat::kAwq, OutputFormat::kGptq, OutputFormat::kTorchao,
                                         OutputFormat::kOpenVino),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

// What pads K for the tensor-core tiles must decode to zero.
TEST(Torchao, PaddingDecodesToZero) {
  OneLayer layer(16, 256);
  const auto parts = Encode(OutputFormat::kTorchao, layer, layer.tensor(), kGroup, 1);
  const auto scales = As<std::uint16_t>(parts[1]);
  const auto words = As<std::uint32_t>(parts[0]);
  ASSERT_EQ(scales.size(), 1024u / kGroup * 16 * 2);
  for (std::int64_t g = 256 / kGroup; g < 1024 / kGroup; ++g) {
    for (std::int64_t n = 0; n < 16; ++n) {
      const std::int64_t at = (g * 16 + n) * 2;
      EXPECT_EQ(-8 * FloatFromBFloat16(scales[at]) + FloatFromBFloat16(scales[at + 1]), 0);
    }
  }
  for (std::int64_t tile = 0; tile < 2; ++tile) {
    for (std::int64_t i = 2 * 128; i < 8 * 128; ++i) EXPECT_EQ(words[tile * 8 * 128 + i], 0u);
  }
}

}  // namespace
}  // namespace suites::quantize
