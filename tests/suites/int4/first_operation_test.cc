// Evidence about a first operation of any kind, on an engine that is made up.
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "suites/int4/evidence.h"

namespace suites {
namespace {

using reporters::EvidenceRecord;
using reporters::Finding;
using testing::HasSubstr;

// Three operations: "attention" of layer 0, "final_norm", "sampling". What they
// yield alone is up to the test.
class MadeUpEngine : public Qwen3Engine {
 public:
  std::string noisy_in_place = "attention";
  std::function<at::Tensor(const std::string& op)> alone = [](const std::string&) { return at::ones({4}); };

  Generation Generate(const std::vector<std::int64_t>&, const GenerationOptions&) override {
    for (const OpSite& site : sites_) {
      if (!sink_) continue;
      sink_(
          site, [&] { return std::vector<at::Tensor>{alone(site.op)}; }, nullptr, at::Tensor());
    }
    return {};
  }
  std::vector<TracedOp> Trace(const std::vector<std::int64_t>&, const GenerationOptions&) override {
    ++traces_;
    std::vector<TracedOp> trace;
    bool differs = false;
    for (const OpSite& site : sites_) {
      TracedOp op;
      static_cast<OpSite&>(op) = site;
      differs = differs || site.op == noisy_in_place;  // what follows differs too
      op.digest[0] = static_cast<std::uint8_t>(differs ? traces_ : 0);
      trace.push_back(op);
    }
    return trace;
  }
  bool SetOpSink(OpSink) override { return true; }
  std::int64_t vocab_size() const override { return 8; }
  std::int64_t max_positions() const override { return 8; }
  const kernels::Int4Matmul* MatmulOf(int, const std::string&) const override { return nullptr; }
  void SetMatmulInputSink(InputSink) override {}
  void SetReplaySink(ReplaySink sink) override { sink_ = std::move(sink); }
  const kernels::KernelIdentity* kernel() const override { return nullptr; }
  bool has_sink() const { return static_cast<bool>(sink_); }

 private:
  const std::vector<OpSite> sites_ = {
      {0, -1, "embedding"}, {0, 0, "attention"}, {0, -1, "final_norm"}, {1, 0, "attention"}, {1, -1, "sampling"}};
  ReplaySink sink_;
  int traces_ = 0;
};

// None of the made up operations has weights.
class NoCheckpoint : public Checkpoint {
 public:
  const ModelConfig& config() const override { throw std::logic_error("asked for its config"); }
  const std::filesystem::path& folder() const override { throw std::logic_error("asked for its folder"); }
  at::Tensor Dense(const std::string&) const override { throw std::logic_error("asked for weights"); }
  bool IsQuantized(const std::string&) const override { return false; }
  kernels::QuantizedLinear Quantized(const std::string&) const override { throw std::logic_error("asked for weights"); }
};

EvidenceRecord Collect(MadeUpEngine& engine) {
  return CollectEvidence(engine, NoCheckpoint(), {1, 2}, {.max_tokens = 2}, {.max_generations = 6, .replay_runs = 30});
}

TEST(FirstOperation, AttentionThatDiffersAloneIsReplayedWithoutASwitchThatReachesIt) {
  MadeUpEngine engine;
  int n = 0;
  engine.alone = [&](const std::string& op) { return at::full({4}, op == "attention" ? ++n : 0); };
  const EvidenceRecord evidence = Collect(engine);
  EXPECT_EQ(evidence.first_operation_name, "layer 0 attention");
  EXPECT_EQ(evidence.first_operation_step, 0);
  EXPECT_FALSE(evidence.first_operation_is_int4);
  EXPECT_EQ(evidence.replay_differs.finding, Finding::kShown);
  EXPECT_EQ(evidence.replay_runs, 30);
  EXPECT_EQ(evidence.replay_patterns, 30);
  EXPECT_EQ(evidence.switch_on_operation.finding, Finding::kRefuted);
  EXPECT_EQ(evidence.switch_patterns, 30);
  EXPECT_EQ(evidence.float_atomics.finding, Finding::kNotLookedAt);  // on a CPU
  EXPECT_EQ(evidence.within_rounding_bound.finding, Finding::kNotLookedAt);
  EXPECT_EQ(evidence.ordered_twin_exact.finding, Finding::kNotLookedAt);
  EXPECT_FALSE(engine.has_sink());
}

TEST(FirstOperation, ASwitchThatEndsItIsShownAndIsTakenBack) {
  MadeUpEngine engine;
  int n = 0;
  engine.alone = [&](const std::string&) {
    return at::full({4}, at::globalContext().deterministicAlgorithms() ? 7 : ++n);
  };
  const EvidenceRecord evidence = Collect(engine);
  EXPECT_EQ(evidence.switch_on_operation.finding, Finding::kShown) << evidence.switch_on_operation.detail;
  EXPECT_EQ(evidence.switch_patterns, 1);
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms());
}

TEST(FirstOperation, OneThatDiffersInPlaceOnlyIsNoCause) {
  MadeUpEngine engine;
  engine.noisy_in_place = "final_norm";
  const EvidenceRecord evidence = Collect(engine);
  EXPECT_EQ(evidence.first_operation_name, "final_norm");
  EXPECT_EQ(evidence.replay_differs.finding, Finding::kRefuted);
  EXPECT_EQ(evidence.replay_patterns, 1);
  EXPECT_EQ(evidence.switch_on_operation.finding, Finding::kNotLookedAt);
}

TEST(FirstOperation, TheChoiceOfTheTokenIsAnOperationToo) {
  MadeUpEngine engine;
  engine.noisy_in_place = "sampling";
  const EvidenceRecord evidence = Collect(engine);
  EXPECT_EQ(evidence.first_operation_name, "sampling");
  EXPECT_EQ(evidence.first_operation_step, 1);
}

TEST(FirstOperation, WhereNothingDiffersNothingIsReplayed) {
  MadeUpEngine engine;
  engine.noisy_in_place = "";
  engine.alone = [](const std::string&) -> at::Tensor { throw std::logic_error("replayed"); };
  const EvidenceRecord evidence = Collect(engine);
  EXPECT_EQ(evidence.first_operation.finding, Finding::kNotLookedAt);
  EXPECT_THAT(evidence.first_operation.detail, HasSubstr("no operation differed in 6 traced generations"));
}

TEST(FirstOperation, AReplayThatThrowsIsTheErrorAndLeavesNoSink) {
  MadeUpEngine engine;
  engine.alone = [](const std::string&) -> at::Tensor { throw std::runtime_error("no memory"); };
  EXPECT_THROW(Collect(engine), std::runtime_error);
  EXPECT_FALSE(engine.has_sink());
}

}  // namespace
}  // namespace suites
