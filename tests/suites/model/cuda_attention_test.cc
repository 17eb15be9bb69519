// Decode attention against float64, at every border of its division of the
// context, and its promise: one pattern of bits, whatever lies around.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
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

// The rows of q, k and v, rotated and attended in one launch: the bits of the two.
void CheckFused(Precision precision, const std::vector<Shape>& shapes, const std::vector<int>& lengths, int capacity) {
  for (const Shape& shape : shapes) {
    const int padded = PaddedHeadDim(shape.head_dim);
    const int heads = shape.q_heads + 2 * shape.kv_heads;
    const Bytes qkv = RandomValues(precision, static_cast<std::size_t>(heads * shape.head_dim), 21, 2);
    const Bytes norm = RandomValues(precision, static_cast<std::size_t>(shape.head_dim), 22);
    const OnDevice qkv_device(qkv), norm_device(norm);
    for (const int length : lengths) {
      SCOPED_TRACE(std::to_string(shape.head_dim) + " " + std::to_string(length));
      std::vector<float> angles(static_cast<std::size_t>(capacity * shape.head_dim / 2));
      for (std::size_t i = 0; i < angles.size(); ++i) angles[i] = std::cos(static_cast<float>(i));
      const OnDevice cosine(BytesOf(Floats(precision, Rounded(precision, angles))));
      const std::size_t element = ElementBytes(precision);
      const std::size_t cache = static_cast<std::size_t>(shape.kv_heads * capacity * padded) * element;
      // Behind the context NaN, before the position what was there before.
      std::vector<float> before(cache / element, std::nanf(""));
      for (int head = 0; head < shape.kv_heads; ++head) {
        for (int e = 0; e < (length - 1) * padded; ++e) {
          const int at = head * capacity * padded + e;
          before[static_cast<std::size_t>(at)] =
              e % padded < shape.head_dim ? static_cast<float>((at * 2654435761u >> 9) % 1000) / 500 - 1 : 0.0f;
        }
      }
      const Bytes begin = Rounded(precision, before);
      const OnDevice state(BytesOf(std::vector<DecodeState>{{1, length - 1, nullptr, nullptr}}));
      Bytes rotated[3], out[3], keys_after[3], values_after[3];
      for (const int way : {0, 1, 2}) {  // the two, at once, and with another key
        Bytes input = qkv;
        if (way == 2) {  // the sign of its first element
          input[static_cast<std::size_t>(shape.q_heads * shape.head_dim + 1) * element - 1] ^= std::byte{0x80};
        }
        const OnDevice input_device(input), keys(begin), values(begin);
        const OnDevice rotated_device(qkv.size(), 0xff);
        const OnDevice out_device(static_cast<std::size_t>(shape.q_heads * shape.head_dim) * element, 0xff);
        const OnDevice workspace(DecodeAttentionWorkspace(precision, capacity, shape.q_heads, shape.kv_heads, padded),
                                 0xff);
        const OnDevice arrived(static_cast<std::size_t>(shape.q_heads) * 4, 0);
        RopeArgs rope;
        rope.qkv = input_device.data();
        rope.out = rotated_device.data();
        rope.keys = keys.data();
        rope.values = values.data();
        rope.q_norm = rope.k_norm = norm_device.data();
        rope.cosine = rope.sine = cosine.as<float>();
        rope.state = state.as<DecodeState>();
        rope.rows = 1;
        rope.capacity = capacity;
        rope.q_heads = shape.q_heads;
        rope.kv_heads = shape.kv_heads;
        rope.head_dim = shape.head_dim;
        rope.padded_head_dim = padded;
        rope.eps = 1e-6f;
        DecodeAttentionArgs args;
        args.query = rope.out;
        args.keys = keys.data();
        args.values = values.data();
        args.out = out_device.data();
        args.workspace = workspace.as<float>();
        args.arrived = arrived.as<std::uint32_t>();
        args.state = rope.state;
        args.capacity = capacity;
        args.max_length = capacity;
        args.q_heads = shape.q_heads;
        args.kv_heads = shape.kv_heads;
        args.head_dim = shape.head_dim;
        args.padded_head_dim = padded;
        args.scale = 0.1f;
        if (way == 0) {
          LaunchRope(precision, rope, nullptr);
          LaunchDecodeAttention(precision, args, nullptr);
        } else {
          LaunchRopeAttention(precision, rope, args, nullptr);
        }
        rotated[way] = rotated_device.Read();
        out[way] = out_device.Read();
        keys_after[way] = keys.Read();
        values_after[way] = values.Read();
      }
      EXPECT_EQ(rotated[1], rotated[0]);
      EXPECT_EQ(out[1], out[0]);
      EXPECT_EQ(keys_after[1], keys_after[0]);
      EXPECT_EQ(values_after[1], values_after[0]);
      EXPECT_NE(keys_after[0], begin);
      // The control. A context of one attends to its own value whatever its key is.
      EXPECT_NE(rotated[2], rotated[0]);
      if (length > 1) {
        EXPECT_NE(out[2], out[0]);
      }
    }
  }
}

