// Runs the registered benchmarks. Unless told otherwise: nine repetitions, those
// of different benchmarks interleaved, medians reported, so that what else the
// machine does falls on all of them alike.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <memory>
#include <ostream>
#include <vector>

namespace {

// Google Benchmark ends with 0 whatever failed; this counts.
class CountingReporter : public benchmark::BenchmarkReporter {
 public:
  explicit CountingReporter(std::unique_ptr<benchmark::BenchmarkReporter> display) : display_(std::move(display)) {}
  bool ReportContext(const Context& context) override {
    display_->SetOutputStream(&GetOutputStream());
    display_->SetErrorStream(&GetErrorStream());
    return display_->ReportContext(context);
  }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) errors_ += run.error_occurred ? 1 : 0;
    display_->ReportRuns(runs);
  }
  void Finalize() override { display_->Finalize(); }
  int errors() const { return errors_; }

 private:
  std::unique_ptr<benchmark::BenchmarkReporter> display_;
  int errors_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
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
  CountingReporter reporter{std::unique_ptr<benchmark::BenchmarkReporter>(benchmark::CreateDefaultDisplayReporter())};
  const std::size_t matched = benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  if (matched == 0) {
    std::fputs("quant_benchmarks: no benchmark matches --benchmark_filter; --benchmark_list_tests=true lists them\n",
               stderr);
    return 1;
  }
  if (reporter.errors() > 0) {
    std::fprintf(stderr, "quant_benchmarks: %d benchmarks failed, see ERROR OCCURRED above\n", reporter.errors());
    return 1;
  }
  return 0;
}
