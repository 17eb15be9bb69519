// Decode attention against float64, at every border of its division of the
// context, and its promise: one pattern of bits, whatever lies around.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "suites/model/cuda/attention_plan.h"
#include "suites/model/cuda/launch.h"
#include "tests/suites/model/device_values.h"

namespace suites::internal {
namespace {

struct Shape {
  int q_heads, kv_heads, head_dim;
};

// One problem on the device; the cache beyond the context is NaN.
class Problem {
 public:
  Problem(Precision precision, const Shape& shape, int length, int capacity, unsigned seed = 1)
      : precision_(precision),
        shape_(shape),
        length_(length),
        capacity_(capacity),
        padded_(PaddedHeadDim(shape.head_dim)),
        query_(RandomValues(precision, static_cast<std::size_t>(shape.q_heads * shape.head_dim), seed, 2)),
        keys_(Cache(seed + 1)),
        values_(Cache(seed + 2)),
        query_device_(query_),
        keys_device_(keys_),
        values_device_(values_),
        out_(query_.size(), 0xff),
        workspace_(DecodeAttentionWorkspace(precision, capacity, shape.q_heads, shape.kv_heads, padded_), 0xff),
        arrived_(static_cast<std::size_t>(shape.q_heads) * 4, 0),
        state_(BytesOf(std::vector<DecodeState>{{1, length - 1, nullptr, nullptr}})) {}

  Bytes Run(int max_length = 0) const {
    gtest_determinism::CudaMemory().Fill(out_.data(), 0xff, query_.size());
    DecodeAttentionArgs args;
    args.query = query_device_.data();
    args.keys = keys_device_.data();
    args.values = values_device_.data();
    args.out = out_.data();
    args.workspace = workspace_.as<float>();
    args.arrived = arrived_.as<std::uint32_t>();
    args.state = state_.as<DecodeState>();
    args.capacity = capacity_;
    args.max_length = max_length == 0 ? capacity_ : max_length;
    args.q_heads = shape_.q_heads;
    args.kv_heads = shape_.kv_heads;
    args.head_dim = shape_.head_dim;
    args.padded_head_dim = padded_;
    args.scale = Scale();
    LaunchDecodeAttention(precision_, args, nullptr);
    return out_.Read();
  }

  // The largest difference from float64 over what its bound allows.
  double Worst(const Bytes& out) const {
    const std::vector<float> got = Floats(precision_, out), q = Floats(precision_, query_);
    const std::vector<float> k = Floats(precision_, keys_), v = Floats(precision_, values_);
    const int group = shape_.q_heads / shape_.kv_heads;
    double worst = 0;
    for (int head = 0; head < shape_.q_heads; ++head) {
      const std::size_t origin = static_cast<std::size_t>(head / group * capacity_) * static_cast<std::size_t>(padded_);
      const float* query = q.data() + head * shape_.head_dim;
      std::vector<double> weights(static_cast<std::size_t>(length_));
      double largest = -1e300, sum = 0;
      for (int s = 0; s < length_; ++s) {
        double dot = 0;
        for (int d = 0; d < shape_.head_dim; ++d) {
          dot += static_cast<double>(query[d]) * k[origin + static_cast<std::size_t>(s * padded_ + d)];
        }
        weights[static_cast<std::size_t>(s)] = dot * static_cast<double>(Scale());
        largest = std::max(largest, weights[static_cast<std::size_t>(s)]);
      }
      for (double& weight : weights) sum += weight = std::exp(weight - largest);
      for (int d = 0; d < shape_.head_dim; ++d) {
        double exact = 0;
        for (int s = 0; s < length_; ++s) {
          exact += weights[static_cast<std::size_t>(s)] / sum * v[origin + static_cast<std::size_t>(s * padded_ + d)];
        }
        // One rounding to the type. In float32: a score of |s| <= 30 has an error
        // of (head_dim + 30) units, which is the relative error of its weight; the
        // weights sum in at most 128 + count additions; |v| <= 1.
        const double single = 2 * (shape_.head_dim + 30 + 128 + 100) * 0x1p-24;
        const double allowed = RoundingUnit(precision_) * std::abs(exact) + single;
        const double difference = std::abs(got[static_cast<std::size_t>(head * shape_.head_dim + d)] - exact);
        if (!(difference <= 1e30)) return difference;
        worst = std::max(worst, difference / allowed);
      }
    }
    return worst;
  }

