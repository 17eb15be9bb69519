// Runs the registered benchmarks. Unless told otherwise: nine repetitions, those
// of different benchmarks interleaved, medians reported, so that what else the
// machine does falls on all of them alike. Those on a GPU have rounds of their own.
// All end in tables, a row for each size, a column for each provider.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "reporters/benchmark_collector.h"
#include "suites/benchmarks/comparison_table.h"
#include "suites/benchmarks/cuda_benchmarks.h"
#include "suites/benchmarks/record_table.h"
#include "suites/benchmarks/selection.h"
#include "suites/startup/openmp_wait.h"

namespace {

using quant_suites::ComparisonTable;
using quant_suites::Selection;

class Silent : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>&) override {}
};

void WriteFile(const std::string& path, const std::function<void(std::ostream&)>& write) {
  if (path.empty()) return;
  std::ofstream out(path);
  write(out);
  if (!out.flush()) throw std::runtime_error("cannot write " + path);
}

void WriteTables(const Selection& selection, const reporters::RunRecord& record, const ComparisonTable& matmuls,
                 const ComparisonTable& models) {
  const ComparisonTable cpu_matmuls = quant_suites::TableOfRecord(record, "int4_matmul");
  ComparisonTable cpu_models = quant_suites::TableOfRecord(record, "generation");
  for (quant_suites::ComparisonRow& row : cpu_models.rows) row.milliseconds = true;
  const std::vector<std::pair<const char*, const ComparisonTable*>> tables = {
      {"matmuls", &matmuls}, {"models", &models}, {"cpu_matmuls", &cpu_matmuls}, {"cpu_models", &cpu_models}};
  for (const auto& [name, table] : tables) {
    if (table->rows.empty()) continue;
    std::cout << "\n";
    WriteConsoleTable(std::cout, *table);
  }
  const std::vector<std::string> shortfalls = Shortfalls(matmuls);
  for (const std::string& line : shortfalls) std::cout << "not reached: " << line << "\n";
  std::cout.flush();
  WriteFile(selection.table_json, [&](std::ostream& out) {
    const char* separator = "{";
    for (const auto& [name, table] : tables) {
      out << separator << "\"" << name << "\": ";
      WriteJsonTable(out, *table);
      separator = ", ";
    }
    out << "}\n";
  });
  WriteFile(selection.table_markdown, [&](std::ostream& out) {
    for (const auto& [name, table] : tables) {
      if (table->rows.empty()) continue;
      WriteMarkdownTable(out, *table);
      out << "\n";
    }
    for (const char* const family : {"marlin", "awq", "gptq_ordered"}) {
      WriteRatioTable(out, matmuls, std::string(family) + "_invariant", family);
    }
    out << "\n";
    WriteRatioTable(out, matmuls, "gptq_ordered", "gptq");
    out << "\n";
    for (const std::string& line : shortfalls) out << "- " << line << "\n";
  });
}

int WrongArgument(const std::string& what) {
  std::fprintf(stderr, "quant_benchmarks: %s; see --help\n", what.c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  suites::LimitOpenMpSpinning(argv);
  quant_suites::ParsedSelection parsed = quant_suites::ParseSelection(argc, argv);
  if (parsed.exit_code >= 0) return parsed.exit_code;
  const Selection& selection = parsed.selection;
  // Before the user's own, which win.
  static char repetitions[] = "--benchmark_repetitions=9";
  static char interleaving[] = "--benchmark_enable_random_interleaving=true";
  static char aggregates[] = "--benchmark_report_aggregates_only=true";
  std::vector<char*> args = {argv[0], repetitions, interleaving, aggregates};
  for (std::string& other : parsed.others) args.push_back(other.data());
  int count = static_cast<int>(args.size());
  args.push_back(nullptr);
  benchmark::Initialize(&count, args.data());
  // A value that is none has already been named.
  if (count > 1) return WrongArgument("unknown argument or value " + std::string(args[1]));
  if (const std::string wrong = quant_suites::WrongFilter(benchmark::GetBenchmarkFilter()); !wrong.empty()) {
    return WrongArgument("--benchmark_filter: " + wrong);
  }
  try {
    if (selection.once) {
      const bool models = !selection.variants.empty();
      std::printf("%d calls\n",
                  models ? quant_suites::RunModelsOnce(selection) : quant_suites::RunMatmulsOnce(selection));
      return 0;
    }
    ComparisonTable matmuls, models;
    const std::string no_device = quant_suites::RegisterCudaBenchmarks(selection, &matmuls, &models);
    reporters::RunRecord record;
    reporters::BenchmarkCollector collector(&record, selection.quiet ? std::make_unique<Silent>() : nullptr);
    const std::size_t matched = benchmark::RunSpecifiedBenchmarks(&collector);
    benchmark::Shutdown();
    WriteTables(selection, record, matmuls, models);
    if (matched == 0) {
      std::fprintf(stderr, "quant_benchmarks: no benchmark matches; --benchmark_list_tests=true lists them%s%s\n",
                   no_device.empty() ? "" : "; none on a GPU: ", no_device.c_str());
    } else if (collector.errors() > 0) {
      std::fprintf(stderr, "quant_benchmarks: %d runs of benchmarks failed, see the errors above\n",
                   collector.errors());
    }
    return collector.ExitCode(matched);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "quant_benchmarks: %s\n", error.what());
    return 1;
  }
}
