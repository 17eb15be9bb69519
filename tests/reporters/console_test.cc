#include "reporters/console.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "reporters/writers.h"
#include "tests/reporters/golden.h"
#include "tests/reporters/sample_records.h"

namespace reporters {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(ConsoleProgress, PlainLinesWhereNobodyWatches) {
  std::ostringstream out;
  {
    ConsoleProgress progress(out, {});
    progress.Start("awq", 2, 6);
    for (int i = 0; i <= 20; ++i) progress.Update("baseline", i, 20);
    progress.Finish("bit_exact", Color::kGreen);
  }
  EXPECT_THAT(out.str(), testing::MatchesRegex("\\[2/6\\] awq: started\n\\[2/6\\] awq: bit_exact, [0-9.]+ s\n"));
}

TEST(ConsoleProgress, OneLineOnATerminalThatIsTakenAway) {
  std::ostringstream out;
  ConsoleProgress progress(out, {true, true});
  progress.Start("a\x1b[2Jb", 1, 1);
  progress.Update("baseline", 20, 20);
  EXPECT_THAT(out.str(), HasSubstr("\r\x1b[K[1/1] a?[2Jb: baseline 20/20, "));
  EXPECT_THAT(out.str(), Not(HasSubstr("\n")));
  const std::size_t before = out.str().size();
  progress.Update("baseline", 1, 20);  // less than a tenth of a second after
  EXPECT_EQ(out.str().size(), before);
  progress.Finish("error", Color::kRed);
  EXPECT_THAT(out.str(), HasSubstr("\r\x1b[K[1/1] a?[2Jb: \x1b[31merror\x1b[0m, "));
  EXPECT_EQ(out.str().back(), '\n');
}

std::vector<SummaryRow> Rows(const std::string& folder) {
  std::vector<SummaryRow> rows;
  VariantRecord silent = BitExactRecord();
  silent.variant = "pytorch_int4";
  silent.kernel = "tinygemm";
  silent.controls[0].as_expected = false;
  silent.controls[0].runs = 200;
  silent.controls[0].deviations = 0;
  silent.controls[0].detail = "did not differ in 200 runs on 1 core(s); run where at least two cores are free";
  for (const VariantRecord& record : {BitExactRecord(), NondeterministicRecord(), FailedRecord(), silent}) {
    rows.push_back({record, DeriveVerdict(record), folder + record.variant + "_investigation_20250115_103000.json"});
  }
  return rows;
}

TEST(SummaryTable, Golden) {
  std::ostringstream out;
  WriteSummaryTable(out, Rows("results/"));
  EXPECT_TRUE(MatchesGolden(out.str(), "summary.txt"));
}

TEST(SummaryTable, FitsIntoColumnsAndCutsNoPath) {
  const std::string folder = "/a/folder/whose/name/is/long/enough/to/push/a/row/over/its/width/";
  std::ostringstream out;
  WriteSummaryTable(out, Rows(folder));
  EXPECT_THAT(out.str(), HasSubstr(folder + "awq_marlin_investigation_20250115_103000.json\n"));
  std::istringstream lines(out.str());
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("  ", 0) != 0) {
      EXPECT_LE(DisplayWidth(line), 120u) << line;
    }
  }
}

TEST(SummaryTable, SaysWhereNoFileWasWritten) {
  std::vector<SummaryRow> rows = Rows("results/");
  std::ostringstream written, unwritten;
  WriteSummaryTable(written, rows);
  EXPECT_THAT(written.str(), Not(HasSubstr("no file was written")));
  rows[1].file.clear();
  WriteSummaryTable(unwritten, rows);
  EXPECT_THAT(unwritten.str(), HasSubstr("(no file was written)"));
}

TEST(SummaryTable, ColorsOnlyWhereWanted) {
  std::ostringstream plain, colored;
  WriteSummaryTable(plain, Rows(""));
  WriteSummaryTable(colored, Rows(""), {true, true});
  EXPECT_THAT(plain.str(), Not(HasSubstr("\x1b")));
  EXPECT_THAT(colored.str(), HasSubstr("\x1b[32mbit_exact\x1b[0m"));
  EXPECT_THAT(colored.str(), HasSubstr("\x1b[32mnondeterministic\x1b[0m"));  // as expected
  EXPECT_THAT(colored.str(), HasSubstr("\x1b[31merror\x1b[0m"));
  EXPECT_THAT(colored.str(), HasSubstr("\x1b[33minconclusive\x1b[0m"));
}

}  // namespace
}  // namespace reporters
