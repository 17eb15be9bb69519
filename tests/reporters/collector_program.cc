// A test program with each kind of result, its listener and its journal.
//   collector_program JOURNAL_FOLDER [--gtest_ flags]
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "gtest_determinism/assertions.h"
#include "reporters/gtest_collector.h"
#include "reporters/journal.h"

namespace {

int iteration = 0;

TEST(Kinds, Passes) { RecordProperty("answer", 42); }
TEST(Kinds, FailsFirst) { EXPECT_GT(iteration++, 0) << "only in the first iteration"; }
TEST(Kinds, Skips) { GTEST_SKIP() << "no CUDA device"; }
TEST(Kinds, Asserts) {
  EXPECT_DETERMINISTIC([] { return 1; });
  // From another thread too.
  std::thread([] { EXPECT_DETERMINISTIC([] { return 2.5; }); }).join();
}

class BadSuite : public testing::Test {
 protected:
  static void SetUpTestSuite() { ADD_FAILURE() << "the suite cannot start"; }
};
TEST_F(BadSuite, Test) {}

TEST(Zz, Dies) {
  if (std::getenv("COLLECTOR_PROGRAM_DIES") != nullptr) raise(SIGKILL);
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  reporters::RunRecord record;
  reporters::Journal journal(argv[1], {});
  auto* collector = new reporters::GTestCollector(
      &record, [&](const reporters::TestRecord& test) { journal.Append(test); },
      [&](const std::string& name) { journal.Started(name); });
  testing::UnitTest::GetInstance()->listeners().Append(collector);
  const int status = RUN_ALL_TESTS();
  for (const auto& test : record.tests) {
    std::cout << "record " << test.iteration << " " << test.suite << "." << test.name << " " << NameOf(test.result);
    for (const auto& reason : test.skip_reasons) std::cout << " skip=" << reason;
    for (const auto& [key, value] : test.properties) {
      if (key == "answer") std::cout << " " << key << "=" << value;
    }
    for (const auto& assertion : test.assertions) {
      std::cout << " assertion=" << assertion.expression << ":" << NameOf(assertion.report.outcome);
    }
    std::cout << " failures=" << test.failures.size() << "\n";
  }
  for (const auto& failure : record.suite_failures)
    std::cout << "suite " << failure.suite << " " << failure.message << "\n";
  std::cout << "iterations " << record.iterations << " complete " << record.complete << " passed " << record.Passed()
            << "\n";
  journal.Finish(status);
  return status;
}
