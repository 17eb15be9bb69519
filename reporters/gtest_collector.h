// Listens to GoogleTest and to this library's assertions; formats nothing.
#ifndef REPORTERS_GTEST_COLLECTOR_H_
#define REPORTERS_GTEST_COLLECTOR_H_

#include <gtest/gtest.h>

#include <functional>
#include <mutex>
#include <vector>

#include "reporters/run_record.h"

namespace reporters {

// Keeps every execution of every test over all iterations of --gtest_repeat,
// with what GoogleTest's own JSON loses: skip reasons (1.12) and earlier
// iterations. Append it to testing::UnitTest::GetInstance()->listeners(), which
// then own it.
class GTestCollector : public testing::EmptyTestEventListener {
 public:
  // `record` must outlive the listener. `on_test` is called after each test,
  // with the journal for example.
  explicit GTestCollector(RunRecord* record, std::function<void(const TestRecord&)> on_test = nullptr);

  // An assertion of the running test; from any thread. Outside a test it is
  // kept with the next one that ends.
  void OnAssertion(AssertionRecord assertion);

  void OnTestProgramStart(const testing::UnitTest& unit_test) override;
  void OnTestIterationStart(const testing::UnitTest& unit_test, int iteration) override;
  void OnTestStart(const testing::TestInfo& test_info) override;
  void OnTestPartResult(const testing::TestPartResult& result) override;
  void OnTestEnd(const testing::TestInfo& test_info) override;
  void OnTestSuiteEnd(const testing::TestSuite& test_suite) override;
  void OnTestIterationEnd(const testing::UnitTest& unit_test, int iteration) override;
  void OnTestProgramEnd(const testing::UnitTest& unit_test) override;

 private:
  RunRecord* const record_;
  const std::function<void(const TestRecord&)> on_test_;
  int iteration_ = 0;
  bool in_test_ = false;
  std::mutex mutex_;  // of assertions_
  std::vector<AssertionRecord> assertions_;
};

}  // namespace reporters

#endif  // REPORTERS_GTEST_COLLECTOR_H_
