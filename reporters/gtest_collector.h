// Listens to GoogleTest and to this library's assertions; formats nothing.
#ifndef REPORTERS_GTEST_COLLECTOR_H_
#define REPORTERS_GTEST_COLLECTOR_H_

#include <gtest/gtest.h>

#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "reporters/run_record.h"

namespace reporters {

// Keeps every execution of every test over all iterations of --gtest_repeat,
// with what GoogleTest's own JSON loses: skip reasons (1.12), earlier
// iterations, and the Reports that assertions publish in ResultSink. Append it to
// testing::UnitTest::GetInstance()->listeners(), which then own it.
class GTestCollector : public testing::EmptyTestEventListener {
 public:
  // Subscribes to ResultSink. `record` must outlive the listener. `on_test` is
  // called after each test and `on_start` before it, for a journal.
  explicit GTestCollector(RunRecord* record, std::function<void(const TestRecord&)> on_test = nullptr,
                          std::function<void(const std::string&)> on_start = nullptr);

  ~GTestCollector() override;
  GTestCollector(const GTestCollector&) = delete;
  GTestCollector& operator=(const GTestCollector&) = delete;

  void OnTestProgramStart(const testing::UnitTest& unit_test) override;
  void OnTestIterationStart(const testing::UnitTest& unit_test, int iteration) override;
  void OnTestSuiteStart(const testing::TestSuite& test_suite) override;
  void OnTestStart(const testing::TestInfo& test_info) override;
  void OnTestPartResult(const testing::TestPartResult& result) override;
  void OnTestEnd(const testing::TestInfo& test_info) override;
  void OnTestSuiteEnd(const testing::TestSuite& test_suite) override;
  void OnTestIterationEnd(const testing::UnitTest& unit_test, int iteration) override;
  void OnTestProgramEnd(const testing::UnitTest& unit_test) override;

 private:
  RunRecord* const record_;
  const std::function<void(const TestRecord&)> on_test_;
  const std::function<void(const std::string&)> on_start_;
  int iteration_ = 0;
  std::string suite_;  // running, "" between suites
  bool in_test_ = false;
  int subscription_ = 0;
  std::mutex mutex_;  // of assertions_: an assertion may be made on any thread
  std::vector<gtest_determinism::PublishedReport> assertions_;  // of the running test
};

}  // namespace reporters

#endif  // REPORTERS_GTEST_COLLECTOR_H_
