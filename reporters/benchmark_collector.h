// Listens to Google Benchmark. A target of its own: reporters need no benchmark
// library without it.
#ifndef REPORTERS_BENCHMARK_COLLECTOR_H_
#define REPORTERS_BENCHMARK_COLLECTOR_H_

#include <benchmark/benchmark.h>

#include <filesystem>
#include <iosfwd>
#include <memory>
#include <vector>

#include "reporters/run_record.h"

namespace reporters {

// A display reporter that keeps every run and passes it on to another. Give it
// to RunSpecifiedBenchmarks() as the display reporter: the second one, for a
// file, demands --benchmark_out.
//
//   BenchmarkCollector collector(&record);
//   const std::size_t matched = benchmark::RunSpecifiedBenchmarks(&collector);
//   return collector.ExitCode(matched);
class BenchmarkCollector : public benchmark::BenchmarkReporter {
 public:
  // `record` must outlive it. `display`: what prints; unset: as --benchmark_format says.
  explicit BenchmarkCollector(RunRecord* record, std::unique_ptr<benchmark::BenchmarkReporter> display = nullptr);

  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;
  void Finalize() override;

  int errors() const { return errors_; }  // runs that ended with SkipWithError()
  // 0 where at least one benchmark ran and none failed, or was listed only
  // (--benchmark_list_tests). Google Benchmark itself exits with 0 always.
  // `matched`: what RunSpecifiedBenchmarks returned.
  int ExitCode(std::size_t matched) const;

 private:
  RunRecord* const record_;
  const std::unique_ptr<benchmark::BenchmarkReporter> display_;
  int errors_ = 0;
  bool began_ = false;  // ReportContext() was called
};

// {schema_version, timestamp, complete, environment, benchmarks: [{name, label,
// aggregate, iterations, repetition, real_time_ns, cpu_time_ns, counters,
// error}]}; docs/json.md. NaN and infinity are null.
void WriteBenchmarkJson(std::ostream& out, const RunRecord& record);

}  // namespace reporters

#endif  // REPORTERS_BENCHMARK_COLLECTOR_H_
