#include "suites/benchmarks/comparison_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace quant_suites {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

ComparisonCell Cell(const std::string& provider, double us, int patterns = 1) {
  ComparisonCell cell;
  cell.provider = provider;
  cell.us = {us, us * 3, us / 2};  // the median is us
  cell.runs = 20;
  cell.patterns = patterns;
  return cell;
}

ComparisonCell Broken(const std::string& provider) {
  ComparisonCell cell;
  cell.provider = provider;
  cell.error = "out of memory";
  return cell;
}

ComparisonRow Row(std::int64_t rows, double floor_us, std::vector<ComparisonCell> cells) {
  ComparisonRow row;
  row.name = "o";
  row.k = row.n = 4096;
  row.rows = rows;
  row.bytes = 9e6;
  row.flops = 3e7;
  row.floor_us = floor_us;
  row.cells = std::move(cells);
  return row;
}

ComparisonTable Table(std::vector<ComparisonRow> rows) {
  ComparisonTable table;
  table.device = "a device";
  table.ceilings = {.bytes_per_second = 3e12, .flops_per_second = 6e14, .empty_kernel_us = 1.2};
  table.rounds = 3;
  table.rows = std::move(rows);
  return table;
}

template <typename Write>
std::string Text(Write write) {
  std::ostringstream out;
  write(out);
  return out.str();
}
std::string Console(const ComparisonTable& table) {
  return Text([&](std::ostream& out) { WriteConsoleTable(out, table); });
}
std::string Markdown(const ComparisonTable& table) {
  return Text([&](std::ostream& out) { WriteMarkdownTable(out, table); });
}
nlohmann::json Json(const ComparisonTable& table) {
  return nlohmann::json::parse(Text([&](std::ostream& out) { WriteJsonTable(out, table); }));
}

TEST(CellText, MedianAndShareOfTheFloor) {
  const ComparisonRow row = Row(1, 3, {Cell("marlin", 4), Cell("awq", 120)});
  EXPECT_EQ(CellText(row, "marlin"), "4.00 (75)");
  EXPECT_EQ(CellText(row, "awq"), "120 (3)");  // 2.5 % rounds
  EXPECT_EQ(CellText(row, "gptq"), "-");
}

// The negative control of the column of patterns: other bits are shown, one pattern
// is not remarked.
TEST(CellText, AProviderOfOtherBitsIsShownAsSuch) {
  const ComparisonRow row = Row(1, 3, {Cell("ordered", 4, 1), Cell("arrival", 4, 17)});
  EXPECT_EQ(CellText(row, "ordered"), "4.00 (75)");
  EXPECT_EQ(CellText(row, "arrival"), "4.00 (75) #17");
}

TEST(Table, OtherBitsShowInEveryWriter) {
  const ComparisonTable table = Table({Row(1, 3, {Cell("ordered", 4, 1), Cell("arrival", 5, 17)})});
  EXPECT_THAT(Console(table), HasSubstr("5.00 (60) #17"));
  EXPECT_THAT(Console(table), Not(HasSubstr("(75) #")));
  EXPECT_THAT(Markdown(table), HasSubstr("5.00 (60) #17"));
  EXPECT_EQ(Json(table)["rows"][0]["cells"][0]["patterns"], 1);
  EXPECT_EQ(Json(table)["rows"][0]["cells"][1]["patterns"], 17);
}

