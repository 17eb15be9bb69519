// The program as a program: text, exit codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "reporters/writers.h"
#include "tests/reporters/golden.h"
#include "tests/reporters/sample_records.h"
#include "tests/reporters/subprocess.h"
#include "tests/reporters/temporary_folder.h"

namespace reporters {
namespace {

using testing::HasSubstr;
using testing::Not;

Finished RunIn(const std::filesystem::path& folder, const std::string& arguments) {
  return RunCommand("cd " + folder.string() + " && " + ANALYZE_RESULTS + " " + arguments);
}

// Results of two runs: gptq was exact, awq_marlin is in both, openvino failed.
void WriteResults(const std::filesystem::path& folder) {
  for (VariantRecord record : {BitExactRecord(), FailedRecord(), NondeterministicRecord()}) {
    WriteInvestigationFile(folder / "new", record, DeriveVerdict(record));
    record.started_at = "2025-01-14T09:00:00.000000";
    if (record.variant == "gptq") {
      record.baseline = record.deterministic;
      record.config.repetitions = 20;
    }
    WriteInvestigationFile(folder / "old", record, DeriveVerdict(record));
  }
}

TEST(AnalyzeResults, GoldenOfOlderFiles) {
  const Finished run = RunIn(TESTS_DATA_DIR, "*.json");
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_TRUE(MatchesGolden(run.output, "analyze_older.txt"));
}

TEST(AnalyzeResults, GoldenOfTwoRuns) {
  TemporaryFolder folder;
  WriteResults(folder.path());
  const Finished run = RunIn(folder.path(), "old new");
  EXPECT_EQ(run.exit_code, 3) << run.output;  // gptq is BROKEN
  EXPECT_TRUE(MatchesGolden(run.output, "analyze_two_runs.txt"));
  std::istringstream lines(run.output);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("  ", 0) != 0 && line.find(" p = ") == std::string::npos) {
      EXPECT_LE(DisplayWidth(line), 120u) << line;
    }
  }
  EXPECT_EQ(RunIn(folder.path(), "new").exit_code, 0);
}

TEST(AnalyzeResults, AFileThatCannotBeReadStopsNoOther) {
  TemporaryFolder folder;
  WriteResults(folder.path());
  std::ofstream(folder.path() / "new" / "bad.json") << std::string(100000, '[');
  const Finished run = RunIn(folder.path(), "new/*.json missing.json");
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output, HasSubstr("analyze_results: new/bad.json: nested deeper than 64 levels\n"));
  EXPECT_THAT(run.output, HasSubstr("analyze_results: missing.json: cannot be read: No such file or directory\n"));
  EXPECT_THAT(run.output, HasSubstr("awq_marlin_investigation_20250115_103000.json\n"));
}

TEST(AnalyzeResults, ADisagreementIsSaidAndFails) {
  const Finished run = RunIn(std::string(TESTS_DATA_DIR) + "/disagrees", ".");
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output, HasSubstr("DISAGREES: baseline.stats.l2_mean is 0, recomputed"));
}

TEST(AnalyzeResults, CommandLine) {
  TemporaryFolder folder;
  EXPECT_EQ(RunIn(folder.path(), "").exit_code, 2);
  EXPECT_EQ(RunIn(folder.path(), "--nonsense x").exit_code, 2);
  const Finished help = RunIn(folder.path(), "--help");
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.output, HasSubstr("Exit codes:"));
  const Finished empty = RunIn(folder.path(), ".");
  EXPECT_EQ(empty.exit_code, 1);
  EXPECT_THAT(empty.output, HasSubstr("no *.json file in this folder"));
}

TEST(AnalyzeResults, EscapesOfAFileDoNotReachTheTerminal) {
  TemporaryFolder folder;
  std::ofstream(folder.path() / "x.json")
      << R"({"variant": "a\u001b[2Jb", "error": "line\nbreak \u009b", "success": false})";
  const Finished run = RunIn(folder.path(), "x.json");
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.output, Not(HasSubstr("\x1b")));
  EXPECT_THAT(run.output, HasSubstr("did not run: line break ?"));
}

}  // namespace
}  // namespace reporters
