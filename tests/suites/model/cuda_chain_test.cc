// The product of one row against float64, and launches that overlap: whatever
// follows a launch waits for it before it reads what that writes, and before it
// writes what that reads.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/layout.h"
#include "suites/model/cuda/attention_plan.h"
#include "suites/model/cuda/launch.h"
#include "tests/suites/model/chain_witness.h"
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

void CheckOneRow(Precision precision, const std::vector<std::int64_t>& widths,
                 const std::vector<std::int64_t>& counts) {
  const std::size_t element = ElementBytes(precision);
  for (const std::int64_t width : widths) {
    for (const std::int64_t rows : counts) {
      const Bytes x = RandomValues(precision, static_cast<std::size_t>(width), 1);
      const Bytes weight = RandomValues(precision, static_cast<std::size_t>(rows * width), 2);
      const OnDevice x_device(x), weight_device(weight);
      const OnDevice y(static_cast<std::size_t>(rows + 1) * element, 0xff);
      LaunchGemv(precision, x_device.data(), weight_device.data(), y.data(), rows, width, nullptr);
      const Bytes bytes = y.Read();
      const std::vector<float> got = Floats(precision, bytes), in = Floats(precision, x);
      const std::vector<float> w = Floats(precision, weight);
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
        const double allowed = RoundingUnit(precision) * std::abs(exact) + depth * 0x1p-24 * size;
        const auto at = static_cast<std::size_t>(row);
        worst = std::max(worst, std::abs(got[at] - exact) / allowed);
        // The control: one product more.
        worst_of_control = std::max(worst_of_control, std::abs(got[at] - (exact + 0.25)) / allowed);
      }
      EXPECT_LE(worst, 1) << rows << " x " << width;
      EXPECT_GT(worst_of_control, 1) << rows << " x " << width;
      // Nothing behind its rows, and a row alone is the row.
      EXPECT_TRUE(std::all_of(bytes.end() - static_cast<std::ptrdiff_t>(element), bytes.end(),
                              [](std::byte byte) { return byte == std::byte{0xff}; }));
      const OnDevice alone(element, 0xff);
      LaunchGemv(precision, x_device.data(),
                 weight_device.as<std::byte>() + static_cast<std::size_t>((rows - 1) * width) * element, alone.data(),
                 1, width, nullptr);
      EXPECT_EQ(alone.Read(), Bytes(bytes.end() - 2 * static_cast<std::ptrdiff_t>(element),
                                    bytes.end() - static_cast<std::ptrdiff_t>(element)));
    }
  }
}

TEST_P(CudaChain, OneRowTimesAMatrixAgreesWithFloat64) {
  CheckOneRow(precision(), {8, 40, 256, 1000, 2048, 4096, 12296}, {1, 7, 8, 33, 3000});
}

// What compute-sanitizer runs.
TEST_P(CudaChain, SanitizedProductOfOneRow) { CheckOneRow(precision(), {8, 1000, 4096}, {1, 33, 3000}); }

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

struct Stream {  // launches overlap on a stream that is not the default one
  cudaStream_t stream = nullptr;
  Stream() { cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking); }
  ~Stream() { cudaStreamDestroy(stream); }
};

int Attribute(cudaDeviceAttr attribute) {
  int value = 0;
  cudaDeviceGetAttribute(&value, attribute, 0);
  return value;
}

