#include "reporters/gtest_collector.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "reporters/exclusive_file.h"

namespace reporters {
namespace {

using gtest_determinism::PublishedReport;
using gtest_determinism::ResultSink;

std::string Where(const testing::TestPartResult& part) {
  if (part.file_name() == nullptr) return "";
  return std::string(part.file_name()) + ":" + std::to_string(part.line_number()) + ": ";
}

int IntegerFromEnvironment(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoi(text);
}

}  // namespace

std::string_view NameOf(TestResult result) {
  switch (result) {
    case TestResult::kPassed:
      return "passed";
    case TestResult::kFailed:
      return "failed";
    case TestResult::kSkipped:
      return "skipped";
  }
  return "failed";
}

int RunRecord::Count(TestResult result) const {
  return static_cast<int>(
      std::count_if(tests.begin(), tests.end(), [&](const TestRecord& test) { return test.result == result; }));
}

GTestCollector::GTestCollector(RunRecord* record, std::function<void(const TestRecord&)> on_test,
                               std::function<void(const std::string&)> on_start)
    : record_(record), on_test_(std::move(on_test)), on_start_(std::move(on_start)) {
  subscription_ = ResultSink::Instance().Subscribe([this](const PublishedReport& published) {
    const std::lock_guard<std::mutex> lock(mutex_);
    assertions_.push_back(published);
  });
}

GTestCollector::~GTestCollector() { ResultSink::Instance().Unsubscribe(subscription_); }

void GTestCollector::OnTestProgramStart(const testing::UnitTest&) {
  if (record_->started_at.empty()) record_->started_at = IsoTimeNow();
  record_->complete = false;
  record_->shard_index = IntegerFromEnvironment("GTEST_SHARD_INDEX", 0);
  record_->total_shards = IntegerFromEnvironment("GTEST_TOTAL_SHARDS", 1);
}

void GTestCollector::OnTestIterationStart(const testing::UnitTest&, int iteration) { iteration_ = iteration; }

void GTestCollector::OnTestSuiteStart(const testing::TestSuite& test_suite) { suite_ = test_suite.name(); }

void GTestCollector::OnTestStart(const testing::TestInfo& test_info) {
  in_test_ = true;
  if (on_start_) on_start_(std::string(test_info.test_suite_name()) + "." + test_info.name());
}

void GTestCollector::OnTestPartResult(const testing::TestPartResult& result) {
  // Within a test all parts are read when it ends. UnitTest must not be asked
  // here: it holds its lock while it reports a part.
  if (in_test_ || !result.failed()) return;
  record_->suite_failures.push_back({suite_, iteration_, Where(result) + result.message()});
}

void GTestCollector::OnTestEnd(const testing::TestInfo& test_info) {
  in_test_ = false;
  const testing::TestResult& result = *test_info.result();
  TestRecord test;
  test.suite = test_info.test_suite_name();
  test.name = test_info.name();
  if (test_info.value_param() != nullptr) test.value_param = test_info.value_param();
  if (test_info.type_param() != nullptr) test.type_param = test_info.type_param();
  test.iteration = iteration_;
  test.result = result.Failed() ? TestResult::kFailed : result.Skipped() ? TestResult::kSkipped : TestResult::kPassed;
  test.seconds = static_cast<double>(result.elapsed_time()) / 1000;
  for (int i = 0; i < result.total_part_count(); ++i) {
    const testing::TestPartResult& part = result.GetTestPartResult(i);
    if (part.skipped()) test.skip_reasons.emplace_back(part.message());
    if (part.failed()) test.failures.push_back(Where(part) + part.message());
  }
  for (int i = 0; i < result.test_property_count(); ++i) {
    test.properties.emplace_back(result.GetTestProperty(i).key(), result.GetTestProperty(i).value());
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    test.assertions = std::exchange(assertions_, {});
  }
  record_->tests.push_back(test);
  if (on_test_) on_test_(test);
}

void GTestCollector::OnTestSuiteEnd(const testing::TestSuite&) { suite_.clear(); }

void GTestCollector::OnTestIterationEnd(const testing::UnitTest&, int iteration) {
  record_->iterations = iteration + 1;
}

void GTestCollector::OnTestProgramEnd(const testing::UnitTest&) { record_->complete = true; }

}  // namespace reporters
