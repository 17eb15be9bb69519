// The program as a program: text, exit codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <functional>
#include <utility>

#include "reporters/writers.h"
#include "tests/reporters/golden.h"
#include "tests/reporters/sample_records.h"
#include "tests/reporters/subprocess.h"
#include "tests/reporters/temporary_folder.h"

namespace reporters {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
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

// The same run again, with one bit of what it computed changed.
TEST(AnalyzeResults, OtherBitsOfABitExactVariantFail) {
  const auto exit_code = [](const std::function<void(VariantRecord&)>& change, const char* word) {
    TemporaryFolder folder;
    VariantRecord record = BitExactRecord();
    WriteInvestigationFile(folder.path(), record, DeriveVerdict(record));
    record.started_at = "2025-01-16T10:30:00.000000";
    record.environment.argv.push_back("--output-dir=elsewhere");
    change(record);
    WriteInvestigationFile(folder.path(), record, DeriveVerdict(record));
    const Finished run = RunIn(folder.path(), ".");
    EXPECT_THAT(run.output, HasSubstr(word));
    return run.exit_code;
  };
  EXPECT_EQ(exit_code([](VariantRecord&) {}, "SAME"), 0);
  const auto flip = [](VariantRecord& record) { record.baseline.report.patterns[0].digest[3] ^= 1; };
  EXPECT_EQ(exit_code(flip, "nothing else in the files differs"), 3);
  const std::pair<std::function<void(VariantRecord&)>, const char*> explained[] = {
      {[](VariantRecord& r) { r.environment.variables["OMP_NUM_THREADS"] = "8"; }, "$OMP_NUM_THREADS 2 / 8"},
      {[](VariantRecord& r) { r.environment.values[1].second = "2.12.0"; }, "torch 2.11.0 / 2.12.0"},
      {[](VariantRecord& r) { r.baseline.settings[0].second = "true"; }, "deterministic_algorithms false / true"},
      {[](VariantRecord& r) { r.model_path = "models/other"; }, "model path models/tiny_qwen3/awq / models/other"},
      {[](VariantRecord& r) {
         r.environment.argv.insert(r.environment.argv.end(), {"--force-ids", "ids.json"});
       },
       "--force-ids unset / ids.json"}};
  for (const auto& [reason, said] : explained) {
    const auto both = [&, &reason = reason](VariantRecord& record) {
      flip(record);
      reason(record);
    };
    EXPECT_EQ(exit_code(both, "DIFFERENT"), 0) << said;
    EXPECT_EQ(exit_code(both, said), 0);
  }
  EXPECT_EQ(exit_code([](VariantRecord& r) { r.controls.clear(); }, "bit-exact before, inconclusive now"), 3);
}

TEST(AnalyzeResults, AVariantThatNeverRunsFails) {
  TemporaryFolder folder;
  for (const char* started : {"2025-01-15T10:31:00.000001", "2025-01-16T10:31:00.000001"}) {
    VariantRecord record = FailedRecord();
    record.started_at = started;
    WriteInvestigationFile(folder.path(), record, DeriveVerdict(record));
  }
  const Finished run = RunIn(folder.path(), ".");
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_THAT(run.output, HasSubstr("FAILED"));
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
  // One line; an unknown argument before a missing one.
  for (const auto& [arguments, names] : {std::pair{"", "files"}, {"--nonsense", "--nonsense"}, {"-n x", "-n"}}) {
    const Finished wrong = RunIn(folder.path(), arguments);
    EXPECT_EQ(wrong.exit_code, 2);
    EXPECT_THAT(wrong.output, MatchesRegex("analyze_results: [^\n]*" + std::string(names) + "[^\n]*; see --help\n"));
  }
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