// What is known once of a kernel and a device is known to all threads: each launches its
// own, on a stream of its own, and has the bits of the others.
TEST_P(CudaChain, ThreadsLaunchAtOnce) {
  constexpr std::int64_t kWidth = 1024;
  constexpr int kThreads = 4;
  const OnDevice x(Random(kWidth, 1)), weight(Random(kWidth * kWidth, 2, 0.05f)), norm(Random(kWidth, 3));
  const std::size_t bytes = static_cast<std::size_t>(kWidth) * element();
  std::vector<std::unique_ptr<OnDevice>> product(kThreads), normal(kThreads);
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  std::barrier together(kThreads);
  for (std::size_t t = 0; t < kThreads; ++t) {
    product[t] = std::make_unique<OnDevice>(bytes, 0xff);
    normal[t] = std::make_unique<OnDevice>(bytes, 0xff);
    threads.emplace_back([&, t] {
      const Stream own;
      together.arrive_and_wait();
      for (int i = 0; i < 50; ++i) {
        LaunchGemv(precision(), x.data(), weight.data(), product[t]->data(), kWidth, kWidth, own.stream);
        LaunchAddRmsNorm(precision(), product[t]->data(), nullptr, norm.data(), 1e-6f, nullptr, normal[t]->data(), 1,
                         kWidth, own.stream);
      }
      if (cudaStreamSynchronize(own.stream) != cudaSuccess) ++failed;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_NE(normal[0]->Read(), Bytes(bytes, std::byte{0xff}));
  for (std::size_t t = 1; t < kThreads; ++t) {
    EXPECT_EQ(product[t]->Read(), product[0]->Read());
    EXPECT_EQ(normal[t]->Read(), normal[0]->Read());
  }
}

// One launch, or a few, that read what the launch ahead writes and write what it reads.
struct Successor {
  std::string name;
  std::function<void()> launch;
  bool lets_next_begin = true;  // before it has waited itself
  bool exact = false;           // reads values whose sums are exact in any order
};

// The memory that successors share with the launch ahead of them.
class Stage {
 public:
  static constexpr std::size_t kBytes = std::size_t{1} << 20;
  static constexpr int kWidth = 4096, kCapacity = 256, kPosition = 211, kRows = 17;

  explicit Stage(Precision precision)
      : precision_(precision),
        element_(ElementBytes(precision)),
        source_(RandomValues(precision, kBytes / element_, 5)),
        exact_source_(ExactValues(precision, kBytes / element_)),
        fresh_in_(RandomValues(precision, kBytes / element_, 6)),
        norm_(RandomValues(precision, kWidth, 7)),
        cosine_(BytesOf(std::vector<float>(kCapacity * 64, 0.5f))),
        from_(kBytes, 0),
        in_(kBytes, 0),
        seen_in_(kBytes, 0),
        second_(kBytes, 0),
        fresh_cache_(RandomValues(precision, kCacheElements, 8)),
        keys_(kCacheElements * element_, 0),
        values_(kCacheElements * element_, 0),
        matrix_(RandomValues(precision, std::size_t{kMatrixRows} * kWidth, 9, 0.05f)),
        workspace_(std::size_t{1} << 22, 0xff),
        arrived_(256, 0),
        fresh_state_(BytesOf(std::vector<DecodeState>{
            {1, kPosition, in_.as<std::byte>() - static_cast<std::size_t>(kWidth) * element_, nullptr}})),
        state_(sizeof(DecodeState), 0),
        partial_(static_cast<std::size_t>(SampleBlocks(kWidth)) * 8, 0),
        tokens_(64, 0),
        token_(8, 0),
        forced_(BytesOf(std::vector<std::int64_t>(8, -1))),
        ids_(BytesOf(std::vector<std::int64_t>(kRows, 0))),
        witness_(4, 0),
        witness_was_there_(4, 0),
        words_(BytesOf(std::vector<std::uint32_t>(kK * kN / 8, 0x91a6b3c7u))),
        zeros_(kK / 128 * kN, 8),
        scales_(Rounded(Precision::kFp16, std::vector<float>(kK / 128 * kN, 0.01f))),
        exact_scales_(Rounded(Precision::kFp16, std::vector<float>(kK / 128 * kN, 0x1p-6f))) {}

  cudaStream_t stream() const { return own_.stream; }
  std::vector<Successor> Successors() const;

  void Begin() const {
    const gtest_determinism::MemorySpace& space = gtest_determinism::CudaMemory();
    space.Fill(from_.data(), 0xff, kBytes);
    space.Fill(seen_in_.data(), 0xff, kBytes);
    space.Fill(second_.data(), 0xff, kBytes);
    space.Copy(in_.data(), fresh_in_.data(), kBytes);
    space.Copy(keys_.data(), fresh_cache_.data(), kCacheElements * element_);
    space.Copy(values_.data(), fresh_cache_.data(), kCacheElements * element_);
    space.Copy(state_.data(), fresh_state_.data(), sizeof(DecodeState));
    space.Fill(tokens_.data(), 0xff, 64);
    space.Fill(witness_.data(), 0, 4);
    space.Fill(witness_was_there_.data(), 0xff, 4);
    space.Synchronize();
  }
  // With the successor and a witness behind it.
  void Launch(const Successor& successor, std::uint64_t patience_ns) const {
    HeldLaunch held;
    held.in = in_.data();
    held.seen_in = seen_in_.data();
    held.source = (successor.exact ? exact_source_ : source_).data();
    held.out = from_.data();
    held.in_bytes = held.out_bytes = kBytes;
    held.witness = witness_.as<std::uint32_t>();
    held.witness_was_there = witness_was_there_.as<std::uint32_t>();
    held.patience_ns = patience_ns;
    LaunchHeld(held, stream());
    if (patience_ns == 0) cudaStreamSynchronize(stream());  // one after the other
    successor.launch();
    LaunchWitness(witness_.as<std::uint32_t>(), stream());
  }
  bool WitnessWasThere() const { return ValuesOf<std::uint32_t>(witness_was_there_.Read())[0] != 0; }
  bool InputWasWhole() const { return seen_in_.Read() == fresh_in_.Read(); }
  std::vector<Bytes> Written() const {
    return {in_.Read(), second_.Read(), keys_.Read(), values_.Read(), tokens_.Read(), from_.Read()};
  }
  Bytes FreshIn() const { return fresh_in_.Read(); }

 private:
  static constexpr std::size_t kCacheElements = std::size_t{8} * kCapacity * 128;
  static constexpr int kK = 2048, kN = 1024;  // of an INT4 matrix
  // Of a dense one: a block for each multiprocessor at most, since all must have begun
  // beside the launch ahead.
  static constexpr int kMatrixRows = 512;

  // -1, 0 or 1, three of four 0.
  static Bytes ExactValues(Precision precision, std::size_t count) {
    std::mt19937 generator(10);
    std::vector<float> values(count);
    for (float& value : values) {
      const auto draw = generator() % 8;
      value = draw == 0 ? -1.0f : draw == 1 ? 1.0f : 0.0f;
    }
    return Rounded(precision, values);
  }

  void AddMatmuls(std::vector<Successor>& successors) const;

  Precision precision_;
  std::size_t element_;
  Stream own_;
  OnDevice source_, exact_source_, fresh_in_, norm_, cosine_, from_, in_, seen_in_, second_, fresh_cache_, keys_,
      values_, matrix_;
  OnDevice workspace_, arrived_, fresh_state_, state_, partial_, tokens_, token_, forced_, ids_, witness_,
      witness_was_there_, words_, zeros_, scales_, exact_scales_;
};

std::vector<Successor> Stage::Successors() const {
  const void* const from = from_.data();
  void* const over = in_.data();
  RopeArgs rope;
  rope.qkv = from;
  rope.out = second_.data();
  rope.keys = keys_.data();
  rope.values = values_.data();
  rope.q_norm = rope.k_norm = norm_.data();
  rope.cosine = rope.sine = cosine_.as<float>();
  rope.state = state_.as<DecodeState>();
  rope.rows = 1;
  rope.capacity = kCapacity;
  rope.q_heads = 32;
  rope.kv_heads = 8;
  rope.head_dim = rope.padded_head_dim = 128;
  rope.eps = 1e-6f;
  RopeArgs rope_over = rope;
  rope_over.out = over;
  RopeArgs rope_of_prompt = rope_over;
  rope_of_prompt.state = nullptr;
  rope_of_prompt.first = kPosition;
  rope_of_prompt.rows = kRows;
  DecodeAttentionArgs fused;
  fused.query = rope.out;
  fused.keys = keys_.data();
  fused.values = values_.data();
  fused.out = over;
  fused.workspace = workspace_.as<float>();
  fused.arrived = arrived_.as<std::uint32_t>();
  fused.state = rope.state;
  fused.capacity = fused.max_length = kCapacity;
  fused.q_heads = rope.q_heads;
  fused.kv_heads = rope.kv_heads;
  fused.head_dim = fused.padded_head_dim = rope.head_dim;
  fused.scale = 0.1f;
  DecodeAttentionArgs attention = fused;
  attention.query = from;
  SampleArgs sample;
  sample.logits = from;
  sample.vocab = kWidth;
  sample.forced = forced_.as<std::int64_t>();
  sample.tokens = tokens_.as<std::int64_t>();
  sample.token = token_.as<std::int64_t>();
  sample.state = state_.as<DecodeState>();
  sample.partial = partial_.as<std::uint64_t>();
  sample.arrived = arrived_.as<std::uint32_t>();
  const auto norm = [=, this](std::int64_t rows) {
    LaunchAddRmsNorm(precision_, from, from, norm_.data(), 1e-6f, second_.data(), over, rows, kWidth, stream());
  };
  const auto embedding = [=, this](std::int64_t rows) {
    LaunchEmbedding(precision_, from, ids_.as<std::int64_t>(), nullptr, over, rows, kWidth, stream());
  };
  // On tensor cores attention reads of the cache what the rotation ahead may have written.
  const bool waits_first = precision_ != Precision::kFp32;
  std::vector<Successor> successors = {
      {"rms_norm", [=] { norm(1); }},
      {"rms_norm of a prompt", [=] { norm(kRows); }},
      {"embedding_rms_norm",
       [=, this] {
         LaunchEmbeddingRmsNorm(precision_, from, ids_.as<std::int64_t>(), state_.as<DecodeState>(), norm_.data(),
                                1e-6f, second_.data(), over, kWidth, stream());
       },
       false},
      {"embedding", [=] { embedding(1); }, false},
      {"embedding of a prompt", [=] { embedding(kRows); }, false},
      {"silu_mul", [=, this] { LaunchSiluMul(precision_, from, over, 1, kWidth, stream()); }},
      {"silu_mul of a prompt", [=, this] { LaunchSiluMul(precision_, from, over, kRows, 1024, stream()); }},
      {"rope", [=, this] { LaunchRope(precision_, rope_over, stream()); }},
      {"rope of a prompt", [=, this] { LaunchRope(precision_, rope_of_prompt, stream()); }},
      {"rope_attention", [=, this] { LaunchRopeAttention(precision_, rope, fused, stream()); }},
      {"attention", [=, this] { LaunchDecodeAttention(precision_, attention, stream()); }, !waits_first},
      {"sampling", [=, this] { LaunchSample(precision_, sample, stream()); }},  // keeps row 1, which lies there
      {"gemv", [=, this] { LaunchGemv(precision_, from, matrix_.data(), over, kMatrixRows, kWidth, stream()); }},
  };
  if (AttendsPromptsItself(precision_, 128)) {
    PrefillAttentionArgs args;
    const auto* bytes = static_cast<const std::byte*>(from);
    args.query = bytes;
    args.keys = bytes + kBytes / 4;
    args.values = bytes + kBytes / 2;
    args.out = over;
    args.q_heads = 8;
    args.kv_heads = 2;
    args.query_stride = (args.q_heads + 2 * args.kv_heads) * 128;
    args.rows = 64;
    args.past = 100;
    args.capacity = kCapacity;
    args.scale = 0.1f;
    successors.push_back({"attention of a prompt", [=, this] { LaunchPrefillAttention(precision_, args, stream()); }});
  }
  AddMatmuls(successors);
  return successors;
}

// Of fp16, on every path whose launches overlap. gptq in arrival order has the same bits in
// each run where its partial sums are exact: here they are integers below 2^11, times 2^-6.
void Stage::AddMatmuls(std::vector<Successor>& successors) const {
  namespace cuda = kernels::cuda;
  if (precision_ != Precision::kFp16) return;
  const bool wgmma = cuda::HasWgmma() && Attribute(cudaDevAttrComputeCapabilityMajor) == 9;
  const auto add = [&](const char* name, cuda::Family family, int m, const cuda::Plan& plan) {
    const bool exact = family == cuda::Family::kGptq;
    cuda::Gemm gemm;
    gemm.x = from_.data();
    gemm.y = in_.data();
    gemm.m = m;
    gemm.k = kK;
    gemm.n = gemm.padded_n = kN;
    gemm.words = words_.as<std::uint32_t>();
    gemm.zeros = zeros_.data();
    gemm.scales = (exact ? exact_scales_ : scales_).data();
    gemm.group_size = 128;
    gemm.groups = kK / 128;
    const bool stream_path = plan.path == cuda::Path::kStream;
    if (!stream_path && plan.path != cuda::Path::kWgmma) return;
    const auto launch = [=, this] { cuda::GemmBy(family, gemm, plan, workspace_.data(), stream()); };
    successors.push_back(
        {std::string(name) + ", " + std::to_string(m) + " rows: " + cuda::NameOf(plan), launch, !stream_path, exact});
  };
  const auto plan_for = [&](cuda::Family family, int m, bool invariant) {
    return cuda::PlanFor(family, m, kK, kN, Attribute(cudaDevAttrMultiProcessorCount), wgmma ? 90 : 80, 128, invariant,
                         Attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  };
  for (const int m : {1, 5, 16, 17, 64, 200}) {
    add("marlin", cuda::Family::kMarlin, m, plan_for(cuda::Family::kMarlin, m, false));
    add("gptq in order", cuda::Family::kGptqOrdered, m, plan_for(cuda::Family::kGptqOrdered, m, false));
    add("gptq in arrival order", cuda::Family::kGptq, m, plan_for(cuda::Family::kGptq, m, false));
    add("batch-invariant marlin", cuda::Family::kMarlin, m, plan_for(cuda::Family::kMarlin, m, true));
  }
  if (!wgmma) return;
  cuda::Plan folded = plan_for(cuda::Family::kMarlin, 200, true);  // as many rows take it where N is larger
  folded.columns = 128, folded.row_blocks = 16, folded.folded = true;
  add("batch-invariant marlin", cuda::Family::kMarlin, 200, folded);
}

// All of its dependencies are programmatic ones where launches overlap, else none.
void LaunchAsGraph(const Stage& stage, const Successor& successor, std::uint64_t patience_ns, bool overlaps) {
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stage.stream(), cudaStreamCaptureModeThreadLocal), cudaSuccess);
  stage.Launch(successor, patience_ns);
  ASSERT_EQ(cudaStreamEndCapture(stage.stream(), &graph), cudaSuccess);
  std::size_t edges = 0;
  ASSERT_EQ(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &edges), cudaSuccess);
  std::vector<cudaGraphNode_t> from(edges), to(edges);
  std::vector<cudaGraphEdgeData> data(edges);
  ASSERT_EQ(cudaGraphGetEdges(graph, from.data(), to.data(), data.data(), &edges), cudaSuccess);
  EXPECT_GE(edges, 2u);
  for (const cudaGraphEdgeData& edge : data) {
    EXPECT_EQ(edge.type == cudaGraphDependencyTypeProgrammatic, overlaps) << "one of " << edges << " edges";
  }
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  EXPECT_EQ(cudaGraphLaunch(executable, stage.stream()), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stage.stream()), cudaSuccess);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
}

