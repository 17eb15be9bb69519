#include "reporters/verdict.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <stdexcept>

#include "reporters/root_cause.h"
#include "reporters/text.h"

namespace reporters {
namespace {

using gtest_determinism::ControlResult;
using gtest_determinism::Outcome;
using gtest_determinism::Power;
using gtest_determinism::Report;

constexpr double kZ95 = 1.6448536269514722;  // 95 % quantile of the standard normal distribution
constexpr double kSignificance = 0.05;

std::string Count(std::int64_t n, const std::string& noun) {
  return std::to_string(n) + " " + noun + (n == 1 ? "" : "s");
}

// "1 of 1 run differs", "2 of 5 runs differ"
std::string Differ(int deviations, int of, const std::string& noun) {
  return std::to_string(deviations) + " of " + Count(of, noun) + (deviations == 1 ? " differs" : " differ");
}

struct Decision {
  std::string rule;
  std::string reason;  // "" where a claim can be made
  Outcome outcome = Outcome::kInconclusive;
};

std::vector<ControlResult> ControlsOf(const VariantRecord& record) {
  std::vector<ControlResult> controls = record.controls;
  const auto& own = record.baseline.report.controls;
  controls.insert(controls.end(), own.begin(), own.end());
  return controls;
}

std::string Silent(const ControlResult& control) {
  std::string text = "control " + control.name +
                     (!control.expects_difference ? " was seen to differ ("
                      : control.deviations == 0   ? " was not seen to differ ("
                                                  : " was not seen to differ as often as it must (") +
                     std::to_string(control.deviations) + " of " + Count(control.runs, "run") + ")";
  if (!control.detail.empty()) text += ": " + control.detail;
  return text;
}

bool Flips(const ControlResult& control) { return control.name.rfind(kFlippedPrefix, 0) == 0; }

// Rules V4 to V7 of docs/verdicts.md.
std::optional<Decision> CheckControls(const std::vector<ControlResult>& controls) {
  struct Kind {
    const char* rule;
    const char* missing;
    std::function<bool(const ControlResult&)> is;
  };
  const Kind kinds[] = {
      {"V4", "no control flipped a bit, so it is not shown that the comparison finds one",
       [](const ControlResult& c) { return Flips(c); }},
      {"V5", "no exact control was run, so it is not shown that equal results compare equal",
       [](const ControlResult& c) { return !c.expects_difference; }},
      {"V6", "no control that must differ was run, so it is not shown that the test could have failed",
       [](const ControlResult& c) { return c.expects_difference && !Flips(c); }},
  };
  for (const Kind& kind : kinds) {
    for (const ControlResult& control : controls) {
      if (kind.is(control) && !control.as_expected) return Decision{kind.rule, Silent(control)};
    }
  }
  for (const Kind& kind : kinds) {
    if (std::none_of(controls.begin(), controls.end(), kind.is)) return Decision{"V7", kind.missing};
  }
  return std::nullopt;
}

// Rule V8.
std::optional<Decision> CheckEngagement(const KernelProfile& profile) {
  std::string because;
  if (profile.expected_kernel.empty()) {
    because = "no kernel is named that must have run";
  } else if (profile.status == ProfileStatus::kNotRequested) {
    because = "no profile was taken";
  } else if (profile.status == ProfileStatus::kUnavailable) {
    because = "the profile is unavailable";
  } else if (profile.kernels.empty() || profile.status == ProfileStatus::kEmpty) {
    because = "the profile is empty";
  } else if (profile.expected_count >= std::max<std::int64_t>(1, profile.expected_at_least)) {
    // Also where records were lost: a lost record can hide a kernel, not invent one.
    return std::nullopt;
  } else {
    because = "kernel " + profile.expected_kernel + " ran " + Count(profile.expected_count, "time") + " in " +
              (profile.status == ProfileStatus::kIncomplete ? "an incomplete" : "the") + " profile, where at least " +
              Count(std::max<std::int64_t>(1, profile.expected_at_least), "call") + " must show";
  }
  if (!profile.reason.empty()) because += " (" + profile.reason + ")";
  return Decision{"V8", "it is not shown that the kernel under test ran: " + because};
}

bool SomethingDiffered(const Report& report) {
  return report.power.deviations > 0 || report.first_divergence || report.patterns.size() > 1;
}

// The rules in the order of docs/verdicts.md; the first that holds decides.
Decision Decide(const VariantRecord& record, const NoiseStatistics& noise) {
  const ModeRecord& baseline = record.baseline;
  const Report& report = baseline.report;
  if (!record.success || !baseline.succeeded) {
    const std::string& error = record.error.empty() ? baseline.error : record.error;
    return {"V1", "it did not run: " + (error.empty() ? std::string("no reason was recorded") : error),
            Outcome::kError};
  }
  if (report.runs < 2 || baseline.tokens.size() < 2) {
    return {"V2", "a claim about repetitions needs at least two; there " +
                      std::string(baseline.tokens.size() == 1 ? "was " : "were ") +
                      std::to_string(baseline.tokens.size())};
  }
  if (report.elements == 0 || report.bytes == 0 || baseline.tokens[0].empty()) {
    return {"V3", "nothing was compared: zero tokens or zero elements"};
  }
  const std::vector<ControlResult> controls = ControlsOf(record);
  if (auto finding = CheckControls(controls)) return *finding;
  if (auto finding = CheckEngagement(record.profile)) return *finding;

  const bool visible = !noise.tokens_identical || !noise.logprobs_exact;
  if (static_cast<std::size_t>(report.runs) != baseline.tokens.size() ||
      baseline.tokens.size() != baseline.logprobs.size()) {
    return {"V9", "the record contradicts itself: " + Count(report.runs, "run") + " compared, " +
                      std::to_string(baseline.tokens.size()) + " rows of tokens, " +
                      std::to_string(baseline.logprobs.size()) + " rows of logprobs"};
  }
  if (visible && !SomethingDiffered(report)) {
    return {"V9", "the record contradicts itself: tokens or logprobs differ, the comparison saw no difference"};
  }
  if (SomethingDiffered(report)) return {"V11", "", Outcome::kNondeterministic};
  if (report.outcome != Outcome::kBitExact) {
    return {"V10", "the comparison ended as " + std::string(NameOf(report.outcome)) +
                       (report.reason.empty() ? "" : ": " + report.reason)};
  }
  return {"V12", "", Outcome::kBitExact};
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// A mode may change several settings of a runtime, and then it is not known
// which of them did it.
std::string ChangedSettings(const ModeRecord& before, const ModeRecord& after) {
  std::string text;
  int changed = 0;
  const auto add = [&](const std::string& name, const std::string& from, const std::string& to) {
    if (changed++ > 0) text += ", ";
    text += name + " " + (from.empty() ? "(unset)" : from) + " -> " + (to.empty() ? "(unset)" : to);
  };
  const std::map<std::string, std::string> old(before.settings.begin(), before.settings.end());
  const std::map<std::string, std::string> now(after.settings.begin(), after.settings.end());
  for (const auto& [name, value] : old) {
    const auto found = now.find(name);
    const std::string to = found == now.end() ? "" : found->second;
    if (to != value) add(name, value, to);
  }
  for (const auto& [name, value] : now) {
    if (old.count(name) == 0 && !value.empty()) add(name, "", value);
  }
  if (changed == 0) return "";
  return "; it changes " + (changed == 1 ? "" : std::to_string(changed) + " settings at once: ") + text;
}

// What a runtime of its own computed in and on, of the many settings that it reports.
std::string SettingsText(const ModeRecord& mode) {
  std::string text;
  for (const auto& [setting, words] :
       {std::pair{"INFERENCE_PRECISION_HINT", "inference precision "}, std::pair{"KV_CACHE_PRECISION", "KV cache "},
        std::pair{"DYNAMIC_QUANTIZATION_GROUP_SIZE", "activations quantized in groups of "},
        std::pair{"NUM_STREAMS", "streams "}, std::pair{"INFERENCE_NUM_THREADS", "threads "}}) {
    for (const auto& [name, value] : mode.settings) {
      if (name == setting) text += (text.empty() ? "" : ", ") + std::string(words) + value;
    }
  }
  return text;
}

Intervention DeterministicMode(const VariantRecord& record, Outcome outcome) {
  const ModeRecord& mode = record.deterministic;
  Intervention result;
  result.name = "deterministic_mode";
  if (!mode.succeeded) {
    result.detail = mode.attempted ? "it did not run: " + mode.error : "not tried";
    return result;
  }
  const Power& before = record.baseline.report.power;
  const Power& after = mode.report.power;
  result.comparisons = after.comparisons;
  result.deviations = after.deviations;
  if (!mode.seconds.empty() && !record.baseline.seconds.empty() && Median(record.baseline.seconds) > 0) {
    result.time_ratio = Median(mode.seconds) / Median(record.baseline.seconds);
  }
  if (after.comparisons < 1) {
    result.detail = "fewer than two repetitions";
    return result;
  }
  const std::string changes = ChangedSettings(record.baseline, mode);
  const std::string with = Differ(after.deviations, after.comparisons, "comparison");
  if (before.deviations == 0) {
    result.detail = with + "; the baseline showed nothing that it could end" + changes;
    return result;
  }
  result.p_value = FisherExactP(before.deviations, before.comparisons, after.deviations, after.comparisons);
  const std::string figures = with + ", " + std::to_string(before.deviations) + " of " +
                              std::to_string(before.comparisons) +
                              " without it; p = " + FormatScientific(*result.p_value) +
                              " for so few if the mode did nothing (Fisher's exact test, one-sided)" + changes;
  if (outcome != Outcome::kNondeterministic) {
    result.detail = "no claim, since the baseline is inconclusive: " + figures;
  } else if (after.deviations > 0) {
    result.finding = Finding::kRefuted;
    result.detail = "the switch does not end it: " + figures;
  } else if (mode.report.outcome != Outcome::kBitExact) {
    // A comparison that found no flipped bit would have found no deviation either.
    result.detail = "no claim, since its own repetitions are " +
                    std::string(gtest_determinism::NameOf(mode.report.outcome)) +
                    (mode.report.reason.empty() ? "" : " (" + mode.report.reason + ")") + ": " + figures;
  } else if (*result.p_value <= kSignificance) {
    result.finding = Finding::kShown;
    result.detail = figures;
  } else {
    result.detail = "too few repetitions to tell: " + figures;
  }
  return result;
}

Intervention OrderedTwin(const EvidenceRecord& evidence) {
  Intervention result;
  result.name = "ordered_twin";
  result.finding = evidence.ordered_twin_exact.finding;
  result.detail = evidence.ordered_twin_exact.detail;
  return result;
}

// Of the first operation alone, on frozen inputs.
Intervention SwitchOnOperation(const EvidenceRecord& evidence) {
  Intervention result;
  result.name = "deterministic_switch_on_first_operation";
  result.finding = evidence.switch_on_operation.finding;
  result.detail = evidence.switch_on_operation.detail;
  return result;
}

RootCause CauseOf(const VariantRecord& record, const Decision& decided, const Intervention& mode) {
  if (decided.outcome == Outcome::kBitExact) {
    return {"C0", "None to name: " + Count(record.baseline.report.runs, "repetition") + " gave one bit pattern."};
  }
  if (decided.outcome != Outcome::kNondeterministic) return {"C0", "Unknown: " + decided.reason + "."};
  return WordRootCause(record.evidence, mode);
}

// Samples for shifts of the mean by one, one half and one tenth of `std`, and by `mean`.
std::string SamplesText(const std::string& what, double mean, double std, std::int64_t distances) {
  std::string text = what + ": mean " + FormatScientific(mean) + ", population std " + FormatScientific(std) +
                     " over " + Count(distances, "distance") + " from repetition 0. ";
  if (distances < 2) return text + "One distance has no spread: the number of samples for a shift cannot be stated.";
  if (!(std > 0)) {
    return text + "The distances are all equal, so no spread is known and the number of samples cannot be stated.";
  }
  const auto samples = [&](double shift) { return std::to_string(SamplesForShift(std, shift)); };
  text +=
      "To tell a shift d of this mean from noise, one-sided z-test at 5 % false alarms and 95 % power: "
      "n = ceil((3.29 * std / d)^2) samples; d = std: " +
      samples(std) + ", d = std/2: " + samples(std / 2);
  if (mean > 0) text += ", d = mean: " + samples(mean);
  return text + ". It takes the samples as independent and their mean as normal; std is itself an estimate.";
}

std::string Implications(const VariantRecord& record, const Decision& decided, const NoiseStatistics& noise) {
  const Report& report = record.baseline.report;
  const std::string same = " (same device, build, kernel, threads and input)";
  if (decided.outcome == Outcome::kBitExact) {
    const double bound = report.power.upper_bound;
    std::string text = "Noise floor: zero; " + Count(report.runs, "repetition") + " gave one bit pattern" + same +
                       ". The probability that an honest run differs in any bit is at most " + FormatPercent(bound) +
                       " (95 %, if runs are independent), so one deviating sample is outside the noise at that level";
    if (bound > kSignificance && bound < 1) {
      const int samples = static_cast<int>(std::ceil(std::log(kSignificance) / std::log(bound)));
      text += "; " + Count(samples, "deviating sample") + " in a row bring it below 5 %";
    }
    return text + ". The size of the deviation does not matter: one bit is enough.";
  }
  if (decided.outcome != Outcome::kNondeterministic) {
    return "None: the noise floor is not established, so no deviation can be told from noise.";
  }
  const auto distances = static_cast<std::int64_t>(record.baseline.tokens.size()) - 1;
  if (noise.tokens_identical && noise.logprobs_exact) {
    std::string text = "Noise floor of the chosen tokens' logprobs: zero; only logits differ" + same + ". ";
    if (noise.logits_l2_mean) {
      return text + SamplesText("Noise in logits, L2", *noise.logits_l2_mean, *noise.logits_l2_std,
                                static_cast<std::int64_t>(record.baseline.logits_l2.size()));
    }
    if (report.first_divergence) {
      const auto& diff = report.first_divergence->diff;
      text += "Noise in logits: the first differing part, " + report.first_divergence->part + ", has " +
              std::to_string(diff.different_elements) + " of " + std::to_string(diff.elements) + " elements different";
      if (diff.max_abs_difference) text += ", by at most " + FormatScientific(*diff.max_abs_difference);
      return text + ". No spread over repetitions was measured, so the number of samples cannot be stated.";
    }
    return text + "Their size was not measured.";
  }
  if (noise.tokens_identical && noise.l2_mean) {
    return SamplesText("Noise floor of the chosen tokens' logprobs, L2" + same, *noise.l2_mean, *noise.l2_std,
                       distances);
  }
  if (noise.parting_position) {
    std::string text = "The noise changes tokens: they part at position " + std::to_string(*noise.parting_position) +
                       ", and from there distances compare different tokens. ";
    if (noise.prefix_l2_mean) {
      return text +
             SamplesText("Noise floor over the " + Count(*noise.parting_position, "token") + " before, L2" + same,
                         *noise.prefix_l2_mean, *noise.prefix_l2_std, distances);
    }
    return text + "There is no common prefix over which a noise floor could be stated" +
           (noise.reason.empty() ? "." : ": " + noise.reason + ".");
  }
  return "The noise cannot be stated as a distance: " + noise.reason + ".";
}

std::vector<std::string> Details(const VariantRecord& record, const Decision& decided, const NoiseStatistics& noise,
                                 const Intervention& mode) {
  std::vector<std::string> details;
  const Report& report = record.baseline.report;
  const Power& power = report.power;
  if (!decided.reason.empty()) {
    details.push_back((decided.outcome == Outcome::kError ? "Error: " : "Inconclusive: ") + decided.reason);
  }
  if (record.baseline.succeeded && power.comparisons > 0) {
    if (SomethingDiffered(report)) {
      if (noise.l2_mean) {
        details.push_back("Mean L2 deviation: " + FormatScientific(*noise.l2_mean));
        details.push_back("Max L2 deviation: " + FormatScientific(*noise.l2_max));
      } else if (!noise.reason.empty()) {
        details.push_back("No L2 deviation: " + noise.reason);
      }
      details.push_back(Differ(power.deviations, power.comparisons, "comparison") + " from repetition 0; " +
                        Count(static_cast<std::int64_t>(report.patterns.size()), "distinct bit pattern"));
      details.push_back("Deviation rate per repetition: at least " + FormatPercent(power.lower_bound) + "; at most " +
                        FormatPercent(power.upper_bound) +
                        " (each of the two holds alone at 95 %: one-sided Clopper-Pearson bounds, if repetitions are "
                        "independent)");
      if (report.first_divergence) {
        const auto& first = *report.first_divergence;
        details.push_back("First divergence: repetition " + std::to_string(first.run) + ", " +
                          (first.part.empty() ? "" : first.part + ", ") + Describe(first.diff));
      }
    } else {
      details.push_back(Count(report.runs, "repetition") + " equal in every bit of " +
                        Count(report.elements, "element"));
      details.push_back("A deviation of probability " + FormatPercent(power.upper_bound) +
                        " per repetition or more would have been seen with 95 % certainty (" +
                        Count(power.comparisons, "comparison") + ", if repetitions are independent)");
    }
  }
  if (noise.parting_position) {
    details.push_back("Tokens part at position " + std::to_string(*noise.parting_position));
  } else if (record.baseline.succeeded && noise.tokens_identical && SomethingDiffered(report)) {
    details.push_back(noise.logprobs_exact ? "Tokens and their logprobs are identical; only logits differ"
                                           : "Tokens are identical in all repetitions");
  }
  switch (mode.finding) {
    case Finding::kShown:
      details.push_back("\xE2\x9C\x93 DETERMINISTIC MODE FIXES IT");
      details.push_back(mode.detail);
      break;
    case Finding::kRefuted:
      details.push_back("\xE2\x9C\x97 DETERMINISTIC MODE DOES NOT FIX IT");
      details.push_back(mode.detail);
      break;
    case Finding::kNotLookedAt:
      if (!mode.detail.empty()) details.push_back("Deterministic mode: " + mode.detail);
      break;
  }
  if (mode.time_ratio) {
    char ratio[32];
    std::snprintf(ratio, sizeof(ratio), "%.2f", *mode.time_ratio);
    details.push_back("Measured cost of deterministic mode: " + std::string(ratio) +
                      " times the baseline's median time of a repetition");
  }
  if (record.profile.unattributed > 0) {
    details.push_back(Count(record.profile.unattributed, "kernel execution") +
                      " in the profiled pass belong to no operator that is known");
  }
  if (record.profile.expected_count > 0) {
    details.push_back("Kernel " + record.profile.expected_kernel + " ran " +
                      Count(record.profile.expected_count, "time") + " in the profiled pass; at least " +
                      std::to_string(record.profile.expected_at_least) + " needed");
  }
  // OpenVINO computes in float32 with its INT4 kernels.
  if (record.compute == "fp32" && record.provider != "openvino") {
    details.push_back(
        "No INT4 kernel ran: in fp32 the exact dequantized weights are multiplied in float32, and the verdict is about "
        "those matmuls, not about kernel " +
        record.kernel);
  }
  if (const std::string settings = SettingsText(record.baseline); !settings.empty()) {
    details.push_back("The runtime's settings: " + settings);
  }
  if (const std::string settings = SettingsText(record.deterministic); !settings.empty()) {
    details.push_back("The runtime's settings in deterministic mode: " + settings);
  }
  for (const ControlResult& control : ControlsOf(record)) {
    details.push_back("Control " + control.name + ": " + Differ(control.deviations, control.runs, "run") + ", " +
                      (control.as_expected ? "as it must be" : "NOT as it must be"));
  }
  return details;
}

void Expect(const VariantRecord& record, Verdict* verdict) {
  const std::string found(NameOf(verdict->outcome));
  const std::string where = record.device + "/" + record.provider;
  if (record.expected.empty()) {
    verdict->expectation = "no expectation for " + where + " in the variants file; found " + found;
    return;
  }
  verdict->met_expectation =
      (record.expected == "bit_exact" || record.expected == "nondeterministic") && record.expected == found;
  verdict->expectation = "expected " + record.expected + " on " + where + ", found " + found;
  if (!verdict->met_expectation && verdict->outcome == Outcome::kBitExact) {
    verdict->expectation += ": the noise can no longer be seen; if it was fixed, change `expected`";
  }
}

std::vector<std::string> Warnings(const VariantRecord& record, const NoiseStatistics& noise) {
  std::vector<std::string> warnings = record.remarks;
  warnings.insert(warnings.end(), record.deterministic.warnings.begin(), record.deterministic.warnings.end());
  const KernelProfile& profile = record.profile;
  if (record.success && profile.status != ProfileStatus::kOk) {
    warnings.push_back("kernel profile " + std::string(NameOf(profile.status)) +
                       (profile.reason.empty() ? "" : ": " + profile.reason));
  }
  if (record.baseline.report.compared_by_digest_only) {
    warnings.push_back("compared by 128-bit digests, not by bytes");
  }
  if (record.baseline.report.stopped_early) {
    warnings.push_back("stopped after " + std::to_string(record.baseline.report.runs) + " of " +
                       Count(record.baseline.report.requested_runs, "repetition"));
  }
  if (record.baseline.succeeded && !noise.reason.empty()) warnings.push_back("statistics: " + noise.reason);
  if (record.model_source == "embedded") {
    const std::string name = record.model.substr(0, record.model.find(" (embedded)"));
    warnings.push_back("ran the embedded model " + name + ", not " +
                       (record.table_model.empty() ? "the variant's own" : record.table_model));
  }
  return warnings;
}

}  // namespace

int SamplesForShift(double std, double shift) {
  if (!(std >= 0) || !(shift > 0)) throw std::invalid_argument("a shift above 0 and a std of 0 or more are needed");
  const double n = std::ceil(std::pow(2 * kZ95 * std / shift, 2));
  if (!(n < std::numeric_limits<int>::max())) return std::numeric_limits<int>::max();
  return std::max(1, static_cast<int>(n));
}

double FisherExactP(int first_deviations, int first_comparisons, int deviations, int comparisons) {
  const int total = first_comparisons + comparisons;
  const int successes = first_deviations + deviations;
  if (first_deviations < 0 || deviations < 0 || first_deviations > first_comparisons || deviations > comparisons) {
    throw std::invalid_argument("deviations must lie between 0 and the comparisons");
  }
  const auto log_choose = [](int n, int k) {
    return std::lgamma(n + 1.0) - std::lgamma(k + 1.0) - std::lgamma(n - k + 1.0);
  };
  double p = 0;
  for (int k = std::max(0, successes - first_comparisons); k <= deviations; ++k) {
    p += std::exp(log_choose(comparisons, k) + log_choose(first_comparisons, successes - k) -
                  log_choose(total, successes));
  }
  return std::min(1.0, p);
}

Verdict DeriveVerdict(const VariantRecord& record) {
  Verdict verdict;
  verdict.baseline_noise = ComputeNoise(record.baseline);
  verdict.deterministic_noise = ComputeNoise(record.deterministic);
  const Decision decided = Decide(record, verdict.baseline_noise);
  verdict.rule = decided.rule;
  verdict.reason = decided.reason;
  verdict.outcome = decided.outcome;
  verdict.deterministic_mode_tested = record.deterministic.succeeded;
  verdict.summary = kSummaryInconclusive;
  if (decided.outcome == Outcome::kBitExact) {
    verdict.is_deterministic = true;
    verdict.summary = kSummaryDeterministic;
  } else if (decided.outcome == Outcome::kNondeterministic) {
    verdict.is_deterministic = false;
    verdict.summary = kSummaryNondeterministic;
  }
  const Intervention mode = DeterministicMode(record, decided.outcome);
  verdict.interventions = {mode, OrderedTwin(record.evidence), SwitchOnOperation(record.evidence)};
  verdict.switch_ends_it = {mode.finding, mode.detail};
  const RootCause cause = CauseOf(record, decided, mode);
  verdict.root_cause = cause.text;
  verdict.root_cause_rule = cause.rule;
  verdict.forensic_implications = Implications(record, decided, verdict.baseline_noise);
  verdict.details = Details(record, decided, verdict.baseline_noise, mode);
  verdict.warnings = Warnings(record, verdict.baseline_noise);
  Expect(record, &verdict);
  return verdict;
}

}  // namespace reporters
