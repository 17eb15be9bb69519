#include "reporters/root_cause.h"

#include <cstdint>

#include "reporters/text.h"

namespace reporters {
namespace {

bool Shown(const Evidence& e) { return e.finding == Finding::kShown; }
bool Refuted(const Evidence& e) { return e.finding == Finding::kRefuted; }

std::string Count(std::int64_t n, const std::string& noun) {
  return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
}

std::string Where(const EvidenceRecord& evidence) {
  const int step = evidence.first_operation_step;
  std::string where = "It is the first operation whose bits differ between two repetitions";
  if (step >= 0) where += step == 0 ? ", in the prefill" : ", in decode step " + std::to_string(step);
  where += evidence.first_operation_is_int4 ? ", and an INT4 matmul" : ", and not an INT4 matmul";
  return where + ". ";
}

// "gptq_gemm (1 a run, RED.E.ADD.F16x2.RN), fill (1 a run)"
std::string Kernels(const EvidenceRecord& evidence) {
  constexpr std::size_t kMost = 4;
  constexpr std::size_t kWidth = 100;
  std::string text;
  for (std::size_t i = 0; i < evidence.kernels.size() && i < kMost; ++i) {
    const ReplayKernel& kernel = evidence.kernels[i];
    text += (i > 0 ? ", " : "") + Elide(OneLine(kernel.name), kWidth);
    if (Shown(kernel.float_atomics)) text += " (" + kernel.float_atomics.detail + ")";
  }
  if (evidence.kernels.size() > kMost) text += " and " + std::to_string(evidence.kernels.size() - kMost) + " more";
  return text;
}

// Figures of the record only: the details of `evidence` say the same at length.
std::string OnTheOperationAlone(const EvidenceRecord& evidence) {
  std::string text;
  if (Shown(evidence.replay_differs)) {
    text += "Alone on frozen inputs it gave " + Count(evidence.replay_patterns, "bit pattern") + " in " +
            Count(evidence.replay_runs, "run") + ". ";
  } else if (Refuted(evidence.replay_differs)) {
    text += "Alone on frozen inputs it gave one bit pattern in " + Count(evidence.replay_runs, "run") + ". ";
  }
  if (!evidence.kernels.empty()) text += "It launched " + Kernels(evidence) + ". ";
  if (Shown(evidence.float_atomics)) {
    text += "Their machine code adds floating-point numbers atomically, in the order of arrival. ";
  } else if (Refuted(evidence.float_atomics)) {
    text += "Their machine code has no atomic addition of floating-point numbers. ";
  }
  if (Shown(evidence.ordered_twin_exact)) {
    text += "Its ordered twin gives one bit pattern on the same inputs. ";
  } else if (Refuted(evidence.ordered_twin_exact)) {
    text += "Its ordered twin differs on the same inputs too. ";
  }
  const std::string sizes = FormatScientific(evidence.largest_difference) + " against a bound of " +
                            FormatScientific(evidence.rounding_bound);
  if (Shown(evidence.within_rounding_bound)) {
    text += "The differences are of the size of re-ordered rounding: " + sizes + ". ";
  } else if (Refuted(evidence.within_rounding_bound)) {
    text += "The differences are larger than re-ordered rounding explains: " + sizes + ". ";
  }
  return text;
}

// The switch on the operation, then on the whole.
std::string OfTheSwitch(const EvidenceRecord& evidence, const Intervention& mode) {
  std::string text;
  const std::string figures =
      Count(evidence.switch_patterns, "bit pattern") + " in " + Count(evidence.switch_runs, "run");
  if (Shown(evidence.switch_on_operation)) {
    text += "The deterministic switch ends it in the operation alone: " + figures + ". ";
  } else if (Refuted(evidence.switch_on_operation)) {
    text += "The deterministic switch does not reach the operation: " + figures + " under it. ";
  }
  if (mode.finding == Finding::kShown) text += "The deterministic mode ends it: " + mode.detail + ". ";
  if (mode.finding == Finding::kRefuted) text += "The deterministic mode does not: " + mode.detail + ". ";
  return text;
}

}  // namespace

RootCause WordRootCause(const EvidenceRecord& evidence, const Intervention& mode) {
  const std::string& operation = evidence.first_operation_name;
  const bool located = Shown(evidence.first_operation) && !operation.empty();
  const bool alone = located && Shown(evidence.replay_differs);
  const bool rounding = Shown(evidence.within_rounding_bound);
  RootCause cause;
  std::string& text = cause.text;
  if (alone && rounding && Shown(evidence.ordered_twin_exact)) {
    cause.rule = "C1";
    text = "Order of accumulation in " + operation + ". ";
  } else if (alone && rounding && Shown(evidence.float_atomics) && !Refuted(evidence.ordered_twin_exact)) {
    cause.rule = "C2";
    text = "Order of accumulation in " + operation + ", by atomic floating-point additions. ";
  } else if (alone && Shown(evidence.float_atomics)) {
    cause.rule = "C3";
    text = operation + " is non-deterministic by itself; whether by the atomic additions in its kernels is unknown. ";
  } else if (alone && Refuted(evidence.float_atomics)) {
    cause.rule = "C4";
    text = operation + " is non-deterministic by itself, and not by atomic additions; by which mechanism is unknown. ";
  } else if (alone) {
    cause.rule = "C5";
    text = operation + " is non-deterministic by itself; by which mechanism is unknown. ";
  } else if (located) {
    cause.rule = "C6";
    text = "Unknown; the first operation that differs is " + operation + ". ";
  } else {
    cause.rule = "C7";
    text = "Unknown: no operation was shown to differ first";
    if (!evidence.first_operation.detail.empty()) text += ", " + evidence.first_operation.detail;
    text += ". ";
  }
  if (located) text += Where(evidence);
  text += OnTheOperationAlone(evidence) + OfTheSwitch(evidence, mode);
  text.pop_back();
  return cause;
}

}  // namespace reporters
