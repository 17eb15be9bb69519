#include "reporters/benchmark_collector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

namespace reporters {
namespace {

class NullReporter : public benchmark::BenchmarkReporter {
 public:
  explicit NullReporter(int* runs) : runs_(runs) {}
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override { *runs_ += static_cast<int>(runs.size()); }

 private:
  int* const runs_;
};

struct Result {
  RunRecord record;
  int exit_code = -1;
  int errors = 0;
  int displayed = 0;
};

Result RunMatching(const char* filter) {
  static const bool initialized = [] {
    static char name[] = "test", flag[] = "--benchmark_min_time=0.001";
    char* argv[] = {name, flag, nullptr};
    int argc = 2;
    benchmark::Initialize(&argc, argv);
    benchmark::RegisterBenchmark("Good/256",
                                 [](benchmark::State& state) {
                                   // Its own word for the time, so that the unit is tested and not the machine.
                                   for (auto _ : state) state.SetIterationTime(0.002);
                                   state.counters["tokens"] = 7;
                                   state.SetLabel("cpu");
                                 })
        ->Unit(benchmark::kMillisecond)
        ->UseManualTime();
    benchmark::RegisterBenchmark("Bad", [](benchmark::State& state) { state.SkipWithError("no model"); });
    return true;
  }();
  (void)initialized;
  Result result;
  BenchmarkCollector collector(&result.record, std::make_unique<NullReporter>(&result.displayed));
  const std::size_t matched = benchmark::RunSpecifiedBenchmarks(&collector, filter);
  result.exit_code = collector.ExitCode(matched);
  result.errors = collector.errors();
  return result;
}

TEST(BenchmarkCollector, KeepsAndPassesOn) {
  const Result result = RunMatching("Good");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.displayed, 1);
  ASSERT_EQ(result.record.benchmarks.size(), 1u);
  const BenchmarkRecord& benchmark = result.record.benchmarks[0];
  EXPECT_EQ(benchmark.name, "Good/256/manual_time");
  EXPECT_EQ(benchmark.label, "cpu");
  EXPECT_EQ(benchmark.counters.at("tokens"), 7);
  EXPECT_GT(benchmark.iterations, 0);
  EXPECT_NEAR(benchmark.real_time_ns, 2e6, 1) << "of one iteration, in ns, though its unit is ms";
  EXPECT_TRUE(result.record.complete);
}

TEST(BenchmarkCollector, AnErrorAndAnEmptyFilterAreNoSuccess) {
  const Result bad = RunMatching("Good|Bad");
  EXPECT_EQ(bad.errors, 1);
  EXPECT_EQ(bad.exit_code, 1);
  EXPECT_EQ(bad.record.benchmarks[1].error, "no model");
  EXPECT_EQ(RunMatching("None").exit_code, 1);
}

void SetListing(const char* flag) {
  std::string name = "test", argument = flag;
  char* argv[] = {name.data(), argument.data(), nullptr};
  int argc = 2;
  benchmark::Initialize(&argc, argv);
}

TEST(BenchmarkCollector, AListIsASuccess) {
  RunMatching("Good");  // registers
  SetListing("--benchmark_list_tests=true");
  const Result listed = RunMatching("Good|Bad"), nothing = RunMatching("None");
  SetListing("--benchmark_list_tests=false");
  EXPECT_EQ(listed.exit_code, 0);
  EXPECT_TRUE(listed.record.benchmarks.empty());
  EXPECT_EQ(nothing.exit_code, 1);
}

TEST(BenchmarkJson, HoldsNamesTimesCountersErrors) {
  RunRecord record;
  record.started_at = "2025-01-15T10:30:00.000001";
  record.complete = true;
  record.environment.argv = {"quant_benchmarks"};
  BenchmarkRecord good;
  good.name = "A/1";
  good.iterations = 3;
  good.real_time_ns = 1.5;
  good.counters["GB/s"] = std::numeric_limits<double>::infinity();
  BenchmarkRecord bad;
  bad.name = "B";
  bad.error = "no model";
  record.benchmarks = {good, bad};
  std::ostringstream out;
  WriteBenchmarkJson(out, record);
  const auto json = nlohmann::json::parse(out.str());
  EXPECT_EQ(json["benchmarks"][0]["name"], "A/1");
  EXPECT_EQ(json["benchmarks"][0]["real_time_ns"], 1.5);
  EXPECT_TRUE(json["benchmarks"][0]["counters"]["GB/s"].is_null());
  EXPECT_TRUE(json["benchmarks"][0]["error"].is_null());
  EXPECT_EQ(json["benchmarks"][1]["error"], "no model");
  EXPECT_EQ(json["complete"], true);
}

}  // namespace
}  // namespace reporters
