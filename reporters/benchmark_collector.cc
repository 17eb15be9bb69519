#include "reporters/benchmark_collector.h"

#include <ostream>
#include <type_traits>
#include <utility>

#include "reporters/exclusive_file.h"

namespace reporters {
namespace {

// Google Benchmark 1.7 has Run::error_occurred, 1.8 and later Run::skipped.
template <typename Run>
std::string ErrorOf(const Run& run) {
  bool failed = false;
  std::string message;
  if constexpr (requires { run.error_occurred; }) {
    failed = run.error_occurred;
    message = run.error_message;
  } else {
    failed = static_cast<int>(run.skipped) != 0;
    message = run.skip_message;
  }
  if (!failed) return "";
  return message.empty() ? "skipped without a reason" : message;
}

}  // namespace

BenchmarkCollector::BenchmarkCollector(RunRecord* record, std::unique_ptr<benchmark::BenchmarkReporter> display)
    : record_(record),
      display_(display != nullptr
                   ? std::move(display)
                   : std::unique_ptr<benchmark::BenchmarkReporter>(benchmark::CreateDefaultDisplayReporter())) {}

bool BenchmarkCollector::ReportContext(const Context& context) {
  began_ = true;
  if (record_->started_at.empty()) record_->started_at = IsoTimeNow();
  record_->complete = false;
  display_->SetOutputStream(&GetOutputStream());
  display_->SetErrorStream(&GetErrorStream());
  return display_->ReportContext(context);
}

void BenchmarkCollector::ReportRuns(const std::vector<Run>& runs) {
  for (const Run& run : runs) {
    BenchmarkRecord benchmark;
    benchmark.name = run.benchmark_name();
    benchmark.label = run.report_label;
    if (run.run_type == Run::RT_Aggregate) benchmark.aggregate = run.aggregate_name;
    benchmark.iterations = static_cast<std::int64_t>(run.iterations);
    benchmark.repetition = run.repetition_index;
    benchmark.error = ErrorOf(run);
    if (benchmark.error.empty()) {
      // Adjusted times are of one iteration, in the benchmark's own unit.
      const double ns = 1e9 / benchmark::GetTimeUnitMultiplier(run.time_unit);
      const bool ratio = run.run_type == Run::RT_Aggregate && run.aggregate_unit == benchmark::kPercentage;
      benchmark.real_time_ns = ratio ? run.real_accumulated_time : run.GetAdjustedRealTime() * ns;
      benchmark.cpu_time_ns = ratio ? run.cpu_accumulated_time : run.GetAdjustedCPUTime() * ns;
      for (const auto& [name, counter] : run.counters) benchmark.counters[name] = counter.value;
    } else {
      ++errors_;
    }
    record_->benchmarks.push_back(std::move(benchmark));
  }
  display_->ReportRuns(runs);
}

void BenchmarkCollector::Finalize() {
  record_->complete = true;
  display_->Finalize();
}

int BenchmarkCollector::ExitCode(std::size_t matched) const {
  if (matched > 0 && !began_) return 0;  // a list: no reporter is told of it
  return matched == 0 || record_->benchmarks.empty() || errors_ > 0 ? 1 : 0;
}

}  // namespace reporters
