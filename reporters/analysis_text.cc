#include "reporters/analysis_text.h"

#include <cstdio>
#include <ostream>

namespace reporters {
namespace {

using gtest_determinism::Outcome;
using Align = Table::Align;

Table::Cell OutcomeCell(const ResultFile& file) {
  if (file.kind == ResultKind::kOlder && file.outcome == Outcome::kInconclusive) {
    return {file.claims_deterministic == true ? "claims exact" : "inconclusive", Color::kYellow};
  }
  const Color color = file.outcome == Outcome::kBitExact           ? Color::kGreen
                      : file.outcome == Outcome::kInconclusive     ? Color::kYellow
                      : file.outcome == Outcome::kNondeterministic ? Color::kNone
                                                                   : Color::kRed;
  return {std::string(NameOf(file.outcome)), color};
}

std::string NoiseCell(const ResultFile& file) {
  const NoiseStatistics& noise = file.baseline.noise;
  return FormatScientific(noise.parting_position ? noise.prefix_l2_mean : noise.l2_mean);
}

std::string DeterministicCell(const ResultFile& file) {
  const ModeResult& mode = file.deterministic;
  if (!mode.succeeded) return mode.error.empty() ? "-" : "failed";
  return std::to_string(mode.power.deviations) + "/" + std::to_string(mode.power.comparisons);
}

std::string Ratio(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3g", value);
  return text;
}

std::string CostCell(const ResultFile& file) {
  const auto& before = file.baseline.median_seconds;
  return before ? FormatSeconds(*before) : "-";
}

std::string ModeCostCell(const ResultFile& file) {
  const auto& before = file.baseline.median_seconds;
  const auto& after = file.deterministic.median_seconds;
  return before && after && *before > 0 ? Ratio(*after / *before) + "x" : "-";
}

void WriteFiles(std::ostream& out, const std::vector<ResultFile>& files, const ConsoleStyle& style) {
  Table table({"variant", "device", "kernel", "outcome", "differ", "bound", "distinct", "noise L2", "s/run",
               "det. mode", "cost"},
              {Align::kLeft, Align::kLeft, Align::kLeft, Align::kLeft, Align::kRight, Align::kRight, Align::kRight,
               Align::kRight, Align::kRight, Align::kRight, Align::kRight});
  for (const ResultFile& file : files) {
    std::vector<std::string> below = {OneLine(file.path.string())};
    if (file.kind == ResultKind::kFailure) below.push_back("did not run: " + OneLine(file.error));
    for (const std::string& note : file.notes) below.push_back("note: " + OneLine(note));
    for (const std::string& disagreement : file.disagreements) below.push_back("DISAGREES: " + OneLine(disagreement));
    const auto name = [](const std::string& text) {
      return text.empty() ? std::string("-") : Elide(OneLine(text), 14);
    };
    if (file.kind == ResultKind::kFailure) {
      table.AddRow({{Elide(OneLine(file.variant), 24)}, {name(file.device)}, {name(file.kernel)}, OutcomeCell(file)},
                   below);
      continue;
    }
    const auto& power = file.baseline.power;
    table.AddRow({{Elide(OneLine(file.variant), 24)},
                  {name(file.device)},
                  {name(file.kernel)},
                  OutcomeCell(file),
                  {std::to_string(power.deviations) + "/" + std::to_string(power.comparisons)},
                  {FormatPercent(power.upper_bound)},
                  {std::to_string(file.baseline.distinct)},
                  {NoiseCell(file)},
                  {CostCell(file)},
                  {DeterministicCell(file)},
                  {ModeCostCell(file)}},
                 below);
  }
  table.Write(out, style);
  out << "differ     repetitions whose bits differ from the first's, of those compared with it\n"
         "bound      the probability that a repetition differs is at most this, at 95 %, if repetitions are "
         "independent\n"
         "distinct   bit patterns over all repetitions\n"
         "noise L2   mean distance of the chosen tokens' logprobs from the first repetition's, up to where tokens "
         "part\n"
         "s/run      median time of a repetition\n"
         "det. mode  as `differ`, in the deterministic mode of the framework\n"
         "cost       median time of a repetition in that mode over that without it\n";
}

void WriteVariants(std::ostream& out, const Analysis& analysis, const ConsoleStyle& style) {
  out << "\nBetween variants (repetition 0 of the newest file of each)\n";
  if (analysis.other_models > 0) {
    out << analysis.other_models << (analysis.other_models == 1 ? " pair" : " pairs")
        << " of different models left out; --across-models compares them too\n";
  }
  if (analysis.variants.empty()) return;
  Table table({"variant", "variant", "same tokens", "L2", "noise L2", "L2/noise"},
              {Align::kLeft, Align::kLeft, Align::kRight, Align::kRight, Align::kRight, Align::kRight});
  for (const VariantComparison& c : analysis.variants) {
    std::string ratio = "-";
    if (c.l2 && c.noise) ratio = *c.noise > 0 ? Ratio(*c.l2 / *c.noise) : *c.l2 > 0 ? "no noise" : "same";
    std::vector<std::string> below;
    if (!c.note.empty()) below.push_back(OneLine(c.note));
    table.AddRow({{Elide(OneLine(c.first), 24)},
                  {Elide(OneLine(c.second), 24)},
                  {c.tokens > 0 ? std::to_string(c.common_tokens) + "/" + std::to_string(c.tokens) : "-"},
                  {FormatScientific(c.l2)},
                  {FormatScientific(c.noise)},
                  {ratio}},
                 below);
  }
  table.Write(out, style);
  out << "same tokens  before the two part\n"
         "L2           distance of the chosen tokens' logprobs over those tokens\n"
         "noise L2     the larger of the two variants' own, as above\n"
         "L2/noise     near 1 or below, one sample cannot tell the two apart\n";
}

Color ColorOf(Change change) {
  switch (change) {
    case Change::kBroken:
    case Change::kMissing:
    case Change::kFailed:
    case Change::kDifferent:
      return Color::kRed;
    case Change::kFixed:
    case Change::kQuieter:
      return Color::kGreen;
    case Change::kNoisier:
    case Change::kAmbiguous:
      return Color::kYellow;
    default:
      return Color::kNone;
  }
}

void WriteChanges(std::ostream& out, const std::vector<FileComparison>& files, const ConsoleStyle& style) {
  out << "\nBetween files of the same variant (older -> newer)\n";
  Table table({"variant", "change", "detail"}, {Align::kLeft, Align::kLeft, Align::kLeft});
  for (const FileComparison& c : files) {
    std::vector<std::string> below;
    if (!c.older.empty()) below.push_back("older: " + OneLine(c.older));
    if (!c.newer.empty()) below.push_back("newer: " + OneLine(c.newer));
    table.AddRow(
        {{Elide(OneLine(c.variant), 24)}, {std::string(NameOf(c.change)), ColorOf(c.change)}, {OneLine(c.detail)}},
        below);
  }
  table.Write(out, style);
}

}  // namespace

void WriteAnalysis(std::ostream& out, const std::vector<ResultFile>& files, const Analysis& analysis,
                   const ConsoleStyle& style) {
  WriteFiles(out, files, style);
  if (!analysis.variants.empty() || analysis.other_models > 0) WriteVariants(out, analysis, style);
  if (!analysis.files.empty()) WriteChanges(out, analysis.files, style);
}

}  // namespace reporters
