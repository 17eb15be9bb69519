// Each kernel of the GPU engine alone: against the CPU's arithmetic in bits where
// the order of sums is no matter, else against float64.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gtest_determinism/digest.h"
#include "suites/model/cuda/attention_plan.h"
#include "suites/model/cuda/launch.h"
#include "suites/model/generation.h"
#include "tests/suites/model/device_values.h"

namespace suites::internal {
namespace {

class CudaKernels : public testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    if (const std::string why = gtest_determinism::NoCudaDevice(); !why.empty()) GTEST_SKIP() << why;
  }
  Precision precision() const { return GetParam(); }
  Bytes Random(std::size_t count, unsigned seed, float scale = 1) const {
    return RandomValues(GetParam(), count, seed, scale);
  }
};
INSTANTIATE_TEST_SUITE_P(Precisions, CudaKernels, testing::Values(Precision::kFp16, Precision::kBf16, Precision::kFp32),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

OnDevice State(int step, int position, void* rows = nullptr, void* digests = nullptr) {
  DecodeState state;
  state.step = step;
  state.position = position;
  state.rows = rows;
  state.digests = digests;
  return OnDevice(BytesOf(std::vector<DecodeState>{state}));
}

TEST_P(CudaKernels, EmbeddingCopiesRows) {
  const std::int64_t width = 72;
  const Bytes table = Random(static_cast<std::size_t>(50 * width), 1);
  const OnDevice on_device(table);
  const OnDevice ids(BytesOf(std::vector<std::int64_t>{49, 0, 7}));
  const OnDevice y(3 * width * ElementBytes(precision()), 0xff);
  LaunchEmbedding(precision(), on_device.data(), ids.as<std::int64_t>(), nullptr, y.data(), 3, width, nullptr);
  const std::size_t row = width * ElementBytes(precision());
  Bytes expected;
  for (const std::size_t id : {49, 0, 7}) {
    const auto first = table.begin() + static_cast<std::ptrdiff_t>(id * row);
    expected.insert(expected.end(), first, first + static_cast<std::ptrdiff_t>(row));
  }
  EXPECT_EQ(y.Read(), expected);
  // By the state: the token chosen last.
  const OnDevice state = State(2, 10);
  LaunchEmbedding(precision(), on_device.data(), ids.as<std::int64_t>(), state.as<DecodeState>(), y.data(), 1, width,
                  nullptr);
  const Bytes first_row = y.Read();
  EXPECT_TRUE(std::equal(first_row.begin(), first_row.begin() + static_cast<std::ptrdiff_t>(row), table.begin()));
}

TEST_P(CudaKernels, AddAndSiluMulGiveTheBitsOfTheCpu) {
  const RowOps& ops = RowOpsFor(precision());
  for (const std::int64_t width : {8, 256, 1024, 12288}) {
    const std::int64_t rows = 3;
    const auto count = static_cast<std::size_t>(rows * width);
    // Up to where exp() overflows, in either direction.
    const Bytes x = Random(2 * count, 2, 100);
    const Bytes delta = Random(count, 3, 3);
    const OnDevice x_device(x), delta_device(delta), y(count * ElementBytes(precision()), 0xff);
    LaunchAddRmsNorm(precision(), x_device.data(), delta_device.data(), nullptr, 0, y.data(), nullptr, rows, width,
                     nullptr);
    Bytes expected(count * ElementBytes(precision()));
    ops.add(x.data(), delta.data(), expected.data(), rows * width);
    EXPECT_EQ(y.Read(), expected) << width;

    LaunchSiluMul(precision(), x_device.data(), y.data(), rows, width, nullptr);
    const std::size_t row_bytes = static_cast<std::size_t>(width) * ElementBytes(precision());
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::byte* gate = x.data() + static_cast<std::size_t>(2 * r) * row_bytes;
      ops.silu_mul(gate, gate + row_bytes, expected.data() + static_cast<std::size_t>(r) * row_bytes, width);
    }
    EXPECT_EQ(y.Read(), expected) << width;
    EXPECT_NE(y.Read(), x_device.Read());
  }
}

