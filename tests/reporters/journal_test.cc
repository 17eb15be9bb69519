#include "reporters/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "tests/reporters/golden.h"
#include "tests/reporters/sample_records.h"
#include "tests/reporters/temporary_folder.h"

namespace reporters {
namespace {

using testing::HasSubstr;

void AppendVariant(Journal* journal, const VariantRecord& record) {
  journal->Started(record.variant);
  journal->Append(record, DeriveVerdict(record), "results/" + record.variant + ".json");
}

TEST(Journal, WholeRunIsComplete) {
  TemporaryFolder folder;
  Journal journal(folder.path() / "new", BitExactRecord().environment);
  AppendVariant(&journal, BitExactRecord());
  AppendVariant(&journal, FailedRecord());
  TestRecord test;
  test.suite = "S";
  test.name = "T";
  test.result = TestResult::kSkipped;
  test.skip_reasons = {"no device"};
  journal.Append(test);
  BenchmarkRecord benchmark;
  benchmark.name = "B/1";
  benchmark.error = "too slow";
  journal.Append(benchmark);
  journal.Finish(1);
  const JournalContents contents = ReadJournal(journal.path());
  EXPECT_TRUE(contents.complete);
  EXPECT_EQ(contents.exit_code, 1);
  EXPECT_EQ(contents.interrupted, "");
  EXPECT_THAT(contents.problems, testing::IsEmpty());
  ASSERT_EQ(contents.entries.size(), 4u);
  EXPECT_EQ(contents.entries[0].name, "awq_marlin");
  EXPECT_EQ(contents.entries[0].result, "bit_exact");
  EXPECT_EQ(contents.entries[0].file, "results/awq_marlin.json");
  EXPECT_EQ(contents.entries[1].result, "error");
  EXPECT_EQ(contents.entries[2].name, "S.T");
  EXPECT_EQ(contents.entries[2].result, "skipped");
  EXPECT_THAT(contents.entries[2].json, HasSubstr("no device"));
  EXPECT_EQ(contents.entries[3].result, "error");
}

TEST(Journal, IsNoJsonFileByName) {
  TemporaryFolder folder;
  EXPECT_EQ(Journal(folder.path(), {}).path().extension(), ".jsonl");
}

TEST(Journal, WithoutItsEndItIsIncompleteAndNamesWhatWasRunning) {
  TemporaryFolder folder;
  Journal journal(folder.path(), {});
  AppendVariant(&journal, BitExactRecord());
  journal.Started("gptq");
  JournalContents contents = ReadJournal(journal.path());
  EXPECT_FALSE(contents.complete);
  EXPECT_EQ(contents.interrupted, "gptq");
  EXPECT_EQ(contents.entries.size(), 1u);
}

TEST(Journal, ATornLineIsNamedAndTheOthersCount) {
  TemporaryFolder folder;
  Journal journal(folder.path(), {});
  AppendVariant(&journal, BitExactRecord());
  std::ofstream(journal.path(), std::ios::app) << R"({"kind":"variant","name":"aw)";
  const JournalContents contents = ReadJournal(journal.path());
  EXPECT_FALSE(contents.complete);
  EXPECT_EQ(contents.entries.size(), 1u);
  EXPECT_THAT(contents.problems, testing::ElementsAre(HasSubstr("line 4")));
}

TEST(Journal, OtherFilesAreRefused) {
  TemporaryFolder folder;
  const auto path = folder.path() / "x.jsonl";
  EXPECT_THROW(ReadJournal(path), std::runtime_error);
  std::ofstream(path) << R"({"kind":"variant","name":"awq"})"
                      << "\n";
  EXPECT_THROW(ReadJournal(path), std::runtime_error);
}

TEST(Journal, TwoOfOneSecondDoNotMix) {
  TemporaryFolder folder;
  const Journal first(folder.path(), {}), second(folder.path(), {});
  EXPECT_NE(first.path(), second.path());
}

TEST(Journal, AFolderThatCannotBeMadeIsOneLine) {
  TemporaryFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  try {
    Journal journal(folder.path() / "file", {});
    FAIL() << "no error";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("journal " + (folder.path() / "file").string()));
  }
}

}  // namespace
}  // namespace reporters
