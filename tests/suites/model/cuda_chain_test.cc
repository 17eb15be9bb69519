// The product of one row against float64, and launches that overlap: whatever
// follows a launch waits for it before it reads what that writes, and before it
// writes what that reads.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "suites/model/cuda/attention_plan.h"
#include "suites/model/cuda/launch.h"
#include "tests/suites/model/device_values.h"

namespace suites::internal {
namespace {

class CudaChain : public testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    if (const std::string why = gtest_determinism::NoCudaDevice(); !why.empty()) GTEST_SKIP() << why;
  }
  Precision precision() const { return GetParam(); }
  std::size_t element() const { return ElementBytes(GetParam()); }
  Bytes Random(std::int64_t count, unsigned seed, float scale = 1) const {
    return RandomValues(GetParam(), static_cast<std::size_t>(count), seed, scale);
  }
};
INSTANTIATE_TEST_SUITE_P(Precisions, CudaChain, testing::Values(Precision::kFp16, Precision::kBf16, Precision::kFp32),
                         [](const auto& info) { return std::string(NameOf(info.param)); });

TEST_P(CudaChain, OneRowTimesAMatrixAgreesWithFloat64) {
  for (const std::int64_t width : {8, 40, 256, 1000, 2048, 4096, 12296}) {
    for (const std::int64_t rows : {1, 7, 8, 33, 3000}) {
      const Bytes x = Random(width, 1), weight = Random(rows * width, 2);
      const OnDevice x_device(x), weight_device(weight);
      const OnDevice y(static_cast<std::size_t>(rows + 1) * element(), 0xff);
      LaunchGemv(precision(), x_device.data(), weight_device.data(), y.data(), rows, width, nullptr);
      const Bytes bytes = y.Read();
      const std::vector<float> got = Floats(precision(), bytes), in = Floats(precision(), x);
      const std::vector<float> w = Floats(precision(), weight);
      double worst = 0, worst_of_control = 0;
      for (std::int64_t row = 0; row < rows; row += row < 40 ? 1 : 97) {
        double exact = 0, size = 0;
        for (std::int64_t i = 0; i < width; ++i) {
          const double part =
              static_cast<double>(in[static_cast<std::size_t>(i)]) * w[static_cast<std::size_t>(row * width + i)];
          exact += part;
          size += std::abs(part);
        }
        // A lane adds width / 32 products and a few more for the last ones, then five sums of lanes.
        const double depth = static_cast<double>(width) / 32 + 16 + 5;
        const double allowed = RoundingUnit(precision()) * std::abs(exact) + depth * 0x1p-24 * size;
        const auto at = static_cast<std::size_t>(row);
        worst = std::max(worst, std::abs(got[at] - exact) / allowed);
        // The control: one product more.
        worst_of_control = std::max(worst_of_control, std::abs(got[at] - (exact + 0.25)) / allowed);
      }
      EXPECT_LE(worst, 1) << rows << " x " << width;
      EXPECT_GT(worst_of_control, 1) << rows << " x " << width;
      // Nothing behind its rows, and a row alone is the row.
      EXPECT_TRUE(std::all_of(bytes.end() - static_cast<std::ptrdiff_t>(element()), bytes.end(),
                              [](std::byte byte) { return byte == std::byte{0xff}; }));
      const OnDevice alone(element(), 0xff);
      LaunchGemv(precision(), x_device.data(),
                 weight_device.as<std::byte>() + static_cast<std::size_t>((rows - 1) * width) * element(), alone.data(),
                 1, width, nullptr);
      EXPECT_EQ(alone.Read(), Bytes(bytes.end() - 2 * static_cast<std::ptrdiff_t>(element()),
                                    bytes.end() - static_cast<std::ptrdiff_t>(element())));
    }
  }
}