// The launch ahead lets its successor begin at once and ends late: it reads and writes
// last of all, when the successor has long begun. That it has is shown by a third launch,
// which begins once all blocks of the successor have let it; those that let the next
// begin only after their own wait must not have done so. Each also from a graph, whose
// dependencies are told.
TEST_P(CudaChain, EveryKernelWaitsForTheLaunchAhead) {
  const Stage stage(precision());
  const bool overlaps = Attribute(cudaDevAttrComputeCapabilityMajor) >= 9;
  constexpr int kRuns = 5;
  for (const Successor& successor : stage.Successors()) {
    SCOPED_TRACE(successor.name);
    // Long enough for any launch; what comes too late anyway is not waited for.
    const std::uint64_t patience_ns = overlaps && successor.lets_next_begin ? 100'000'000 : 100'000;
    std::vector<Bytes> written;
    for (int run = 0; run <= kRuns; ++run) {
      stage.Begin();
      if (run == kRuns) {
        LaunchAsGraph(stage, successor, patience_ns, overlaps);
      } else {
        stage.Launch(successor, run == 0 ? 0 : patience_ns);
      }
      ASSERT_EQ(cudaStreamSynchronize(stage.stream()), cudaSuccess);
      EXPECT_TRUE(stage.InputWasWhole()) << "the input was written too early, run " << run;
      if (run == 0) {
        written = stage.Written();
        EXPECT_NE(written[0], stage.FreshIn());
        continue;
      }
      EXPECT_EQ(stage.WitnessWasThere(), overlaps && successor.lets_next_begin) << "run " << run;
      EXPECT_TRUE(stage.Written() == written) << "the output was read too early, run " << run;
      if (HasFailure()) break;
    }
  }
}

}  // namespace
}  // namespace suites::internal