TEST_P(CudaKernels, RmsNormAgreesWithFloat64AndARowIsTheSameAlone) {
  for (const std::int64_t width : {8, 256, 4096, 8192, 10240, 32768}) {
    const std::int64_t rows = 5;
    const auto count = static_cast<std::size_t>(rows * width);
    const Bytes x = Random(count, 4, 2), delta = Random(count, 5), weight = Random(static_cast<std::size_t>(width), 6);
    const OnDevice x_device(x), delta_device(delta), weight_device(weight);
    const OnDevice sum(x.size(), 0xff), y(x.size(), 0xff), alone(x.size(), 0xff);
    const float eps = 1e-6f;
    LaunchAddRmsNorm(precision(), x_device.data(), delta_device.data(), weight_device.data(), eps, sum.data(), y.data(),
                     rows, width, nullptr);
    Bytes added(x.size());
    RowOpsFor(precision()).add(x.data(), delta.data(), added.data(), rows * width);
    EXPECT_EQ(sum.Read(), added);
    // The same from the sum, without a delta, and row by row.
    const std::size_t row_bytes = static_cast<std::size_t>(width) * ElementBytes(precision());
    for (std::int64_t r = 0; r < rows; ++r) {
      const std::size_t at = static_cast<std::size_t>(r) * row_bytes;
      LaunchAddRmsNorm(precision(), sum.as<std::byte>() + at, nullptr, weight_device.data(), eps, nullptr,
                       alone.as<std::byte>() + at, 1, width, nullptr);
    }
    EXPECT_EQ(alone.Read(), y.Read());

    const std::vector<float> in = Floats(precision(), added), w = Floats(precision(), weight);
    const std::vector<float> out = Floats(precision(), y.Read());
    // Two roundings to the type, relative, or absolute below the normal numbers of
    // fp16; in float32 the sum of `width` squares over up to 1024 threads: at most
    // 8 * 4 + 5 + 32 additions one after the other. |weight| <= 1.
    const double relative = 2.01 * RoundingUnit(precision()) + 70 * 0x1p-24;
    const double absolute = precision() == Precision::kFp16 ? 2 * 0x1p-25 : 0;
    double worst = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      double squares = 0;
      for (std::int64_t i = 0; i < width; ++i) squares += std::pow(in[static_cast<std::size_t>(r * width + i)], 2.0);
      const double inverse = 1 / std::sqrt(squares / static_cast<double>(width) + static_cast<double>(eps));
      for (std::int64_t i = 0; i < width; ++i) {
        const auto at = static_cast<std::size_t>(r * width + i);
        const double exact = in[at] * inverse * w[static_cast<std::size_t>(i)];
        const double allowed = relative * std::abs(exact) + absolute;
        if (allowed > 0) worst = std::max(worst, std::abs(out[at] - exact) / allowed);
      }
    }
    EXPECT_LE(worst, 1) << width;
    EXPECT_GT(worst, 0.01) << "a bound that wide shows nothing";
  }
}

struct RopeCase {
  int q_heads, kv_heads, head_dim;
};

