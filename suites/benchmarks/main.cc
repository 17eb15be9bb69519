// Runs the registered benchmarks. Unless told otherwise: nine repetitions, those
// of different benchmarks interleaved, medians reported, so that what else the
// machine does falls on all of them alike.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <vector>

#include "reporters/benchmark_collector.h"
#include "suites/startup/openmp_wait.h"

int main(int argc, char** argv) {
  suites::LimitOpenMpSpinning(argv);
  // Before the user's own, which win.
  static char repetitions[] = "--benchmark_repetitions=9";
  static char interleaving[] = "--benchmark_enable_random_interleaving=true";
  static char aggregates[] = "--benchmark_report_aggregates_only=true";
  std::vector<char*> args = {argv[0], repetitions, interleaving, aggregates};
  args.insert(args.end(), argv + 1, argv + argc);
  int count = static_cast<int>(args.size());
  args.push_back(nullptr);
  benchmark::Initialize(&count, args.data());
  if (benchmark::ReportUnrecognizedArguments(count, args.data())) return 1;
  reporters::RunRecord record;
  reporters::BenchmarkCollector collector(&record);
  const std::size_t matched = benchmark::RunSpecifiedBenchmarks(&collector);
  benchmark::Shutdown();
  if (matched == 0) {
    std::fputs("quant_benchmarks: no benchmark matches --benchmark_filter; --benchmark_list_tests=true lists them\n",
               stderr);
  } else if (collector.errors() > 0) {
    std::fprintf(stderr, "quant_benchmarks: %d benchmarks failed, see ERROR OCCURRED above\n", collector.errors());
  }
  return collector.ExitCode(matched);
}