// The negative control of the times: a quick kernel that computes something else is
// neither the quickest nor silent.
TEST(Table, AWrongResultIsShownAsSuch) {
  for (const double deviation : {0.02, 1.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
    ComparisonCell wrong = Cell("vllm_awq", 1);
    wrong.deviation = deviation;
    ComparisonCell right = Cell("marlin", 4);
    right.deviation = 0.003;
    const ComparisonTable table = Table({Row(1, 3, {right, wrong})});
    EXPECT_THAT(Console(table), HasSubstr("WRONG 1.00 (300)"));
    EXPECT_THAT(Markdown(table), HasSubstr("| **4.00 (75)** | WRONG 1.00 (300) |"));
    EXPECT_THAT(Shortfalls(table), testing::Contains("vllm_awq, o 4096x4096, M = 1: the result is wrong"));
    EXPECT_EQ(Json(table)["rows"][0]["cells"][0]["deviation"], 0.003);
  }
  EXPECT_THAT(Console(Table({Row(1, 3, {Cell("marlin", 4)})})), Not(HasSubstr("WRONG")));
}

TEST(Table, TheLargestDeviationOfEachProvider) {
  ComparisonCell small = Cell("marlin", 4), large = Cell("marlin", 4), broken = Cell("awq", 4);
  small.deviation = 2e-4;
  large.deviation = 3e-4;
  broken.deviation = std::nan("");
  const ComparisonTable table = Table({Row(1, 3, {large, broken, Cell("gptq", 4)}), Row(2, 3, {small})});
  EXPECT_THAT(Console(table), HasSubstr("largest deviation: marlin 3.0e-04, awq nan\n"));
  EXPECT_THAT(Markdown(table), HasSubstr("relative: marlin 3.0e-04, awq nan.\n"));
  EXPECT_THAT(Console(Table({Row(1, 3, {Cell("gptq", 4)})})), Not(HasSubstr("deviation")));
}

// A batch-invariant kernel shows one pattern, another as many as its sizes have.
TEST(Table, PatternsOfTheFirstRowOverTheSizes) {
  const auto cell = [](const std::string& provider, const std::string& first_row) {
    ComparisonCell made = Cell(provider, 4);
    made.first_row = first_row;
    return made;
  };
  const ComparisonTable table =
      Table({Row(1, 3, {cell("marlin", "a"), cell("marlin_invariant", "x")}),
             Row(2, 3, {cell("marlin", "b"), cell("marlin_invariant", "x")}),
             Row(4, 3, {cell("marlin", "a"), cell("marlin_invariant", "x"), cell("awq", "c")})});
  EXPECT_THAT(Console(table), HasSubstr("first row over all M: marlin 2, marlin_invariant 1\n"));
  EXPECT_THAT(Markdown(table), HasSubstr("same x: marlin 2, marlin_invariant 1.\n"));
  EXPECT_EQ(Json(table)["rows"][2]["cells"][2]["first_row"], "c");
  EXPECT_THAT(Console(Table({Row(1, 3, {cell("marlin", "a")})})), Not(HasSubstr("first row")));
}

TEST(Table, OneColumnForEachProviderInOrder) {
  const ComparisonTable table = Table(
      {Row(1, 3, {Cell("cublas_fp16", 15), Cell("marlin", 4)}), Row(64, 3, {Cell("marlin", 5), Cell("tinygemm", 9)})});
  EXPECT_THAT(table.Providers(), ElementsAre("cublas_fp16", "marlin", "tinygemm"));
  EXPECT_THAT(Markdown(table),
              HasSubstr("| layer | M | floor | cublas_fp16 | marlin | tinygemm |\n|---|---|---|---|---|---|\n"
                        "| o 4096x4096 | 1 | 3.00 | 15.0 (20) | **4.00 (75)** | - |\n"
                        "| o 4096x4096 | 64 | 3.00 | - | **5.00 (60)** | 9.00 (33) |\n"));
}

TEST(Table, ColumnsOfTheConsoleAreAligned) {
  std::istringstream lines(Console(Table({Row(1, 3, {Cell("marlin", 4)}), Row(3790, 160, {Cell("marlin", 1234)})})));
  std::string line, header;
  std::getline(lines, line);
  EXPECT_THAT(
      line,
      HasSubstr(
          "a device, read 3000 GB/s, matmul 600 TFLOP/s, an empty kernel 1.2 us, medians of 3 interleaved rounds"));
  std::getline(lines, header);
  while (std::getline(lines, line)) EXPECT_EQ(line.size(), header.size()) << line;
}

// cuBLAS in fp16 is no INT4 kernel.
TEST(Markdown, BoldIsTheQuickestInt4Kernel) {
  const std::string text =
      Markdown(Table({Row(512, 3, {Cell("cublas_fp16", 3), Cell("awq", 9), Cell("marlin", 8), Broken("gptq")})}));
  EXPECT_THAT(text, HasSubstr("| 3.00 (100) | 9.00 (33) | **8.00 (38)** | error |"));
}

TEST(Table, WhatCouldNotBeMeasuredSaysWhy) {
  const ComparisonTable table = Table({Row(1, 3, {Cell("marlin", 4), Broken("vllm_awq")})});
  const std::string line = "error: vllm_awq, o 4096x4096, M = 1: out of memory\n";
  EXPECT_THAT(Console(table), HasSubstr(line));
  EXPECT_THAT(Markdown(table), HasSubstr("- " + line));
  const nlohmann::json cell = Json(table)["rows"][0]["cells"][1];
  EXPECT_EQ(cell["error"], "out of memory");
  EXPECT_TRUE(cell["median_us"].is_null());
  EXPECT_TRUE(Json(table)["rows"][0]["cells"][0]["error"].is_null());
}

TEST(Json, HoldsEveryRound) {
  const nlohmann::json json = Json(Table({Row(1, 3, {Cell("marlin", 4)})}));
  EXPECT_EQ(json["device"], "a device");
  EXPECT_EQ(json["rounds"], 3);
  EXPECT_EQ(json["ceilings"]["bytes_per_second"], 3e12);
  EXPECT_EQ(json["ceilings"]["empty_kernel_us"], 1.2);
  const nlohmann::json row = json["rows"][0], cell = row["cells"][0];
  EXPECT_EQ(row["rows"], 1);
  EXPECT_EQ(row["floor_us"], 3.0);
  EXPECT_EQ(cell["us"], nlohmann::json({4.0, 12.0, 2.0}));
  EXPECT_EQ(cell["median_us"], 4.0);
  EXPECT_EQ(cell["floor_share"], 0.75);
}

TEST(RatioTable, ByRowsAndLayer) {
  ComparisonRow other = Row(16, 3, {Cell("gptq", 10), Cell("gptq_ordered", 11)});
  other.name = "down";
  const ComparisonTable table =
      Table({Row(16, 3, {Cell("gptq", 4), Cell("gptq_ordered", 5)}), Row(1, 3, {Cell("gptq", 4)}), other});
  EXPECT_EQ(Text([&](std::ostream& out) { WriteRatioTable(out, table, "gptq_ordered", "gptq"); }),
            "| gptq_ordered / gptq, M | o | down |\n|---|---|---|\n| 1 | - | - |\n| 16 | 1.25 | 1.10 |\n");
  EXPECT_EQ(Text([&](std::ostream& out) { WriteRatioTable(out, table, "marlin_invariant", "marlin"); }), "");
}

TEST(RowLine, SaysWhatWasMeasured) {
  EXPECT_EQ(Text([](std::ostream& out) {
              WriteRowLine(out, Row(1, 3, {Cell("marlin", 4), Broken("awq")}));
            }),
            "o 4096x4096, M = 1, floor 3.00 us: marlin 4.00 (75), awq error\n");
}

// Whole models: milliseconds for people, microseconds in JSON.
TEST(Table, PhasesAreInMilliseconds) {
  ComparisonRow decode = Row(3798, 1740, {Cell("marlin", 2578)});
  decode.name = "decode";
  decode.k = decode.n = 0;
  decode.milliseconds = true;
  const ComparisonTable table = Table({decode});
  EXPECT_THAT(Console(table), HasSubstr("ms (share of the floor in %)"));
  EXPECT_THAT(Console(table), HasSubstr("2.58 (67)"));
  EXPECT_THAT(Markdown(table), HasSubstr(". Milliseconds, in brackets"));
  EXPECT_THAT(Markdown(table), HasSubstr("| phase | positions | floor | marlin |"));
  EXPECT_THAT(Markdown(table), HasSubstr("| decode | 3798 | 1.74 | **2.58 (67)** |"));
  EXPECT_EQ(Json(table)["rows"][0]["cells"][0]["median_us"], 2578);
  EXPECT_THAT(Text([&](std::ostream& out) { WriteRowLine(out, decode); }), HasSubstr("floor 1.74 ms: marlin 2.58"));
}

struct Goal {
  const char* name;
  ComparisonRow reached, missed;
  const char* line;
};

class ShortfallsOf : public testing::TestWithParam<Goal> {};

TEST_P(ShortfallsOf, AreNamedWhereTheyAreAndOnlyThere) {
  EXPECT_THAT(Shortfalls(Table({GetParam().reached})), IsEmpty());
  EXPECT_THAT(Shortfalls(Table({GetParam().missed})), ElementsAre(GetParam().line));
}

INSTANTIATE_TEST_SUITE_P(
    Goals, ShortfallsOf,
    testing::Values(Goal{"AheadOfVllm", Row(64, 3, {Cell("marlin", 9), Cell("vllm_marlin", 10)}),
                         Row(64, 3, {Cell("marlin", 10), Cell("vllm_marlin", 9)}),
                         "marlin, o 4096x4096, M = 64: 10.0 us, 1.11 times vllm_marlin"},
                    Goal{"AheadOfTinygemm", Row(32, 3, {Cell("marlin", 9), Cell("tinygemm", 10)}),
                         Row(32, 3, {Cell("marlin", 10), Cell("tinygemm", 5)}),
                         "marlin, o 4096x4096, M = 32: 10.0 us, 2.00 times tinygemm"},
                    // From 64 rows on cuBLAS may be quicker.
                    Goal{"AheadOfCublasForFewRows", Row(64, 3, {Cell("marlin", 10), Cell("cublas_fp16", 5)}),
                         Row(32, 3, {Cell("marlin", 10), Cell("cublas_fp16", 5)}),
                         "marlin, o 4096x4096, M = 32: 10.0 us, 2.00 times cublas_fp16"},
                    Goal{"NearTheFloor", Row(16, 3, {Cell("marlin", 4.5)}), Row(16, 3, {Cell("marlin", 6)}),
                         "marlin, o 4096x4096, M = 16: 6.00 us, 2.00 times the floor (goal 1.50)"},
                    Goal{"NearCublas", Row(512, 20, {Cell("marlin", 22), Cell("cublas_fp16", 20)}),
                         Row(512, 20, {Cell("marlin", 23), Cell("cublas_fp16", 20)}),
                         "marlin, o 4096x4096, M = 512: 23.0 us, 1.15 times cublas_fp16 (goal 1.10)"},
                    Goal{"AwqNearMarlin", Row(64, 3, {Cell("marlin", 10), Cell("awq", 11)}),
                         Row(64, 3, {Cell("marlin", 10), Cell("awq", 12)}),
                         "awq, o 4096x4096, M = 64: 12.0 us, 1.20 times marlin (goal 1.10)"},
                    Goal{"OrderedNearMarlin", Row(64, 3, {Cell("marlin", 10), Cell("gptq_ordered", 11)}),
                         Row(64, 3, {Cell("marlin", 10), Cell("gptq_ordered", 20)}),
                         "gptq_ordered, o 4096x4096, M = 64: 20.0 us, 2.00 times marlin (goal 1.10)"}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace quant_suites
