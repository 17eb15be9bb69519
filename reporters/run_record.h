// What one process ran: its tests with the reports of their assertions, its
// benchmarks, its variants. Collectors fill it; the journal keeps it.
#ifndef REPORTERS_RUN_RECORD_H_
#define REPORTERS_RUN_RECORD_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gtest_determinism/result_sink.h"
#include "reporters/record.h"

namespace reporters {

enum class TestResult : std::uint8_t { kPassed, kFailed, kSkipped };
std::string_view NameOf(TestResult result);  // "passed", "failed", "skipped"

// One execution of one test: with --gtest_repeat a test has several.
struct TestRecord {
  std::string suite, name;
  std::string value_param, type_param;  // "" if it has none
  int iteration = 0;                    // of --gtest_repeat, from 0
  TestResult result = TestResult::kPassed;
  double seconds = 0;
  std::vector<std::string> skip_reasons;
  std::vector<std::string> failures;  // "file:line: message"
  std::vector<std::pair<std::string, std::string>> properties;
  std::vector<gtest_determinism::PublishedReport> assertions;  // in order
};

// Outside every test: a SetUpTestSuite, an Environment.
struct SuiteFailure {
  std::string suite;  // "" for an Environment
  int iteration = 0;
  std::string message;
};

struct BenchmarkRecord {
  std::string name;  // with its arguments, "Prefill/awq_marlin/256"
  std::string label;
  std::string aggregate;  // "mean", "median", ...; "" for a single run
  std::int64_t iterations = 0;
  std::int64_t repetition = 0;
  double real_time_ns = 0, cpu_time_ns = 0;  // of one iteration
  std::map<std::string, double> counters;
  std::string error;  // why it was skipped; "" if it was not
};

struct RunRecord {
  std::string started_at;  // ISO 8601
  Environment environment;
  int iterations = 0;  // of --gtest_repeat, finished
  int shard_index = 0, total_shards = 1;
  std::vector<TestRecord> tests;
  std::vector<SuiteFailure> suite_failures;
  std::vector<BenchmarkRecord> benchmarks;
  bool complete = false;  // the end was reached

  // Over all iterations. GoogleTest's own files know the last one only.
  int Count(TestResult result) const;
  bool Passed() const { return complete && Count(TestResult::kFailed) == 0 && suite_failures.empty(); }
};

}  // namespace reporters

#endif  // REPORTERS_RUN_RECORD_H_
