#include "gtest_determinism/internal/googletest_adaptor.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <optional>
#include <utility>

#include "gtest_determinism/assertions.h"
#include "gtest_determinism/configuration.h"

namespace gtest_determinism::internal {
namespace {

const testing::TestInfo* CurrentTest() { return testing::UnitTest::GetInstance()->current_test_info(); }

int Mark() {
  const testing::TestInfo* test = CurrentTest();
  return test != nullptr ? test->result()->total_part_count() : 0;
}

std::optional<Interruption> Since(int mark) {
  const testing::TestInfo* test = CurrentTest();
  if (test == nullptr) return std::nullopt;
  const testing::TestResult& result = *test->result();
  for (int i = mark; i < result.total_part_count(); ++i) {
    const testing::TestPartResult& part = result.GetTestPartResult(i);
    if (part.skipped()) {
      const std::string reason = part.message();
      return Interruption{Outcome::kSkipped, reason.empty() ? "the test was skipped" : reason};
    }
    if (part.fatally_failed()) {
      return Interruption{Outcome::kError, "a fatal failure was recorded in the callable, see above"};
    }
  }
  return std::nullopt;
}

// How many Reports this run of the test has recorded already. The result of
// the test is asked, since it is cleared by --gtest_repeat.
int RecordedReports(const testing::TestResult& result) {
  int count = 0;
  for (int i = 0; i < result.test_property_count(); ++i) {
    const std::string key = result.GetTestProperty(i).key();
    constexpr std::string_view kSuffix = "_outcome";
    if (key.rfind("determinism", 0) == 0 && key.size() > kSuffix.size() &&
        key.compare(key.size() - kSuffix.size(), kSuffix.size(), kSuffix) == 0) {
      ++count;
    }
  }
  return count;
}

std::string Text(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.6g", value);
  return text;
}

void RecordProperties(const PublishedReport& published) {
  const Report& report = published.report;
  const std::string prefix =
      published.index == 0 ? "determinism_" : "determinism_" + std::to_string(published.index + 1) + "_";
  const auto record = [&](const char* key, const std::string& value) {
    testing::Test::RecordProperty(prefix + key, value);
  };
  record("outcome", std::string(NameOf(report.outcome)));
  record("property", report.property);
  record("runs", std::to_string(report.runs));
  record("requested_runs", std::to_string(report.requested_runs));
  record("inputs", std::to_string(report.inputs));
  record("distinct", std::to_string(report.patterns.size()));
  record("comparisons", std::to_string(report.power.comparisons));
  record("deviations", std::to_string(report.power.deviations));
  record("upper_bound", Text(report.power.upper_bound));
  record("lower_bound", Text(report.power.lower_bound));
  record("confidence", Text(report.power.confidence));
  record("elements", std::to_string(report.elements));
  record("bytes", std::to_string(report.bytes));
  record("seed", std::to_string(report.seed));
  if (!report.patterns.empty()) record("pattern", ToHex(report.patterns.front().digest));
  if (!report.reason.empty()) record("reason", report.reason);
  if (report.first_divergence) {
    const Divergence& first = *report.first_divergence;
    record("first_run", std::to_string(first.run));
    record("first_input", std::to_string(first.input));
    record("first_part", first.part);
    record("first_element", std::to_string(first.diff.element));
    record("different_elements", std::to_string(first.diff.different_elements));
    if (first.diff.max_ulp) record("max_ulp", std::to_string(*first.diff.max_ulp));
    if (first.diff.max_abs_difference) record("max_abs_difference", Text(*first.diff.max_abs_difference));
  }
}

std::string ShellQuoted(const std::string& word) {
  const bool plain = !word.empty() && word.find_first_not_of(
                                          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                          "0123456789_-+./:=@%,") == std::string::npos;
  if (plain) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace

bool InstallGoogleTestProbe() {
  SetInterruptionProbe({Mark, Since});
  return true;
}

std::string RerunCommand(int runs, std::uint64_t seed) {
  const Configuration& configuration = GetConfiguration();
  const testing::TestInfo* test = CurrentTest();
  if (configuration.program.empty() || test == nullptr) return "";
  const bool with_runs = runs >= 2;  // fewer cannot be asked for
  std::string command;
  if (!configuration.flags_parsed && with_runs) {
    command += "DETERMINISM_RUNS=" + std::to_string(runs) + " DETERMINISM_SEED=" + std::to_string(seed) + " ";
  }
  // Always quoted: names of parameterized tests may hold what a shell expands.
  command +=
      ShellQuoted(configuration.program) + " --gtest_filter='" + test->test_suite_name() + "." + test->name() + "'";
  if (configuration.flags_parsed && with_runs) {
    command += " --determinism_runs=" + std::to_string(runs) + " --determinism_seed=" + std::to_string(seed);
  }
  return command;
}

void PublishReport(PublishedReport published) {
  if (const testing::TestInfo* test = CurrentTest()) {
    published.test_suite = test->test_suite_name();
    published.test = test->name();
    published.index = RecordedReports(*test->result());
    RecordProperties(published);
  }
  ResultSink::Instance().Publish(std::move(published));
}

}  // namespace gtest_determinism::internal
