#include "gtest_determinism/explain.h"

#include <algorithm>
#include <cstdio>

#include "gtest_determinism/diff.h"

namespace gtest_determinism {
namespace {

std::string Count(std::int64_t n, std::string_view noun) {
  return std::to_string(n) + " " + std::string(noun) + (n == 1 ? "" : "s");
}

std::string Certainty(const Power& power) { return Percent(power.confidence); }

std::string BitExactText(const Report& report) {
  std::string text;
  if (report.inputs > 1) text += Count(report.inputs, "input") + ", for each ";
  text += std::to_string(report.runs) + " of " + Count(report.requested_runs, "run") + " bit-exact";
  if (report.stopped_early) text += " (stopped early)";
  if (report.compared_by_digest_only) text += " by digest";
  text += "; a deviation of probability >= " + Percent(report.power.upper_bound) + " per run" +
          (report.inputs > 1 ? ", on average over these inputs," : "") + " would have been seen with " +
          Certainty(report.power) + " certainty (" + Count(report.power.comparisons, "comparison") +
          ", if runs are independent)";
  return text;
}

std::string NondeterministicText(const Report& report) {
  std::string text;
  if (report.inputs > 1) {
    const auto most = std::max_element(report.distinct_of_input.begin(), report.distinct_of_input.end());
    text += "up to " + Count(most == report.distinct_of_input.end() ? 0 : *most, "distinct pattern") + " for one of " +
            Count(report.inputs, "input") + "; " + std::to_string(report.power.deviations) + " of " +
            Count(report.power.comparisons, "run") + " differ from run 0 of their input";
  } else {
    text += Count(static_cast<std::int64_t>(report.patterns.size()), "distinct pattern") + "; " +
            std::to_string(report.power.deviations) + " of " + Count(report.runs, "run") + " differ" +
            (report.power.deviations == 1 ? "s" : "") + " from run 0";
  }
  if (report.stopped_early) text += " (stopped early)";
  return text;
}

std::string RateText(const Power& power) {
  return Percent(power.rate) + " of runs; at least " + Percent(power.lower_bound) + ", at most " +
         Percent(power.upper_bound) + ", each with " + Certainty(power) + " certainty if runs are independent";
}

}  // namespace

std::string Percent(double fraction) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3g %%", 100 * fraction);
  return text;
}

std::string Summarize(const Report& report) {
  switch (report.outcome) {
    case Outcome::kBitExact:
      return BitExactText(report);
    case Outcome::kNondeterministic:
      return NondeterministicText(report);
    default:
      return std::string(NameOf(report.outcome)) + ": " + report.reason;
  }
}

std::string Describe(const Divergence& divergence) {
  std::string text;
  const auto add = [&text](const std::string& more) { text += (text.empty() ? "" : ", ") + more; };
  if (divergence.input > 0) add("input " + std::to_string(divergence.input));
  if (divergence.run >= 0) add("run " + std::to_string(divergence.run));
  // A mismatch of names says its part itself.
  const bool names_part = divergence.diff.mismatch.compare(0, 5, "part ") == 0;
  if (!divergence.part.empty() && !names_part) add("'" + divergence.part + "'");
  add(Describe(divergence.diff));
  if (divergence.parts > 1) {
    text += "; " + std::to_string(divergence.different_parts) + " of " + Count(divergence.parts, "part") + " differ";
  }
  if (!divergence.note.empty()) text += "; " + divergence.note;
  return text;
}

std::string ExplainFailure(const Report& report, std::string_view expression, std::string_view rerun) {
  std::string text =
      "Expected: " + std::string(expression) + " gives one bit pattern in " + Count(report.requested_runs, "run");
  if (report.inputs > 1) text += " of each of " + Count(report.inputs, "input");
  text += "\n  Actual: " + Summarize(report);
  if (report.first_divergence) text += "\n   First: " + Describe(*report.first_divergence);
  if (report.outcome == Outcome::kNondeterministic) text += "\n    Rate: " + RateText(report.power);
  if (!rerun.empty()) text += "\n  Re-run: " + std::string(rerun);
  return text;
}

std::string Abbreviate(std::string_view expression, std::size_t most) {
  std::string text;
  for (const char c : expression) {
    const bool space = c == ' ' || c == '\n' || c == '\t' || c == '\r';
    if (space && (text.empty() || text.back() == ' ')) continue;
    text += space ? ' ' : c;
  }
  if (text.size() > most) text = text.substr(0, most) + "...";
  return text;
}

}  // namespace gtest_determinism