TEST_P(CudaKernels, RopeNormalizesRotatesAndFillsTheCache) {
  const RowOps& ops = RowOpsFor(precision());
  for (const RopeCase c : {RopeCase{4, 2, 64}, RopeCase{8, 4, 32}, RopeCase{3, 1, 128}, RopeCase{2, 2, 96}}) {
    SCOPED_TRACE(c.head_dim);
    const std::int64_t rows = 5, first = 3, capacity = 16;
    const int heads = c.q_heads + 2 * c.kv_heads;
    const auto dim = static_cast<std::size_t>(c.head_dim);
    const std::size_t half = dim / 2, padded = static_cast<std::size_t>(PaddedHeadDim(c.head_dim));
    const std::size_t element = ElementBytes(precision());
    const Bytes qkv = Random(static_cast<std::size_t>(rows * heads) * dim, 7, 3);
    const Bytes q_norm = Random(dim, 8), k_norm = Random(dim, 9);
    std::vector<float> cosine(static_cast<std::size_t>(capacity) * half), sine(cosine.size());
    for (std::size_t i = 0; i < cosine.size(); ++i) {
      cosine[i] = std::cos(static_cast<float>(i));
      sine[i] = std::sin(static_cast<float>(i));
    }
    cosine = Floats(precision(), Rounded(precision(), cosine));
    sine = Floats(precision(), Rounded(precision(), sine));

    const OnDevice qkv_device(qkv), q_norm_device(q_norm), k_norm_device(k_norm);
    const OnDevice cosine_device(BytesOf(cosine)), sine_device(BytesOf(sine));
    const OnDevice out(qkv.size(), 0xff);
    const std::size_t cache_bytes = static_cast<std::size_t>(c.kv_heads * capacity) * padded * element;
    const OnDevice keys(cache_bytes, 0xff), values(cache_bytes, 0xff);
    RopeArgs args;
    args.qkv = qkv_device.data();
    args.out = out.data();
    args.keys = keys.data();
    args.values = values.data();
    args.q_norm = q_norm_device.data();
    args.k_norm = k_norm_device.data();
    args.cosine = cosine_device.as<float>();
    args.sine = sine_device.as<float>();
    args.first = first;
    args.rows = rows;
    args.capacity = capacity;
    args.q_heads = c.q_heads;
    args.kv_heads = c.kv_heads;
    args.head_dim = c.head_dim;
    args.padded_head_dim = static_cast<int>(padded);
    args.eps = 1e-6f;
    LaunchRope(precision(), args, nullptr);

    Bytes expected = qkv;
    for (std::int64_t row = 0; row < rows; ++row) {
      for (int head = 0; head < c.q_heads + c.kv_heads; ++head) {
        std::byte* x = expected.data() + static_cast<std::size_t>(row * heads + head) * dim * element;
        ops.rms_norm(x, head < c.q_heads ? q_norm.data() : k_norm.data(), x, c.head_dim, 1e-6f);
        const std::size_t at = static_cast<std::size_t>(first + row) * half;
        ops.rope(x, cosine.data() + at, sine.data() + at, static_cast<std::int64_t>(half));
      }
    }
    // Only the order of the norm's sum differs: it may round each of the two
    // products of a rotation to its neighbour, once in the norm, once after.
    const std::vector<float> want = Floats(precision(), expected), got = Floats(precision(), out.Read());
    int differ = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(got[i], want[i], 10 * RoundingUnit(precision()) * 3) << i;
      differ += got[i] != want[i] ? 1 : 0;
    }
    if (precision() != Precision::kFp32) {
      EXPECT_LE(differ, static_cast<int>(want.size() / 20));
    }
    // The cache holds what `out` has, zero behind it, and nothing elsewhere.
    const Bytes rotated = out.Read(), key_bytes = keys.Read(), value_bytes = values.Read();
    for (int kv = 0; kv < c.kv_heads; ++kv) {
      for (std::int64_t position = 0; position < capacity; ++position) {
        for (const bool is_key : {true, false}) {
          const Bytes& cache = is_key ? key_bytes : value_bytes;
          const auto at = cache.begin() + static_cast<std::ptrdiff_t>(
                                              static_cast<std::size_t>(kv * capacity + position) * padded * element);
          Bytes wanted(padded * element, std::byte{0xff});
          if (position >= first && position < first + rows) {
            const int head = c.q_heads + (is_key ? 0 : c.kv_heads) + kv;
            const auto from =
                rotated.begin() + static_cast<std::ptrdiff_t>(
                                      static_cast<std::size_t>((position - first) * heads + head) * dim * element);
            std::fill(wanted.begin(), wanted.end(), std::byte{0});
            std::copy(from, from + static_cast<std::ptrdiff_t>(dim * element), wanted.begin());
          }
          ASSERT_EQ(Bytes(at, at + static_cast<std::ptrdiff_t>(padded * element)), wanted)
              << "head " << kv << " position " << position << (is_key ? " key" : " value");
        }
      }
    }
    // One row by the state is the row of the batch.
    const OnDevice state = State(1, static_cast<int>(first) + 2);
    const std::size_t row_bytes = static_cast<std::size_t>(heads) * dim * element;
    const OnDevice one(row_bytes, 0xff);
    args.qkv = qkv_device.as<std::byte>() + 2 * row_bytes;
    args.out = one.data();
    args.rows = 1;
    args.first = 0;
    args.state = state.as<DecodeState>();
    LaunchRope(precision(), args, nullptr);
    EXPECT_EQ(one.Read(), Bytes(rotated.begin() + static_cast<std::ptrdiff_t>(2 * row_bytes),
                                rotated.begin() + static_cast<std::ptrdiff_t>(3 * row_bytes)));
    EXPECT_EQ(keys.Read(), key_bytes);
  }
}

