// Controls, profile and evidence on the embedded model. Each check stands
// beside the case in which it must say no.
#include "suites/int4/evidence.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>

#include "reporters/verdict.h"
#include "suites/int4/controls.h"
#include "suites/int4/engine_loader.h"
#include "suites/int4/op_profile.h"
#include "suites/int4/run_variant.h"

namespace suites {
namespace {

using gtest_determinism::ControlResult;
using gtest_determinism::Outcome;
using reporters::Finding;
using testing::HasSubstr;

const reporters::KernelEntry* Find(const reporters::KernelProfile& profile, const std::string& name) {
  for (const auto& entry : profile.kernels) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

TEST(OpProfileTest, CountsOperatorsAndTheirSelfTime) {
  const at::Tensor a = at::randn({32, 32});
  OpProfiler profiler;
  for (int i = 0; i < 3; ++i) {
    RECORD_FUNCTION("test::outer", std::vector<c10::IValue>{});
    at::mm(a, a);
  }
  const reporters::KernelProfile profile = profiler.Take("aten::mm");
  EXPECT_EQ(profile.status, reporters::ProfileStatus::kOk);
  EXPECT_EQ(profile.expected_count, 3);
  ASSERT_NE(Find(profile, "aten::mm"), nullptr);
  EXPECT_EQ(Find(profile, "aten::mm")->kind, reporters::KernelKind::kGemm);
  ASSERT_NE(Find(profile, "test::outer"), nullptr);
  EXPECT_EQ(Find(profile, "test::outer")->count, 3);
}

TEST(OpProfileTest, NothingRecordedIsEmptyAndAnAbsentKernelIsNotCounted) {
  {
    OpProfiler silent;
    EXPECT_EQ(silent.Take("aten::mm").status, reporters::ProfileStatus::kEmpty);
  }
  const at::Tensor a = at::randn({8, 8});
  OpProfiler profiler;
  at::mm(a, a);
  EXPECT_EQ(profiler.Take("determinism_int4::marlin_gemm").expected_count, 0);
}

TEST(OpProfileTest, WhatRanBeforeAndAfterIsNotRecorded) {
  const at::Tensor a = at::randn({8, 8});
  at::mm(a, a);
  reporters::KernelProfile profile;
  {
    OpProfiler profiler;
    at::matmul(a, a);
    profile = profiler.Take("");
  }
  at::mm(a, a);
  ASSERT_NE(Find(profile, "aten::mm"), nullptr);
  EXPECT_EQ(Find(profile, "aten::mm")->count, 1);
}

class ReorderingBoundTest : public testing::Test {
 protected:
  static constexpr std::int64_t kK = 1024;
  static constexpr std::int64_t kRows = 128;
  ReorderingBoundTest() {
    at::Generator generator = at::detail::createCPUGenerator(7);
    x_ = at::randn({4, kK}, generator).to(at::kHalf).to(at::kFloat);
    w_ = at::randn({kK, 16}, generator) * 0.05;
    for (std::int64_t k = 0; k < kK; k += kRows) {
      partial_.push_back(at::matmul(x_.narrow(1, k, kRows), w_.narrow(0, k, kRows)).to(at::kHalf));
    }
  }
  // The partial sums added in fp16 in this order.
  at::Tensor SumInOrder(const std::vector<int>& order) const {
    at::Tensor sum = at::zeros({4, 16}, at::kHalf);
    for (const int i : order) sum = sum + partial_[static_cast<std::size_t>(i)];
    return sum.to(at::kDouble);
  }
  at::Tensor x_, w_;
  std::vector<at::Tensor> partial_;
};

TEST_F(ReorderingBoundTest, HoldsForEveryOrderTriedAndIsNotMetByALostPartialSum) {
  const at::Tensor bound = ReorderingBound(x_, w_, kRows);
  std::vector<int> order(partial_.size());
  std::iota(order.begin(), order.end(), 0);
  const at::Tensor first = SumInOrder(order);
  double largest = 0;
  for (int i = 0; i < 500; ++i) {
    std::next_permutation(order.begin(), order.end());
    std::rotate(order.begin(), order.begin() + 3, order.end());
    const at::Tensor difference = (SumInOrder(order) - first).abs();
    EXPECT_TRUE((difference <= bound).all().item<bool>());
    largest = std::max(largest, (difference / bound).max().item<double>());
  }
  // The orders tried do make a difference, else the test shows nothing.
  EXPECT_GT(largest, 0.0);
  order.pop_back();
  EXPECT_FALSE(((SumInOrder(order) - first).abs() <= bound).all().item<bool>());
}

TEST_F(ReorderingBoundTest, OnePartialSumLeavesNothingToReorder) {
  EXPECT_EQ(ReorderingBound(x_, w_, kK).max().item<double>(), 0.0);
}

class EmbeddedModelTest : public testing::Test {
 protected:
  EmbeddedModelTest() {
    for (const Variant& variant : ReadVariants(SUITES_SOURCE_DIR "/variants.json")) variants_[variant.id] = variant;
    context_.places.embedded = EMBEDDED_MODELS;
    context_.default_prompt_file = SUITES_SOURCE_DIR "/prompts/default_prompt.txt";
    context_.options.repetitions = 4;
    context_.options.warmups = 0;
    context_.options.max_tokens = 4;
    context_.options.prompt_length = 64;
  }
  Generation Generate(const std::string& id) {
    LoadedEngine loaded =
        LoadEngine(variants_[id], LocateModel(variants_[id], context_.places), context_.options, Mode::kBaseline);
    return loaded.engine->Generate({1, 2, 3, 4}, {.max_tokens = 4});
  }
  std::map<std::string, Variant> variants_;
  RunContext context_;
};

TEST_F(EmbeddedModelTest, ControlsBehaveAsTheyMust) {
  const ModelSizes config = ReadModelSizes(std::filesystem::path(EMBEDDED_MODELS) / "awq");
  const auto controls = RunControls(config, Generate("awq"), {});
  ASSERT_EQ(controls.size(), 3u);
  for (const auto& control : controls) EXPECT_TRUE(control.as_expected) << control.name << ": " << control.detail;
}

// Under the deterministic switch the arrival-order kernel is its ordered twin:
// the control that must fire cannot, and must say so.
TEST_F(EmbeddedModelTest, AControlThatCannotFireIsNotAsExpected) {
  const ModelSizes config = ReadModelSizes(std::filesystem::path(EMBEDDED_MODELS) / "awq");
  const Generation generation = Generate("awq");
  struct Switch {
    Switch() { at::globalContext().setDeterministicAlgorithms(true, true); }
    ~Switch() { at::globalContext().setDeterministicAlgorithms(false, false); }
  };
  const auto controls = [&] {
    const Switch deterministic;
    return RunControls(config, generation, {.rows = 8, .max_runs = 10, .runs = 3});
  }();
  EXPECT_FALSE(controls[0].as_expected);
  EXPECT_THAT(controls[0].detail, HasSubstr("did not differ in 10 runs"));
  EXPECT_TRUE(controls[1].as_expected);
}

// A run whose value is of(number of the run).
template <class Of>
ControlResult MustDifferBy(const Of& of, int max_runs) {
  int run = 0;
  return MustDiffer(
      "control", [&] { return at::full({4}, of(run++), at::kInt); }, max_runs);
}

TEST(MustDiffer, IsAsExpectedWhereRunsDifferAgainAndAgain) {
  const ControlResult each = MustDifferBy([](int run) { return run; }, 200);
  EXPECT_TRUE(each.as_expected) << each.detail;
  EXPECT_EQ(each.outcome, Outcome::kNondeterministic);
  EXPECT_EQ(each.runs, 6);
  EXPECT_EQ(each.deviations, 3);
  EXPECT_EQ(each.detail, "differed in 3 comparisons, 6 runs in all");
  const ControlResult one_in_ten = MustDifferBy([](int run) { return run % 10 == 9 ? 1 : 0; }, 200);
  EXPECT_TRUE(one_in_ten.as_expected) << one_in_ten.detail;
  EXPECT_EQ(one_in_ten.runs, 30);
}

TEST(MustDiffer, IsNotWhereTheyNeverDifferOrOnlyOnce) {
  const ControlResult never = MustDifferBy([](int) { return 7; }, 50);
  EXPECT_FALSE(never.as_expected);
  EXPECT_EQ(never.outcome, Outcome::kBitExact);
  EXPECT_EQ(never.detail, "did not differ in 50 runs");
  // The first run of a thread pool.
  const ControlResult start = MustDifferBy([](int run) { return run == 0 ? 1 : 0; }, 50);
  EXPECT_FALSE(start.as_expected);
  EXPECT_EQ(start.runs, 50);
  EXPECT_EQ(start.detail, "differed in 1 of 3 comparisons in 50 runs");
  const ControlResult seldom = MustDifferBy([](int run) { return run % 100 == 99 ? 1 : 0; }, 250);
  EXPECT_FALSE(seldom.as_expected);
  EXPECT_EQ(seldom.deviations, 2);
}

// An engine that passes everything on, and fails at the n-th generation.
class FailingEngine : public InferenceEngine {
 public:
  FailingEngine(std::unique_ptr<InferenceEngine> engine, int good) : engine_(std::move(engine)), good_(good) {}
  Generation Generate(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options) override {
    if (good_-- <= 0) throw std::runtime_error("planted failure");
    return engine_->Generate(prompt_ids, options);
  }
  bool SetOpSink(OpSink sink) override { return engine_->SetOpSink(std::move(sink)); }
  std::int64_t vocab_size() const override { return engine_->vocab_size(); }
  std::int64_t max_positions() const override { return engine_->max_positions(); }

 private:
  std::unique_ptr<InferenceEngine> engine_;
  int good_;
};

TEST_F(EmbeddedModelTest, AVerdictNeedsItsKernelInTheProfile) {
  const reporters::VariantRecord control = RunVariant(variants_["awq"], context_).record;
  ASSERT_TRUE(control.success) << control.error;
  EXPECT_EQ(reporters::DeriveVerdict(control).outcome, Outcome::kBitExact) << reporters::DeriveVerdict(control).reason;

  // The INT4 operator taken out of the model: float32 matmuls in its place.
  context_.load_engine = [](const Variant& variant, const LocatedModel& model, const SuiteOptions& options, Mode mode,
                            const LoadProgress&) {
    LoadedEngine loaded = LoadEngine(variant, model, options, mode);
    const std::string expected = loaded.expected_kernel;
    SuiteOptions without_int4 = options;
    without_int4.compute = "fp32";
    loaded = LoadEngine(variant, model, without_int4, mode);
    loaded.expected_kernel = expected;
    return loaded;
  };
  const reporters::VariantRecord record = RunVariant(variants_["awq"], context_).record;
  ASSERT_TRUE(record.success) << record.error;
  EXPECT_FALSE(record.profile.kernels.empty());
  const reporters::Verdict verdict = reporters::DeriveVerdict(record);
  EXPECT_EQ(verdict.outcome, Outcome::kInconclusive);
  EXPECT_FALSE(verdict.is_deterministic.has_value());
  EXPECT_THAT(verdict.reason, HasSubstr("awq_gemm"));
}

TEST_F(EmbeddedModelTest, EveryMatmulOfEveryPassMustShow) {
  const reporters::VariantRecord record = RunVariant(variants_["awq"], context_).record;
  // Six layers of qkv, o, gate_up and down; four passes.
  EXPECT_EQ(record.profile.expected_at_least, 6 * 4 * 4);
  EXPECT_EQ(record.profile.expected_count, record.profile.expected_at_least);
  reporters::VariantRecord one_missing = record;
  --one_missing.profile.expected_count;
  EXPECT_EQ(reporters::DeriveVerdict(one_missing).outcome, Outcome::kInconclusive);
}

class FailureAfterTheBaselineTest : public EmbeddedModelTest {
 protected:
  // Fails once the baseline's repetitions are over.
  VariantResult RunWithFailure() {
    context_.load_engine = [this](const Variant& variant, const LocatedModel& model, const SuiteOptions& options,
                                  Mode mode, const LoadProgress&) {
      LoadedEngine loaded = LoadEngine(variant, model, options, mode);
      if (mode == Mode::kBaseline) {
        loaded.engine = std::make_unique<FailingEngine>(std::move(loaded.engine), context_.options.repetitions);
        loaded.qwen3 = nullptr;
      }
      return loaded;
    };
    return RunVariant(variants_["awq"], context_);
  }
};

TEST_F(FailureAfterTheBaselineTest, AFailedProfileKeepsTheBaselineAndIsInconclusive) {
  const VariantResult result = RunWithFailure();
  EXPECT_TRUE(result.record.success) << result.record.error;
  EXPECT_EQ(result.record.baseline.tokens.size(), 4u);
  EXPECT_EQ(result.record.profile.status, reporters::ProfileStatus::kUnavailable);
  EXPECT_THAT(result.record.profile.reason, HasSubstr("planted failure"));
  EXPECT_TRUE(result.record.deterministic.succeeded) << result.record.deterministic.error;
  EXPECT_EQ(reporters::DeriveVerdict(result.record).outcome, Outcome::kInconclusive);
}

TEST_F(FailureAfterTheBaselineTest, AFailedDumpIsAProblemOfItsOwn) {
  context_.options.dump_logits_dir = testing::TempDir() + "/never_written";
  const VariantResult result = RunWithFailure();
  EXPECT_TRUE(result.record.success);
  ASSERT_EQ(result.problems.size(), 1u);
  EXPECT_THAT(result.problems[0], HasSubstr("planted failure"));
}

TEST_F(EmbeddedModelTest, AFailedReloadIsAnErrorOfDeterministicModeAlone) {
  context_.load_engine = [](const Variant& variant, const LocatedModel& model, const SuiteOptions& options, Mode mode,
                            const LoadProgress&) {
    if (mode == Mode::kDeterministic) throw std::bad_alloc();
    return LoadEngine(variant, model, options, mode);
  };
  const reporters::VariantRecord record = RunVariant(variants_["awq"], context_).record;
  EXPECT_TRUE(record.success);
  EXPECT_FALSE(record.deterministic.succeeded);
  EXPECT_THAT(record.deterministic.error, HasSubstr("out of memory"));
  EXPECT_TRUE(record.deterministic.tokens.empty());
  EXPECT_EQ(reporters::DeriveVerdict(record).outcome, Outcome::kBitExact);
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms()) << "the switch was left on";
}

TEST_F(EmbeddedModelTest, ALoadSaysHowFarItIs) {
  std::vector<std::string> phases;
  context_.progress = [&](const std::string& phase, int, int) { phases.push_back(phase); };
  context_.load_engine = [](const Variant& variant, const LocatedModel& model, const SuiteOptions& options, Mode mode,
                            const LoadProgress& progress) {
    const std::uint64_t total = 5'000'000'000;
    progress(0, total);
    progress(1'000'000'000, total);  // at once: not shown
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    progress(2'500'000'000, total);
    return LoadEngine(variant, model, options, mode);
  };
  RunVariant(variants_["awq"], context_);
  EXPECT_THAT(phases, testing::Contains(testing::StartsWith("loading 0.00 of 5.00 GB, 0 %")));
  EXPECT_THAT(phases, testing::Contains(testing::StartsWith("loading 2.50 of 5.00 GB, 50 %, ")));
  EXPECT_THAT(phases, testing::Not(testing::Contains(testing::StartsWith("loading 1.00"))));
}

TEST_F(EmbeddedModelTest, TheLoaderPassesTheProgressOfTheCheckpointOn) {
  const LocatedModel model = LocateModel(variants_["awq"], context_.places);
  std::vector<std::uint64_t> done;
  std::uint64_t total = 0;
  LoadEngine(variants_["awq"], model, context_.options, Mode::kBaseline, [&](std::uint64_t bytes, std::uint64_t of) {
    done.push_back(bytes);
    total = of;
  });
  ASSERT_GT(done.size(), 20u);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_GT(done.back(), total / 2);
  EXPECT_LE(done.back(), total);
}

TEST_F(EmbeddedModelTest, AFailedBaselineIsTheVariantsError) {
  context_.load_engine = [](const Variant& variant, const LocatedModel& model, const SuiteOptions& options, Mode mode,
                            const LoadProgress&) {
    LoadedEngine loaded = LoadEngine(variant, model, options, mode);
    loaded.engine = std::make_unique<FailingEngine>(std::move(loaded.engine), 2);
    loaded.qwen3 = nullptr;
    return loaded;
  };
  const reporters::VariantRecord record = RunVariant(variants_["awq"], context_).record;
  EXPECT_FALSE(record.success);
  EXPECT_THAT(record.error, HasSubstr("planted failure"));
}

TEST_F(EmbeddedModelTest, EvidenceNamesTheArrivalOrderMatmul) {
  const LocatedModel model = LocateModel(variants_["gptq"], context_.places);
  LoadedEngine loaded = LoadEngine(variants_["gptq"], model, context_.options, Mode::kBaseline);
  std::vector<std::int64_t> prompt(256);
  std::iota(prompt.begin(), prompt.end(), 100);
  const auto evidence =
      CollectEvidence(*loaded.qwen3, *OpenCheckpoint(model.folder), prompt, {.max_tokens = 4}, {.max_generations = 10});
  EXPECT_EQ(evidence.first_operation.finding, Finding::kShown) << evidence.first_operation.detail;
  // K = 1024 is eight partial sums; the model's other matmuls have two, which commute.
  EXPECT_THAT(evidence.first_operation_name, HasSubstr("down_proj"));
  EXPECT_TRUE(evidence.first_operation_is_int4);
  EXPECT_EQ(evidence.replay_differs.finding, Finding::kShown) << evidence.replay_differs.detail;
  EXPECT_EQ(evidence.ordered_twin_exact.finding, Finding::kShown) << evidence.ordered_twin_exact.detail;
  EXPECT_EQ(evidence.within_rounding_bound.finding, Finding::kShown) << evidence.within_rounding_bound.detail;
}

TEST_F(EmbeddedModelTest, EvidenceOnAnExactKernelNamesNothing) {
  const LocatedModel model = LocateModel(variants_["gptq_marlin"], context_.places);
  LoadedEngine loaded = LoadEngine(variants_["gptq_marlin"], model, context_.options, Mode::kBaseline);
  const auto evidence = CollectEvidence(*loaded.qwen3, *OpenCheckpoint(model.folder), {1, 2, 3}, {.max_tokens = 4},
                                        {.max_generations = 4});
  EXPECT_EQ(evidence.first_operation.finding, Finding::kNotLookedAt);
  EXPECT_EQ(evidence.replay_differs.finding, Finding::kNotLookedAt);
  EXPECT_THAT(evidence.first_operation_name, testing::IsEmpty());
}

}  // namespace
}  // namespace suites
