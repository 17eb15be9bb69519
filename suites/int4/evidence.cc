#include "suites/int4/evidence.h"

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <sstream>
#include <stdexcept>
#include <utility>

#include "gtest_determinism/runner.h"
#include "gtest_determinism/torch.h"
#include "reporters/cuda/kernel_profiler.h"
#include "reporters/cuda/machine_code.h"
#include "reporters/verdict.h"
#include "suites/int4/undisturbed_runs.h"

namespace suites {
namespace {

using gtest_determinism::Outcome;
using gtest_determinism::Report;
using gtest_determinism::RunRepeated;
using reporters::Evidence;
using reporters::EvidenceRecord;
using reporters::Finding;

// The sink refers to locals of this file; it goes with them, also where a
// generation throws.
class SinkGuard {
 public:
  explicit SinkGuard(Qwen3Engine& engine) : engine_(engine) {}
  ~SinkGuard() { engine_.SetReplaySink({}); }
  SinkGuard(const SinkGuard&) = delete;
  SinkGuard& operator=(const SinkGuard&) = delete;

 private:
  Qwen3Engine& engine_;
};

// PyTorch's deterministic mode while it lives.
class DeterministicSwitch {
 public:
  DeterministicSwitch()
      : enabled_(at::globalContext().deterministicAlgorithms()),
        warn_only_(at::globalContext().deterministicAlgorithmsWarnOnly()) {
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  }
  ~DeterministicSwitch() { at::globalContext().setDeterministicAlgorithms(enabled_, warn_only_); }
  DeterministicSwitch(const DeterministicSwitch&) = delete;
  DeterministicSwitch& operator=(const DeterministicSwitch&) = delete;

