// One table of all that was measured beside each other: a row for each size, a
// column for each provider, and its writers. They compute medians, shares and
// ratios, nothing else. Knows neither torch nor a device.
#ifndef SUITES_BENCHMARKS_COMPARISON_TABLE_H_
#define SUITES_BENCHMARKS_COMPARISON_TABLE_H_

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "suites/benchmarks/interleaved.h"

namespace quant_suites {

struct ComparisonCell {
  std::string provider;        // the column: "marlin", "vllm_marlin", "cublas_fp16"
  std::string path;            // for people, which way the kernel took; may be empty
  std::vector<double> us;      // by round
  int runs = 0, patterns = 0;  // repetitions on the same input, and the distinct bit patterns among them
  // Of the result, relative to exact arithmetic; negative where it was not compared.
  double deviation = -1;
  std::string first_row;  // digest of the first row of the result, the same x for every size; may be empty
  std::string error;      // why there are no times; one line

  double median() const { return Median(us); }
  // The result is not the product: beyond what half precision explains, or NaN.
  bool wrong() const { return !(deviation <= kLargestDeviation); }
  static constexpr double kLargestDeviation = 0.01;
};

struct ComparisonRow {
  std::string name;             // of the layer or phase
  std::int64_t k = 0, n = 0;    // 0 where it has none
  std::int64_t rows = 0;        // of x; positions of the context for a phase
  double bytes = 0, flops = 0;  // the least that must be moved and computed
  double floor_us = 0;
  bool milliseconds = false;  // how people read its times; JSON has microseconds
  std::vector<ComparisonCell> cells;

  // nullptr where there is none, or none with times.
  const ComparisonCell* Find(const std::string& provider) const;
};

struct ComparisonTable {
  std::string device;  // "NVIDIA H100 80GB HBM3"
  Ceilings ceilings;
  int rounds = 0;
  std::vector<ComparisonRow> rows;

  // In the order in which they first appear.
  std::vector<std::string> Providers() const;
};

// "27.2 (64)": the median in the row's unit and the share of the floor in percent;
// "27.2 (64) #20" where repetitions gave 20 bit patterns; "WRONG 27.2 (64)" where the
// result is not the product; "error"; "-" for none.
std::string CellText(const ComparisonRow& row, const std::string& provider);

// One row in one line, as soon as it is there: "o 4096x4096, M = 1, floor 2.9 us: marlin 7.2 (40), ...".
void WriteRowLine(std::ostream& out, const ComparisonRow& row);
// Aligned by spaces. Errors follow, one a line.
void WriteConsoleTable(std::ostream& out, const ComparisonTable& table);
// Under each table: the largest deviation of each provider, and where several sizes
// of a layer were measured, how many bit patterns their first rows have.
// A Markdown table in the same order, the quickest INT4 cell of a row in bold, with
// its legend, the ceilings and the errors.
void WriteMarkdownTable(std::ostream& out, const ComparisonTable& table);
// {device, ceilings, rounds, rows: [{name, k, n, rows, bytes, flops, floor_us, cells:
// [{provider, path, median_us, us, floor_share, runs, patterns, deviation, first_row, error}]}]}.
void WriteJsonTable(std::ostream& out, const ComparisonTable& table);

// Median of `provider` over that of `base`, by rows (down) and name (across), as a
// Markdown table; "-" where one is missing. Nothing where no row has both.
void WriteRatioTable(std::ostream& out, const ComparisonTable& table, const std::string& provider,
                     const std::string& base);

// What the project wants of its kernels, and where a cell does not reach it: one
// line each, empty where all do.
//   marlin ahead of each other provider, but of cublas_fp16 for fewer than 64 rows only
//   marlin within 1.5 times the floor up to 16 rows
//   marlin within 1.1 times cublas_fp16 from 512 rows
//   awq and gptq_ordered within 1.1 times marlin
std::vector<std::string> Shortfalls(const ComparisonTable& table);

}  // namespace quant_suites

#endif  // SUITES_BENCHMARKS_COMPARISON_TABLE_H_