TEST_P(DecodeAttention, FusedWithTheRotationHasTheBitsOfTheTwo) {
  CheckFused(GetParam(), {{4, 2, 64}, {8, 4, 32}, {32, 8, 128}, {3, 1, 96}, {16, 1, 64}},
             {1, 2, 16, 17, 128, 129, 700, 1025}, 1088);
}

// What a device without clusters of blocks does, and one whose blocks have too little
// shared memory for tensor cores.
struct LimitedAttention {
  explicit LimitedAttention(const DeviceLimits& limits) { LimitAttention(limits); }
  ~LimitedAttention() { LimitAttention({}); }
};
constexpr DeviceLimits kNoClusters{.clusters = false};
constexpr DeviceLimits kSmallBlocks{.block_bytes = std::size_t{99} << 10};

TEST_P(DecodeAttention, GoesTheWaysOfLesserDevices) {
  int with_other_bits = 0;
  for (const Shape& shape : {Shape{8, 2, 128}, Shape{32, 8, 128}, Shape{3, 1, 64}, Shape{16, 2, 96}}) {
    for (const int length : {1, 15, 16, 129, 1000, 2100}) {
      const Problem problem(GetParam(), shape, length, 2304);
      const Bytes whole = problem.Run();
      {
        const LimitedAttention limited(kNoClusters);
        EXPECT_EQ(problem.Run(), whole) << "the same sums in the same order, length " << length;
      }
      const LimitedAttention limited(kSmallBlocks);
      const Problem small(GetParam(), shape, length, 2304);  // its workspace is larger
      const Bytes by_chunks = small.Run();
      EXPECT_LE(small.Worst(by_chunks), 1) << shape.head_dim << ", length " << length;
      for (int run = 0; run < 5; ++run) ASSERT_EQ(small.Run(), by_chunks);
      with_other_bits += by_chunks != whole ? 1 : 0;
    }
  }
  // The control: it was another way.
  EXPECT_EQ(with_other_bits > 0, GetParam() != Precision::kFp32);
  for (const DeviceLimits& limits : {kNoClusters, kSmallBlocks}) {
    const LimitedAttention limited(limits);
    CheckFused(GetParam(), {{8, 2, 128}, {4, 2, 64}}, {1, 17, 700}, 768);
  }
}

// Every instance of the kernels on a short context: what compute-sanitizer runs.
TEST_P(DecodeAttention, SanitizedShapes) {
  for (const DeviceLimits& limits : {DeviceLimits(), kNoClusters, kSmallBlocks}) {
    const LimitedAttention limited(limits);
    for (const int head_dim : {24, 64, 128}) {
      for (const int group : {1, 2, 4, 9}) {
        const Problem problem(GetParam(), {group, 1, head_dim}, 150, 192);
        EXPECT_LE(problem.Worst(problem.Run()), 1) << group << " heads of " << head_dim;
      }
    }
    CheckFused(GetParam(), {{8, 2, 128}, {2, 1, 64}, {2, 1, 24}}, {1, 150}, 192);
  }
}

// The control of the bound: a context that is one position too long or too short.
TEST_P(DecodeAttention, AWrongLengthIsSeen) {
  const Shape shape{4, 2, 64};
  const Problem problem(GetParam(), shape, 65, 128);
  const Problem shorter(GetParam(), shape, 64, 128);
  EXPECT_GT(problem.Worst(shorter.Run()), 10);
}

// A prompt's attention, rows that follow others too; the cache beyond is NaN.
class PromptAttention : public testing::TestWithParam<Precision> {
 protected:
  static constexpr int kQueryHeads = 8, kKeyHeads = 2, kDim = 128, kCapacity = 640;
  static constexpr int kStride = (kQueryHeads + 2 * kKeyHeads) * kDim;