 private:
  bool enabled_, warn_only_;
};

std::string NameOf(const TracedOp& op) {
  return op.layer < 0 ? op.op : "layer " + std::to_string(op.layer) + " " + op.op;
}

std::string StepName(int step) { return step == 0 ? "prefill" : "decode step " + std::to_string(step); }

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

std::string Patterns(const Report& report) {
  const auto patterns = report.patterns.size();
  return std::to_string(patterns) + (patterns == 1 ? " pattern in " : " distinct patterns in ") +
         std::to_string(report.runs) + " runs";
}

// The largest and the smallest that each element was in some runs.
struct Extremes {
  at::Tensor first, largest, smallest;
};

Extremes ExtremesOf(const kernels::Int4Matmul& matmul, const at::Tensor& x, int runs) {
  Extremes extremes;
  extremes.first = matmul.Forward(x);
  extremes.largest = extremes.smallest = extremes.first;
  for (int run = 1; run < runs; ++run) {
    const at::Tensor y = matmul.Forward(x);
    extremes.largest = at::maximum(extremes.largest, y);
    extremes.smallest = at::minimum(extremes.smallest, y);
  }
  return extremes;
}

void CompareWithBound(const kernels::Int4Matmul& matmul, const at::Tensor& x, const Checkpoint& checkpoint,
                      const TracedOp& op, int runs, EvidenceRecord& record) {
  Evidence& evidence = record.within_rounding_bound;
  const std::int64_t rows_per_partial_sum = matmul.identity().rows_per_partial_sum;
  if (rows_per_partial_sum == 0) {
    evidence = {Finding::kNotLookedAt, matmul.identity().op + " does not say how it divides K"};
    return;
  }
  const Extremes extremes = ExtremesOf(matmul, x, runs);
  double worst_ratio = 0;
  std::int64_t begin = 0;  // first column of the module
  for (const std::string& module : ModulesOf(op.layer, op.op)) {
    const at::Tensor weight = kernels::Dequantize(checkpoint.Quantized(module));
    // As many columns at a time as make the float64 weights 256 MiB.
    const std::int64_t columns = std::max<std::int64_t>(1, (std::int64_t{32} << 20) / weight.size(0));
    for (std::int64_t at = 0; at < weight.size(1); at += columns) {
      const std::int64_t count = std::min(columns, weight.size(1) - at);
      const at::Tensor bound = ReorderingBound(x, weight.narrow(1, at, count).to(x.device()), rows_per_partial_sum);
      const auto piece = [&](const at::Tensor& y) { return y.narrow(1, begin + at, count).to(at::kDouble); };
      const at::Tensor first = piece(extremes.first);
      const at::Tensor difference = at::maximum(piece(extremes.largest) - first, first - piece(extremes.smallest));
      // An overflow in one order only is no matter of rounding.
      if (!difference.isfinite().all().item<bool>()) {
        evidence = {Finding::kRefuted, "a difference is not finite"};
        return;
      }
      record.largest_difference = std::max(record.largest_difference, difference.max().item<double>());
      record.rounding_bound = std::max(record.rounding_bound, bound.max().item<double>());
      const at::Tensor positive = difference > 0;
      if (!positive.any().item<bool>()) continue;
      worst_ratio = std::max(worst_ratio,
                             (difference.masked_select(positive) / bound.masked_select(positive)).max().item<double>());
    }
    begin += weight.size(1);
  }
  if (worst_ratio == 0) {
    evidence = {Finding::kNotLookedAt,
                "no difference was seen in " + std::to_string(runs) + " runs made for this comparison"};
    return;
  }
  evidence.finding = worst_ratio <= 1 ? Finding::kShown : Finding::kRefuted;
  evidence.detail = "largest difference " + Figure(record.largest_difference) + "; element by element at most " +
                    Figure(worst_ratio) + " of the bound that re-ordered fp16 additions obey, computed from |x|.|w|";
}

// The kernels that the operation launches, and what their machine code adds.
void ReadKernels(const std::function<std::vector<at::Tensor>()>& run, EvidenceRecord& record) {
  constexpr int kRuns = 3;
  reporters::CuptiProfiler profiler;
  if (!profiler.Start()) {
    record.replay_kernels = record.float_atomics = {Finding::kNotLookedAt, profiler.reason()};
    return;
  }
  for (int i = 0; i < kRuns; ++i) run();
  const reporters::CudaProfile profile = profiler.Stop();
  std::map<std::string, int> counts;  // by mangled name
  std::vector<std::string> functions;
  for (const reporters::ProfiledKernel& kernel : profile.kernels) {
    if (counts[kernel.activity.name]++ == 0) functions.push_back(kernel.activity.name);
  }
  record.replay_kernels = {
      functions.empty() ? Finding::kNotLookedAt : Finding::kShown,
      std::to_string(functions.size()) + (functions.size() == 1 ? " device function" : " device functions")};
  if (!profile.reason.empty()) record.replay_kernels.detail += ": " + profile.reason;
  std::string shown, unread;
  for (const reporters::FunctionCode& code : reporters::ReadMachineCode(functions)) {
    reporters::ReplayKernel kernel;
    kernel.name = reporters::DemangledName(code.name);
    kernel.per_run = static_cast<double>(counts[code.name]) / kRuns;
    kernel.float_atomics = code.float_atomics;
    const std::string entry = kernel.name + ": " + code.float_atomics.detail;
    if (code.float_atomics.finding == Finding::kShown) shown += (shown.empty() ? "" : "; ") + entry;
    if (code.float_atomics.finding == Finding::kNotLookedAt) unread += (unread.empty() ? "" : "; ") + entry;
    record.kernels.push_back(std::move(kernel));
  }
  if (!shown.empty()) {
    record.float_atomics = {Finding::kShown, shown};
  } else if (!unread.empty() || profile.status != reporters::ProfileStatus::kOk) {
    record.float_atomics = {Finding::kNotLookedAt, unread.empty() ? profile.reason : unread};
  } else {
    record.float_atomics = {Finding::kRefuted, "none in the machine code of " + record.replay_kernels.detail};
  }
}

// The operation alone: `run` computes it from its true inputs.
void Replay(const std::string& name, const std::function<std::vector<at::Tensor>()>& run,
            const kernels::Int4Matmul* matmul, const at::Tensor& x, const TracedOp& op, const Checkpoint& checkpoint,
            int runs, EvidenceRecord& record) {
  const gtest_determinism::Options alone = UndisturbedRuns(runs);
  const Report replay = RunRepeated(run, alone);
  if (replay.outcome == Outcome::kError) throw std::runtime_error(name + " alone: " + replay.reason);
  record.replay_runs = replay.runs;
  record.replay_patterns = static_cast<int>(replay.patterns.size());
  record.replay_differs = {replay.outcome == Outcome::kNondeterministic ? Finding::kShown : Finding::kRefuted,
                           name + " alone on frozen inputs: " + Patterns(replay)};
  const bool differs = record.replay_differs.finding == Finding::kShown;

  if (differs) {
    const Report switched = [&] {
      const DeterministicSwitch deterministic;
      return RunRepeated(run, alone);
    }();
    record.switch_runs = switched.runs;
    record.switch_patterns = static_cast<int>(switched.patterns.size());
    const double p = reporters::FisherExactP(replay.power.deviations, replay.power.comparisons,
                                             switched.power.deviations, switched.power.comparisons);
    const Finding finding = switched.outcome == Outcome::kNondeterministic        ? Finding::kRefuted
                            : switched.outcome == Outcome::kBitExact && p <= 0.05 ? Finding::kShown
                                                                                  : Finding::kNotLookedAt;
    record.switch_on_operation = {finding, name + " alone under the deterministic switch: " + Patterns(switched)};
  } else {
    record.switch_on_operation.detail = name + " does not differ alone";
  }

  const std::vector<at::Tensor> outputs = run();
  if (!outputs.empty() && outputs[0].is_cuda()) {
    ReadKernels(run, record);
  } else {
    record.replay_kernels = record.float_atomics = {Finding::kNotLookedAt, "it ran on a CPU"};
  }
  if (matmul == nullptr) {
    record.ordered_twin_exact = {Finding::kNotLookedAt, name + " has no ordered twin"};
    record.within_rounding_bound = {Finding::kNotLookedAt,
                                    name + " is not an INT4 matmul; the bound is known for those only"};
    return;
  }
  if (matmul->identity().ordered_op.empty()) {
    record.ordered_twin_exact = {Finding::kNotLookedAt, matmul->identity().op + " has no ordered twin"};
  } else {
    const Report twin = RunRepeated([&] { return matmul->ForwardOrdered(x); }, alone);
    record.ordered_twin_exact = {twin.outcome == Outcome::kBitExact ? Finding::kShown : Finding::kRefuted,
                                 matmul->identity().ordered_op + " on the same inputs: " + Patterns(twin)};
  }
  CompareWithBound(*matmul, x, checkpoint, op, runs, record);
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
  const std::vector<TracedOp> first = engine.Trace(prompt_ids, generation);
  // The earliest operation seen to differ in any of a few generations: one
  // generation may agree by chance where the next does not.
  std::size_t earliest = first.size();
  int generations = 1;
  int differing = 0;
  while (generations < options.max_generations && differing < 5) {
    const std::vector<TracedOp> next = engine.Trace(prompt_ids, generation);
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
  const std::string name = NameOf(op);
  record.first_operation_name = name;
  record.first_operation_step = op.step;
  record.first_operation_is_int4 = engine.MatmulOf(op.layer, op.op) != nullptr;
  record.first_operation = {Finding::kShown, name + " in the " + StepName(op.step) + " is the first of " +
                                                 std::to_string(first.size()) + " operations whose bits differ; " +
                                                 std::to_string(differing) + " of " + std::to_string(generations - 1) +
                                                 " traced generations differ from the first"};

  // A prefill in pieces has the same operation several times.
  const auto same = [&](const TracedOp& other) { return static_cast<const OpSite&>(other) == op; };
  auto before = std::count_if(first.begin(), first.begin() + static_cast<std::ptrdiff_t>(earliest), same);
  bool replayed = false;
  {
    const SinkGuard guard(engine);
    engine.SetReplaySink([&](const OpSite& site, const std::function<std::vector<at::Tensor>()>& run,
                             const kernels::Int4Matmul* matmul, const at::Tensor& x) {
      if (replayed || !(site == op) || before-- > 0) return;
      replayed = true;
      Replay(name, run, matmul, x, op, checkpoint, options.replay_runs, record);
    });
    engine.Generate(prompt_ids, generation);
  }
  if (!replayed) {
    const std::string why = name + " was not offered for a replay";
    for (Evidence* evidence : {&record.replay_differs, &record.ordered_twin_exact, &record.within_rounding_bound,
                               &record.replay_kernels, &record.float_atomics, &record.switch_on_operation}) {
      *evidence = {Finding::kNotLookedAt, why};
    }
  }
  return record;
}

}  // namespace suites
