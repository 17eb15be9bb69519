// GTestCollector and Journal in a program of their own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "reporters/journal.h"
#include "tests/reporters/subprocess.h"
#include "tests/reporters/temporary_folder.h"

namespace reporters {
namespace {

using testing::HasSubstr;
using testing::Not;

JournalContents OnlyJournalOf(const TemporaryFolder& folder) {
  const auto names = folder.Names();
  EXPECT_EQ(names.size(), 1u);
  return ReadJournal(folder.path() / names.at(0));
}

TEST(GTestCollector, KeepsEveryIterationSkipReasonsPropertiesAndReports) {
  TemporaryFolder folder;
  const Finished run = RunCommand(std::string(COLLECTOR_PROGRAM) + " " + folder.path().string() +
                                  " --gtest_filter=Kinds.* --gtest_repeat=2");
  EXPECT_EQ(run.exit_code, 1) << run.output;
  EXPECT_THAT(run.output, HasSubstr("record 0 Kinds.Passes passed answer=42 failures=0"));
  EXPECT_THAT(run.output, HasSubstr("record 0 Kinds.FailsFirst failed failures=1"));
  EXPECT_THAT(run.output, HasSubstr("record 1 Kinds.FailsFirst passed failures=0"));
  EXPECT_THAT(run.output, HasSubstr("record 1 Kinds.Skips skipped skip=no CUDA device"));
  EXPECT_THAT(run.output, HasSubstr("record 1 Kinds.Asserts passed assertion=[] { return 1; }:bit_exact "
                                    "assertion=[] { return 2.5; }:bit_exact failures=0"));
  // The failure of the first iteration is not forgotten.
  EXPECT_THAT(run.output, HasSubstr("iterations 2 complete 1 passed 0"));
  const JournalContents journal = OnlyJournalOf(folder);
  EXPECT_TRUE(journal.complete);
  EXPECT_EQ(journal.exit_code, 1);
  EXPECT_EQ(journal.entries.size(), 8u);
}

TEST(GTestCollector, AllPassed) {
  TemporaryFolder folder;
  const Finished run =
      RunCommand(std::string(COLLECTOR_PROGRAM) + " " + folder.path().string() + " --gtest_filter=Kinds.Passes");
  EXPECT_EQ(run.exit_code, 0) << run.output;
  EXPECT_THAT(run.output, HasSubstr("iterations 1 complete 1 passed 1"));
}

TEST(GTestCollector, AFailureOutsideATestCounts) {
  TemporaryFolder folder;
  const Finished run =
      RunCommand(std::string(COLLECTOR_PROGRAM) + " " + folder.path().string() + " --gtest_filter=BadSuite.*");
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.output, testing::ContainsRegex("suite BadSuite .*the suite cannot start"));
  EXPECT_THAT(run.output, HasSubstr("passed 0"));
}

TEST(GTestCollector, AKilledRunLeavesAJournalThatSaysSo) {
  TemporaryFolder folder;
  const Finished run = RunCommand("COLLECTOR_PROGRAM_DIES=1 exec " + std::string(COLLECTOR_PROGRAM) + " " +
                                  folder.path().string() + " --gtest_filter=Kinds.Passes:Zz.Dies");
  EXPECT_NE(run.exit_code, 0);
  const JournalContents journal = OnlyJournalOf(folder);
  EXPECT_FALSE(journal.complete);
  EXPECT_EQ(journal.interrupted, "Zz.Dies");
  ASSERT_EQ(journal.entries.size(), 1u);
  EXPECT_EQ(journal.entries[0].name, "Kinds.Passes");
}

}  // namespace
}  // namespace reporters