  void SetUp() override {
    if (const std::string why = gtest_determinism::NoCudaDevice(); !why.empty()) GTEST_SKIP() << why;
    if (!AttendsPromptsItself(GetParam(), kDim)) GTEST_SKIP() << "no sm_90, or no code for sm_90a in this build";
    query_ = RandomValues(GetParam(), static_cast<std::size_t>(kCapacity) * kStride, 31, 2);
    keys_ = RandomValues(GetParam(), static_cast<std::size_t>(kKeyHeads * kCapacity) * kDim, 32, 1);
    values_ = RandomValues(GetParam(), keys_.size() / 2, 33, 1);
  }
  // Rows past ... past + rows - 1.
  Bytes Run(int past, int rows) const {
    Bytes keys = keys_, values = values_;
    const std::size_t row = kDim * 2;
    for (int head = 0; head < kKeyHeads; ++head) {
      for (Bytes* cache : {&keys, &values}) {
        const auto first = cache->begin() +
                           static_cast<std::ptrdiff_t>(static_cast<std::size_t>(head * kCapacity + past + rows) * row);
        std::fill(first, first + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(kCapacity - past - rows) * row),
                  std::byte{0xff});
      }
    }
    const OnDevice query(query_), keys_device(keys), values_device(values);
    const OnDevice out(static_cast<std::size_t>(rows) * kQueryHeads * row, 0xff);
    PrefillAttentionArgs args;
    args.query = query.as<std::byte>() + static_cast<std::size_t>(past) * kStride * 2;
    args.keys = keys_device.data();
    args.values = values_device.data();
    args.out = out.data();
    args.query_stride = kStride;
    args.rows = rows;
    args.past = past;
    args.capacity = kCapacity;
    args.q_heads = kQueryHeads;
    args.kv_heads = kKeyHeads;
    args.scale = 0.125f;
    LaunchPrefillAttention(GetParam(), args, nullptr);
    return out.Read();
  }
  // The largest difference from float64 over what its bound allows, the mask moved by `shift`.
  double Worst(const Bytes& out, int past, int rows, int shift = 0) const {
    const std::vector<float> got = Floats(GetParam(), out), q = Floats(GetParam(), query_);
    const std::vector<float> k = Floats(GetParam(), keys_), v = Floats(GetParam(), values_);
    double worst = 0;
    for (int row = 0; row < rows; row += row < 4 || row > rows - 5 ? 1 : 13) {
      for (int head = 0; head < kQueryHeads; head += 3) {
        const std::size_t origin = static_cast<std::size_t>(head / 4 * kCapacity) * kDim;
        const int length = past + row + 1 + shift;
        std::vector<double> weights(static_cast<std::size_t>(length));
        double largest = -1e300, sum = 0;
        for (int s = 0; s < length; ++s) {
          double dot = 0;
          for (int d = 0; d < kDim; ++d) {
            dot += static_cast<double>(q[static_cast<std::size_t>((past + row) * kStride + head * kDim + d)]) *
                   k[origin + static_cast<std::size_t>(s * kDim + d)];
          }
          weights[static_cast<std::size_t>(s)] = dot * 0.125;
          largest = std::max(largest, weights[static_cast<std::size_t>(s)]);
        }
        for (double& weight : weights) sum += weight = std::exp(weight - largest);
        for (int d = 0; d < kDim; ++d) {
          double exact = 0, size = 0;
          for (int s = 0; s < length; ++s) {
            const double part =
                weights[static_cast<std::size_t>(s)] / sum * v[origin + static_cast<std::size_t>(s * kDim + d)];
            exact += part;
            size += std::abs(part);
          }
          // A rounding of the result and one of each weight to the type; in float32
          // what DecodeAttention allows, over at most 640 positions. Weights of fp16
          // below its normal numbers round by 2^-25 each, over a sum of at least 1.
          const double unit = RoundingUnit(GetParam());
          const double allowed = unit * (std::abs(exact) + size) + 2 * (kDim + 30 + 640) * 0x1p-24 + 640 * 0x1p-25;
          const double difference =
              std::abs(got[static_cast<std::size_t>((row * kQueryHeads + head) * kDim + d)] - exact);
          if (!(difference <= 1e30)) return difference;
          worst = std::max(worst, difference / allowed);
        }
      }
    }
    return worst;
  }

  Bytes query_, keys_, values_;
};
INSTANTIATE_TEST_SUITE_P(Precisions, PromptAttention, testing::Values(Precision::kFp16, Precision::kBf16),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

TEST_P(PromptAttention, AgreesWithFloat64AtEveryBorder) {
  for (const int rows : {1, 2, 15, 16, 63, 64, 65, 127, 128, 129, 192, 257, 400}) {
    const Bytes out = Run(0, rows);
    EXPECT_LE(Worst(out, 0, rows), 1) << rows;
    for (int run = 0; run < 20; ++run) ASSERT_EQ(Run(0, rows), out) << rows << " rows, run " << run;
  }
  for (const auto& [past, rows] : {std::pair{1, 1}, {5, 64}, {64, 128}, {100, 70}, {127, 2}, {128, 128}, {300, 300}}) {
    const Bytes out = Run(past, rows);
    EXPECT_LE(Worst(out, past, rows), 1) << rows << " rows after " << past;
    // The controls: a mask that is one off, to either side.
    EXPECT_GT(Worst(out, past, rows, -1), 1) << rows << " rows after " << past;
    EXPECT_GT(Worst(out, past, rows, 1), 1) << rows << " rows after " << past;
  }
}

TEST_P(PromptAttention, SanitizedShapes) {
  EXPECT_LE(Worst(Run(0, 300), 0, 300), 1);  // each stage of the ring again, and whole tiles
  EXPECT_LE(Worst(Run(37, 70), 37, 70), 1);
}

TEST_P(PromptAttention, ARowIsTheSameWhateverOtherRowsThereAre) {
  const Bytes whole = Run(0, 500);
  const std::ptrdiff_t row = kQueryHeads * kDim * 2;
  for (const auto& [past, rows] : {std::pair{0, 1}, {0, 77}, {1, 499}, {64, 100}, {499, 1}, {130, 257}}) {
    const Bytes part = Run(past, rows);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + past * row)) << rows << " rows after " << past;
  }
  // The control.
  EXPECT_FALSE(std::equal(whole.begin(), whole.begin() + row, whole.begin() + row));
}

}  // namespace
}  // namespace suites::internal
