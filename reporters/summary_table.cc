#include <ostream>

#include "reporters/writers.h"

namespace reporters {
namespace {

using gtest_determinism::Outcome;

constexpr std::size_t kColumns = 120;

Color ColorOf(const SummaryRow& row) {
  if (row.verdict.met_expectation) return Color::kGreen;
  return row.verdict.outcome == Outcome::kInconclusive || row.verdict.outcome == Outcome::kSkipped ? Color::kYellow
                                                                                                   : Color::kRed;
}

std::string NoiseOf(const Verdict& verdict) {
  const NoiseStatistics& noise = verdict.baseline_noise;
  // After tokens part, the whole row compares different tokens.
  return FormatScientific(noise.parting_position ? noise.prefix_l2_mean : noise.l2_mean);
}

Table Layout(const std::vector<SummaryRow>& rows, bool file_in_row) {
  using Align = Table::Align;
  std::vector<std::string> titles = {"variant", "device",   "kernel",   "outcome", "runs",
                                     "bound",   "distinct", "noise L2", "time"};
  if (file_in_row) titles.push_back("file");
  Table table(titles, {Align::kLeft, Align::kLeft, Align::kLeft, Align::kLeft, Align::kRight, Align::kRight,
                       Align::kRight, Align::kRight, Align::kRight, Align::kLeft});
  for (const SummaryRow& row : rows) {
    const auto& report = row.record.baseline.report;
    const bool compared = row.record.success && report.power.comparisons > 0;
    std::vector<Table::Cell> cells = {
        {Elide(OneLine(row.record.variant), 24)},
        {Elide(OneLine(row.record.device), 10)},
        {Elide(OneLine(row.record.kernel), 14)},
        {std::string(NameOf(row.verdict.outcome)), ColorOf(row)},
        {compared ? std::to_string(report.runs) : "-"},
        {compared ? FormatPercent(report.power.upper_bound) : "-"},
        {compared ? std::to_string(report.patterns.size()) : "-"},
        {compared ? NoiseOf(row.verdict) : "-"},
        {row.record.cost.total_seconds > 0 ? FormatSeconds(row.record.cost.total_seconds) : "-"},
    };
    std::vector<std::string> below;
    const std::string file = row.file.empty() ? "(no file was written)" : OneLine(row.file.string());
    if (file_in_row) {
      cells.push_back({file});
    } else {
      below.push_back(file);
    }
    if (!row.verdict.reason.empty()) below.push_back(OneLine(row.verdict.reason));
    if (!row.verdict.met_expectation && row.verdict.outcome != Outcome::kError) {
      below.push_back(OneLine(row.verdict.expectation));
    }
    table.AddRow(std::move(cells), std::move(below));
  }
  return table;
}

}  // namespace

void WriteSummaryTable(std::ostream& out, const std::vector<SummaryRow>& rows, const ConsoleStyle& style) {
  Table table = Layout(rows, /*file_in_row=*/true);
  if (table.Width() > kColumns) table = Layout(rows, /*file_in_row=*/false);
  table.Write(out, style);
  out << "bound: at 95 %, a repetition differs from the first with at most this probability, if repetitions are "
         "independent.\n";
}

}  // namespace reporters