 private:
  float Scale() const { return static_cast<float>(1 / std::sqrt(static_cast<double>(shape_.head_dim))); }
  Bytes Cache(unsigned seed) const {
    const std::size_t row = static_cast<std::size_t>(padded_);
    std::vector<float> all(static_cast<std::size_t>(shape_.kv_heads * capacity_) * row, std::nanf(""));
    for (int head = 0; head < shape_.kv_heads; ++head) {
      const Bytes random = RandomValues(precision_, static_cast<std::size_t>(length_) * row,
                                        seed * 100 + static_cast<unsigned>(head), 1);
      const std::vector<float> values = Floats(precision_, random);
      for (std::size_t i = 0; i < values.size(); ++i) {
        const bool pad = i % row >= static_cast<std::size_t>(shape_.head_dim);
        all[static_cast<std::size_t>(head * capacity_) * row + i] = pad ? 0.0f : values[i];
      }
    }
    return Rounded(precision_, all);
  }

  Precision precision_;
  Shape shape_;
  int length_, capacity_, padded_;
  Bytes query_, keys_, values_;
  OnDevice query_device_, keys_device_, values_device_, out_, workspace_, arrived_, state_;
};

class DecodeAttention : public testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    if (const std::string why = gtest_determinism::NoCudaDevice(); !why.empty()) GTEST_SKIP() << why;
  }
};
INSTANTIATE_TEST_SUITE_P(Precisions, DecodeAttention,
                         testing::Values(Precision::kFp16, Precision::kBf16, Precision::kFp32),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

TEST_P(DecodeAttention, AgreesWithFloat64AtEveryBorder) {
  double worst = 0;
  for (const Shape& shape : {Shape{4, 2, 64}, Shape{8, 4, 32}, Shape{8, 2, 128}}) {
    for (const int length : {1, 2, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257, 640, 2047, 2048, 2049, 2176}) {
      const Problem problem(GetParam(), shape, length, 2304);
      const double ratio = problem.Worst(problem.Run());
      ASSERT_LE(ratio, 1) << "head_dim " << shape.head_dim << " length " << length;
      worst = std::max(worst, ratio);
    }
  }
  RecordProperty("worst_of_bound", std::to_string(worst));
  EXPECT_GT(worst, 0);
}

TEST_P(DecodeAttention, TakesAnyGroupAndAnyHeadDim) {
  for (const Shape& shape : {Shape{1, 1, 128}, Shape{3, 1, 64}, Shape{5, 1, 32}, Shape{16, 2, 128}, Shape{16, 1, 64},
                             Shape{9, 1, 128}, Shape{4, 2, 96}, Shape{4, 4, 8}, Shape{6, 2, 40}, Shape{8, 1, 128}}) {
    for (const int length : {1, 100, 321}) {
      const Problem problem(GetParam(), shape, length, 512);
      EXPECT_LE(problem.Worst(problem.Run()), 1)
          << shape.q_heads << "/" << shape.kv_heads << " heads of " << shape.head_dim << ", length " << length;
    }
  }
}

// The shape of the 8B model at its context, many times and under every capacity.
TEST_P(DecodeAttention, HasOnePatternWhateverLiesAround) {
  const Shape shape{32, 8, 128};
  for (const int length : {700, 3800}) {
    const Problem problem(GetParam(), shape, length, 8192);
    const Bytes first = problem.Run();
    EXPECT_LE(problem.Worst(first), 1);
    for (int run = 0; run < 200; ++run) ASSERT_EQ(problem.Run(), first) << "run " << run;
    for (const int max_length : {length, 4096, 6000}) EXPECT_EQ(problem.Run(max_length), first) << max_length;
    const Problem smaller(GetParam(), shape, length, 4096);
    EXPECT_EQ(smaller.Run(), first) << "another capacity";
    // The control: another query has other bits.
    const Problem other(GetParam(), shape, length, 4096, 9);
    EXPECT_NE(other.Run(), first);
  }
}

// The control of the bound: a context that is one position too long or too short.
TEST_P(DecodeAttention, AWrongLengthIsSeen) {
  const Shape shape{4, 2, 64};
  const Problem problem(GetParam(), shape, 65, 128);
  const Problem shorter(GetParam(), shape, 64, 128);
  EXPECT_GT(problem.Worst(shorter.Run()), 10);
}

}  // namespace
}  // namespace suites::internal