TEST_P(CudaChain, EmbeddingAndNormAreTheTwo) {
  for (const std::int64_t width : {8, 256, 4096, 10240}) {
    const Bytes table = Random(30 * width, 3), weight = Random(width, 4);
    const OnDevice table_device(table), weight_device(weight);
    const OnDevice ids(BytesOf(std::vector<std::int64_t>{4, 29, 11}));
    const OnDevice state(BytesOf(std::vector<DecodeState>{{2, 9, nullptr, nullptr}}));
    const std::size_t bytes = static_cast<std::size_t>(width) * element();
    const OnDevice row(bytes, 0xff), normal(bytes, 0xff), both_row(bytes, 0xff), both_normal(bytes, 0xff);
    LaunchEmbedding(precision(), table_device.data(), ids.as<std::int64_t>(), state.as<DecodeState>(), row.data(), 1,
                    width, nullptr);
    LaunchAddRmsNorm(precision(), row.data(), nullptr, weight_device.data(), 1e-6f, nullptr, normal.data(), 1, width,
                     nullptr);
    LaunchEmbeddingRmsNorm(precision(), table_device.data(), ids.as<std::int64_t>(), state.as<DecodeState>(),
                           weight_device.data(), 1e-6f, both_row.data(), both_normal.data(), width, nullptr);
    EXPECT_EQ(both_row.Read(), row.Read()) << width;
    EXPECT_EQ(both_normal.Read(), normal.Read()) << width;
    // The token chosen last, of two.
    EXPECT_TRUE(std::equal(table.begin() + static_cast<std::ptrdiff_t>(29 * bytes),
                           table.begin() + static_cast<std::ptrdiff_t>(30 * bytes), both_row.Read().begin()));
  }
}