TEST_P(CudaKernels, SamplesAsChooseTokenDoes) {
  const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
  for (const std::int64_t vocab : {5, 1000, 1027, 2048, 4096, 151936}) {
    SCOPED_TRACE(vocab);
    const auto count = static_cast<std::size_t>(vocab);
    std::vector<std::vector<float>> cases;
    for (unsigned seed = 0; seed < 6; ++seed) {
      // Coarse, so that there are ties.
      std::vector<float> row = Floats(precision(), Random(count, seed, 20));
      if (seed % 2 == 1) {
        for (float& logit : row) logit = std::round(logit);
      }
      cases.push_back(row);
    }
    cases[2][count - 1] = nan;
    cases[3].assign(count, nan);
    cases[4].assign(count, -0.0f);
    cases[4][3] = 0.0f;
    cases[5][0] = -infinity;
    cases[5][count / 2] = infinity;
    const std::size_t element = ElementBytes(precision());
    const auto steps = static_cast<std::int64_t>(cases.size());
    const OnDevice rows(count * cases.size() * element, 0xff);
    std::vector<std::int64_t> forced(cases.size(), -1);
    forced[1] = vocab - 2;
    const OnDevice forced_device(BytesOf(forced)), tokens(cases.size() * 8, 0xff), token(8, 0xff);
    const OnDevice partial(static_cast<std::size_t>(SampleBlocks(vocab)) * 8, 0xff), arrived(4, 0);
    const OnDevice state = State(0, 40, rows.data());
    Bytes all;
    for (std::size_t s = 0; s < cases.size(); ++s) {
      const Bytes bits = Rounded(precision(), cases[s]);
      all.insert(all.end(), bits.begin(), bits.end());
      const OnDevice logits(bits);
      SampleArgs args;
      args.logits = logits.data();
      args.vocab = vocab;
      args.forced = forced_device.as<std::int64_t>();
      args.tokens = tokens.as<std::int64_t>();
      args.token = token.as<std::int64_t>();
      args.state = state.as<DecodeState>();
      args.partial = partial.as<std::uint64_t>();
      args.arrived = arrived.as<std::uint32_t>();
      LaunchSample(precision(), args, nullptr);
      const TokenChoice expected = ChooseToken(cases[s], forced[s]);
      EXPECT_EQ(ValuesOf<std::int64_t>(token.Read())[0], expected.id) << "case " << s;
      EXPECT_EQ(ValuesOf<std::int64_t>(tokens.Read())[s], expected.id) << "case " << s;
    }
    EXPECT_EQ(rows.Read(), all);
    const DecodeState after = ValuesOf<DecodeState>(state.Read())[0];
    EXPECT_EQ(after.step, steps);
    EXPECT_EQ(after.position, 40 + steps);

    const OnDevice scores(cases.size() * sizeof(TokenScores), 0xff);
    LaunchTokenScores(precision(), rows.data(), vocab, tokens.as<std::int64_t>(), scores.as<TokenScores>(), steps,
                      nullptr);
    const std::vector<TokenScores> told = ValuesOf<TokenScores>(scores.Read());
    for (std::size_t s = 0; s < cases.size(); ++s) {
      const TokenChoice expected = ChooseToken(cases[s], forced[s]);
      const auto near = [](float a, float b) {
        return (std::isnan(a) && std::isnan(b)) || a == b || std::abs(a - b) <= 2e-6f * (1 + std::abs(b));
      };
      EXPECT_PRED2(near, told[s].logprob, expected.logprob) << "case " << s;
      for (std::size_t i = 0; i < expected.top10.size(); ++i) {
        EXPECT_EQ(told[s].top_ids[i], expected.top10[i].first) << "case " << s << " rank " << i;
        EXPECT_PRED2(near, told[s].top_logprobs[i], expected.top10[i].second) << "case " << s << " rank " << i;
      }
      if (vocab < 10) {
        EXPECT_EQ(told[s].top_ids[vocab], -1);
      }
    }
  }
}

TEST_P(CudaKernels, StepDigestsAreTreeDigests) {
  const std::vector<std::size_t> sizes = {0, 3, 8, 17, 240, 241, 4095, 4096, 8192, 49153, 303872, std::size_t{1} << 20};
  std::vector<OnDevice> buffers;
  std::vector<DigestPiece> pieces;
  std::vector<gtest_determinism::Digest> expected;
  for (const std::size_t size : sizes) {
    Bytes bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>((i * 2654435761u) >> 13);
    expected.push_back(gtest_determinism::TreeDigest(bytes.data(), size));
    buffers.emplace_back(bytes);
    pieces.push_back({buffers.back().data(), size});
  }
  // And some that are not aligned, the second and the third up to the buffer's end.
  const Bytes whole = buffers[8].Read();
  for (const auto& [offset, size] : {std::pair<int, int>{2, 8000}, {2, 8190}, {1, 8191}, {5, 300}}) {
    pieces.push_back({buffers[8].as<std::byte>() + offset, static_cast<std::size_t>(size)});
    expected.push_back(gtest_determinism::TreeDigest(whole.data() + offset, static_cast<std::size_t>(size)));
  }

  const OnDevice table(BytesOf(pieces)), digests(3 * pieces.size() * 16, 0xee);
  const OnDevice state = State(3, 0, nullptr, digests.data());  // row 1
  LoadStepDigests();
  LaunchStepDigests(table.as<DigestPiece>(), static_cast<std::int64_t>(pieces.size()), state.as<DecodeState>(),
                    nullptr);
  const auto got = ValuesOf<gtest_determinism::Digest>(digests.Read());
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    EXPECT_EQ(gtest_determinism::ToHex(got[pieces.size() + i]), gtest_determinism::ToHex(expected[i])) << i;
    EXPECT_EQ(got[i][0], 0xee);  // the rows beside it are left alone
    EXPECT_EQ(got[2 * pieces.size() + i][0], 0xee);
  }
}

}  // namespace
}  // namespace suites::internal
