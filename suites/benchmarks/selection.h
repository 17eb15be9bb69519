// What to measure, by the command line.
#ifndef SUITES_BENCHMARKS_SELECTION_H_
#define SUITES_BENCHMARKS_SELECTION_H_

#include <cstdint>
#include <string>
#include <vector>

namespace quant_suites {

struct Selection {
  // Of the matmuls on a GPU; empty: all.
  std::vector<std::string> layers;
  std::vector<std::int64_t> rows;  // ascending, each once; by default 1, 16, 64, 512, 3790
  std::vector<std::string> providers;
  // Of the whole model on a GPU.
  std::vector<std::string> variants;
  std::int64_t prompt = 3790;
  int steps = 16;

  int rounds = 7;         // interleaved, of which medians are taken
  int pattern_runs = 20;  // repetitions whose bits are compared
  std::vector<std::string> op_libraries;
  std::string table_json, table_markdown;  // files to write the tables to
  bool quiet = false;                      // the tables only
  bool once = false;                       // nothing is timed: each call once, for a profiler

  bool Wants(const std::string& name, const std::vector<std::string>& chosen) const;
};

struct ParsedSelection {
  Selection selection;
  std::vector<std::string> others;  // for Google Benchmark
  int exit_code = -1;               // not negative: to exit with
};

// Takes its own flags and leaves the others. Prints help or one line on an error.
ParsedSelection ParseSelection(int argc, const char* const* argv);

// What is wrong with a --benchmark_filter, which Google Benchmark reads as an
// extended regular expression, a leading '-' aside; "" where nothing is.
std::string WrongFilter(const std::string& filter);

}  // namespace quant_suites

#endif  // SUITES_BENCHMARKS_SELECTION_H_
