#include "suites/int4/evidence.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/matmul.h>

#include <cmath>
#include <map>
#include <set>
#include <sstream>
#include <tuple>
#include <utility>

#include "gtest_determinism/digest.h"
#include "gtest_determinism/runner.h"
#include "gtest_determinism/torch.h"
#include "suites/int4/undisturbed_runs.h"

namespace suites {
namespace {

using gtest_determinism::Digest;
using gtest_determinism::Outcome;
using gtest_determinism::Report;
using gtest_determinism::RunRepeated;
using reporters::Evidence;
using reporters::EvidenceRecord;
using reporters::Finding;

// The engine offers tokens' operations in a fixed order, so the position in the
// list names an operation of one generation.
struct TracedOp {
  int step = 0;
  int layer = -1;
  std::string op;
  Digest digest{};
};

// Sinks refer to locals of this file; they go with them, also where a
// generation throws.
class SinkGuard {
 public:
  explicit SinkGuard(Qwen3Engine& engine) : engine_(engine) {}
  ~SinkGuard() {
    engine_.SetOpSink({});
    engine_.SetMatmulInputSink({});
  }
  SinkGuard(const SinkGuard&) = delete;
  SinkGuard& operator=(const SinkGuard&) = delete;

 private:
  Qwen3Engine& engine_;
};

std::vector<TracedOp> TraceGeneration(Qwen3Engine& engine, const std::vector<std::int64_t>& prompt_ids,
                                      const GenerationOptions& options) {
  std::vector<TracedOp> trace;
  const SinkGuard guard(engine);
  engine.SetOpSink([&](const OpOutput& output) {
    trace.push_back({output.step, output.layer, output.op, gtest_determinism::DigestOf({{output.op, output.bits}})});
  });
  engine.Generate(prompt_ids, options);
  return trace;
}

std::string NameOf(const TracedOp& op) {
  return op.layer < 0 ? op.op : "layer " + std::to_string(op.layer) + " " + op.op;
}

std::string StepName(int step) { return step == 0 ? "prefill" : "decode step " + std::to_string(step); }

at::Tensor InputOf(Qwen3Engine& engine, const TracedOp& wanted, const std::vector<std::int64_t>& prompt_ids,
                   const GenerationOptions& options) {
  at::Tensor input;
  const SinkGuard guard(engine);
  engine.SetMatmulInputSink([&](int step, int layer, const std::string& op, const at::Tensor& x) {
    if (!input.defined() && step == wanted.step && layer == wanted.layer && op == wanted.op) input = x.clone();
  });
  engine.Generate(prompt_ids, options);
  return input;
}

// The checkpoint's modules behind an operation of the engine.
std::vector<std::string> ModulesOf(int layer, const std::string& op) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  static const std::map<std::string, std::vector<std::string>> modules = {
      {"qkv_proj", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
      {"o_proj", {"self_attn.o_proj"}},
      {"gate_up_proj", {"mlp.gate_proj", "mlp.up_proj"}},
      {"down_proj", {"mlp.down_proj"}}};
  std::vector<std::string> names;
  if (const auto found = modules.find(op); found != modules.end()) {
    for (const std::string& name : found->second) names.push_back(prefix + name);
  } else {
    names.push_back(prefix + (op == "q_proj" || op == "k_proj" || op == "v_proj" ? "self_attn." : "mlp.") + op);
  }
  return names;
}

std::string Figure(double value) {
  std::ostringstream text;
  text.precision(3);
  text << value;
  return text.str();
}

void CompareWithBound(const kernels::Int4Matmul& matmul, const at::Tensor& x, const Checkpoint& checkpoint,
                      const TracedOp& op, int runs, EvidenceRecord& record) {
  Evidence& evidence = record.within_rounding_bound;
  const std::int64_t rows_per_partial_sum = matmul.identity().rows_per_partial_sum;
  if (rows_per_partial_sum == 0) {
    evidence = {Finding::kNotLookedAt, matmul.identity().op + " does not say how it divides K"};
    return;
  }
  std::vector<at::Tensor> weights;
  for (const std::string& module : ModulesOf(op.layer, op.op)) {
    weights.push_back(kernels::Dequantize(checkpoint.Quantized(module)));
  }
  const at::Tensor bound = ReorderingBound(x, at::cat(weights, 1), rows_per_partial_sum);
  const at::Tensor first = matmul.Forward(x).to(at::kDouble);
  double worst_ratio = 0;
  for (int run = 1; run < runs; ++run) {
    const at::Tensor difference = (matmul.Forward(x).to(at::kDouble) - first).abs();
    // An overflow in one order only is no matter of rounding.
    if (!difference.isfinite().all().item<bool>()) {
      evidence = {Finding::kRefuted, "a difference is not finite"};
      return;
    }
    const double largest = difference.max().item<double>();
    record.largest_difference = std::max(record.largest_difference, largest);
    const at::Tensor positive = difference > 0;
    if (!positive.any().item<bool>()) continue;
    const double ratio = (difference.masked_select(positive) / bound.masked_select(positive)).max().item<double>();
    worst_ratio = std::max(worst_ratio, ratio);
  }
  record.rounding_bound = bound.max().item<double>();
  if (worst_ratio == 0) {
    evidence = {Finding::kNotLookedAt,
                "no difference was seen in " + std::to_string(runs) + " runs made for this comparison"};
    return;
  }
  evidence.finding = worst_ratio <= 1 ? Finding::kShown : Finding::kRefuted;
  evidence.detail = "largest difference " + Figure(record.largest_difference) + "; element by element at most " +
                    Figure(worst_ratio) + " of the bound that re-ordered fp16 additions obey, computed from |x|.|w|";
}

}  // namespace

at::Tensor ReorderingBound(const at::Tensor& x, const at::Tensor& w, std::int64_t rows_per_partial) {
  const std::int64_t k = w.size(0);
  const double partial_sums = std::ceil(static_cast<double>(k) / static_cast<double>(rows_per_partial));
  const auto gamma = [](double n, double u) { return n * u / (1 - n * u); };
  const double half = std::ldexp(1.0, -11);
  const double single = std::ldexp(1.0, -24);
  const double factor = 2 * gamma(partial_sums - 1, half) * (1 + half) * (1 + gamma(static_cast<double>(k), single));
  return at::matmul(x.to(at::kDouble).abs(), w.to(at::kDouble).abs()) * factor;
}

EvidenceRecord CollectEvidence(Qwen3Engine& engine, const Checkpoint& checkpoint,
                               const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& generation,
                               const EvidenceOptions& options) {
  EvidenceRecord record;
  const std::vector<TracedOp> first = TraceGeneration(engine, prompt_ids, generation);
  // The earliest operation seen to differ in any of a few generations: one
  // generation may agree by chance where the next does not.
  std::size_t earliest = first.size();
  int generations = 1;
  int differing = 0;
  while (generations < options.max_generations && differing < 5) {
    const std::vector<TracedOp> next = TraceGeneration(engine, prompt_ids, generation);
    ++generations;
    for (std::size_t i = 0; i < std::min(first.size(), next.size()); ++i) {
      if (first[i].digest != next[i].digest) {
        earliest = std::min(earliest, i);
        ++differing;
        break;
      }
    }
  }
  if (earliest == first.size()) {
    record.first_operation = {Finding::kNotLookedAt,
                              "no operation differed in " + std::to_string(generations) + " traced generations"};
    return record;
  }
  const TracedOp& op = first[earliest];
  record.first_operation_name = NameOf(op);
  record.first_operation_step = op.step;
  const kernels::Int4Matmul* matmul = engine.MatmulOf(op.layer, op.op);
  record.first_operation_is_int4 = matmul != nullptr;
  record.first_operation = {Finding::kShown, NameOf(op) + " in the " + StepName(op.step) + " is the first of " +
                                                 std::to_string(first.size()) + " operations whose bits differ; " +
                                                 std::to_string(differing) + " of " + std::to_string(generations - 1) +
                                                 " traced generations differ from the first"};
  if (matmul == nullptr) {
    const std::string why = NameOf(op) + " is not an INT4 matmul; only those are replayed alone";
    record.replay_differs = record.ordered_twin_exact = record.within_rounding_bound = {Finding::kNotLookedAt, why};
    return record;
  }

  const at::Tensor x = InputOf(engine, op, prompt_ids, generation);
  const gtest_determinism::Options alone = UndisturbedRuns(options.replay_runs);
  const Report replay = RunRepeated([&] { return matmul->Forward(x); }, alone);
  record.replay_runs = replay.runs;
  record.replay_patterns = static_cast<int>(replay.patterns.size());
  record.replay_differs = {replay.outcome == Outcome::kNondeterministic ? Finding::kShown : Finding::kRefuted,
                           matmul->identity().op +
                               " alone on frozen inputs: " + std::to_string(record.replay_patterns) +
                               " distinct patterns in " + std::to_string(replay.runs) + " runs"};
  if (matmul->identity().ordered_op.empty()) {
    record.ordered_twin_exact = {Finding::kNotLookedAt, matmul->identity().op + " has no ordered twin"};
  } else {
    const Report twin = RunRepeated([&] { return matmul->ForwardOrdered(x); }, alone);
    record.ordered_twin_exact = {twin.outcome == Outcome::kBitExact ? Finding::kShown : Finding::kRefuted,
                                 matmul->identity().ordered_op +
                                     " on the same inputs: " + std::to_string(twin.patterns.size()) +
                                     (twin.patterns.size() == 1 ? " pattern in " : " distinct patterns in ") +
                                     std::to_string(twin.runs) + " runs"};
  }
  CompareWithBound(*matmul, x, checkpoint, op, options.replay_runs, record);
  return record;
}

}  // namespace suites