// A product of few and long rows takes two blocks and many microseconds, and lets
// its successor begin at once beside it. The successor reads what the product
// writes, NaN before that, and writes over what the product reads last.
TEST_P(CudaChain, EveryKernelWaitsForTheLaunchAhead) {
  const std::int64_t length = 262144, rows = 16, width = 4096, capacity = 256;
  const std::size_t cache_bytes = static_cast<std::size_t>(8 * capacity * 128) * element();
  const Bytes x = Random(length, 5), others = Random(2 * width, 8);
  const OnDevice weight(Random(rows * length, 6, 0.05f)), square(Random(width * width, 9, 0.05f));
  const OnDevice norm(Random(width, 7));
  const OnDevice cosine(BytesOf(std::vector<float>(static_cast<std::size_t>(capacity * 64), 0.5f)));
  const OnDevice keys(cache_bytes, 0), values(cache_bytes, 0);
  const OnDevice workspace(DecodeAttentionWorkspace(precision(), capacity, 32, 8, 128), 0xff), arrived(256, 0);
  const OnDevice state(sizeof(DecodeState), 0);
  const OnDevice partial(static_cast<std::size_t>(SampleBlocks(width)) * 8, 0), tokens(64, 0), token(8, 0);
  const OnDevice forced(BytesOf(std::vector<std::int64_t>(8, -1))), ids(BytesOf(std::vector<std::int64_t>{0, 0}));
  const OnDevice second(2 * others.size(), 0), in(x.size(), 0), y(others.size(), 0);
  std::byte* const over = in.as<std::byte>() + static_cast<std::size_t>(length - width) * element();

  struct Stream {  // launches overlap on a stream that is not the default one
    cudaStream_t stream = nullptr;
    Stream() { cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking); }
    ~Stream() { cudaStreamDestroy(stream); }
  } const own;
  const cudaStream_t stream = own.stream;
  const void* const from = y.data();
  RopeArgs rope;
  rope.qkv = from;
  rope.out = second.data();
  rope.keys = keys.data();
  rope.values = values.data();
  rope.q_norm = rope.k_norm = norm.data();
  rope.cosine = rope.sine = cosine.as<float>();
  rope.state = state.as<DecodeState>();
  rope.rows = 1;
  rope.capacity = capacity;
  rope.q_heads = 32;
  rope.kv_heads = 8;
  rope.head_dim = rope.padded_head_dim = 128;
  rope.eps = 1e-6f;
  DecodeAttentionArgs attention;
  attention.query = rope.out;
  attention.keys = keys.data();
  attention.values = values.data();
  attention.out = over;
  attention.workspace = workspace.as<float>();
  attention.arrived = arrived.as<std::uint32_t>();
  attention.state = rope.state;
  attention.capacity = attention.max_length = capacity;
  attention.q_heads = rope.q_heads;
  attention.kv_heads = rope.kv_heads;
  attention.head_dim = attention.padded_head_dim = rope.head_dim;
  attention.scale = 0.1f;
  SampleArgs sample;
  sample.logits = from;
  sample.vocab = width;
  sample.forced = forced.as<std::int64_t>();
  sample.tokens = tokens.as<std::int64_t>();
  sample.token = token.as<std::int64_t>();
  sample.state = state.as<DecodeState>();
  sample.partial = partial.as<std::uint64_t>();
  sample.arrived = arrived.as<std::uint32_t>();
  struct Successor {
    const char* name;
    std::function<void()> launch;
  };
  const Successor successors[] = {
      {"rms_norm",
       [&] { LaunchAddRmsNorm(precision(), from, from, norm.data(), 1e-6f, second.data(), over, 1, width, stream); }},
      {"embedding_rms_norm",
       [&] {
         LaunchEmbeddingRmsNorm(precision(), from, ids.as<std::int64_t>(), state.as<DecodeState>(), norm.data(), 1e-6f,
                                second.data(), over, width, stream);
       }},
      {"embedding",
       [&] { LaunchEmbedding(precision(), from, ids.as<std::int64_t>(), nullptr, over, 1, width, stream); }},
      {"silu_mul", [&] { LaunchSiluMul(precision(), from, over, 1, width, stream); }},
      {"rope",
       [&] {
         RopeArgs args = rope;
         args.out = over;
         args.q_heads = 16;  // with those of keys and values 32 heads, which fill it
         LaunchRope(precision(), args, stream);
       }},
      {"rope_attention", [&] { LaunchRopeAttention(precision(), rope, attention, stream); }},
      {"attention",
       [&] {
         DecodeAttentionArgs args = attention;
         args.query = from;
         LaunchDecodeAttention(precision(), args, stream);
       }},
      {"sampling", [&] { LaunchSample(precision(), sample, stream); }},  // keeps row 1, which lies there
      {"gemv", [&] { LaunchGemv(precision(), from, square.data(), over, width, width, stream); }},
  };
  const auto begin = [&] {
    const gtest_determinism::MemorySpace& space = gtest_determinism::CudaMemory();
    // A cache of one position, which the rotation writes; of small numbers in any type.
    space.Fill(keys.data(), 0x3c, cache_bytes);
    space.Fill(values.data(), 0x3c, cache_bytes);
    space.Fill(second.data(), 0xff, 2 * others.size());
    const OnDevice fresh(x), fresh_others(others);
    space.Copy(in.data(), fresh.data(), x.size());
    space.Copy(y.data(), fresh_others.data(), others.size());
    space.Fill(y.data(), 0xff, static_cast<std::size_t>(rows) * element());
    const OnDevice fresh_state(
        BytesOf(std::vector<DecodeState>{{1, 0, over - static_cast<std::size_t>(width) * element(), nullptr}}));
    space.Copy(state.data(), fresh_state.data(), sizeof(DecodeState));
    space.Synchronize();
  };
  for (const Successor& successor : successors) {
    SCOPED_TRACE(successor.name);
    Bytes product, written, beside;
    for (int run = 0; run < 12; ++run) {
      begin();
      LaunchGemv(precision(), in.data(), weight.data(), y.data(), rows, length, stream);
      if (run == 0) {  // one after the other
        ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
      }
      successor.launch();
      ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
      if (run == 0) {
        product = y.Read();
        EXPECT_NE(Bytes(product.begin(), product.begin() + 8), Bytes(8, std::byte{0xff}));
        written = in.Read();
        beside = second.Read();
        EXPECT_NE(written, x);
        continue;
      }
      const bool same_product = y.Read() == product;
      const bool same_rest = in.Read() == written && second.Read() == beside;
      EXPECT_TRUE(same_product) << "its input was written too early, run " << run;
      EXPECT_TRUE(same_rest) << "its output was read too early, run " << run;
      if (!same_product || !same_rest) break;
    }
  }
}

}  // namespace
}  // namespace suites::internal
