#include "suites/benchmarks/record_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>

namespace quant_suites {
namespace {

reporters::BenchmarkRecord Benchmark(const std::string& name, const std::string& aggregate, double ns,
                                     double patterns = 0) {
  reporters::BenchmarkRecord benchmark;
  benchmark.name = aggregate.empty() ? name : name + "_" + aggregate;
  benchmark.aggregate = aggregate;
  benchmark.iterations = 9;
  benchmark.real_time_ns = ns;
  if (patterns > 0) benchmark.counters["patterns"] = patterns;
  return benchmark;
}

const std::string kMarlin = "int4_matmul/o_4096x4096/m:16/marlin/process_time/real_time";
const std::string kOpenVino = "int4_matmul/o_4096x4096/m:16/openvino/process_time/real_time";

TEST(TableOfRecord, MediansOfEachProviderBesideEachOther) {
  reporters::RunRecord record;
  record.benchmarks = {Benchmark(kMarlin, "mean", 9e9), Benchmark(kOpenVino, "median", 4000),
                       Benchmark(kMarlin, "median", 3000, 1), Benchmark(kMarlin, "stddev", 8e9)};
  const ComparisonTable table = TableOfRecord(record, "int4_matmul");
  ASSERT_EQ(table.rows.size(), 1u);
  EXPECT_EQ(table.rows[0].name, "o_4096x4096");
  EXPECT_EQ(table.rows[0].rows, 16);
  EXPECT_EQ(CellText(table.rows[0], "marlin"), "3.00");
  EXPECT_EQ(CellText(table.rows[0], "openvino"), "4.00");
  EXPECT_EQ(table.rounds, 9);
}

TEST(TableOfRecord, TheFloorThatABenchmarkNames) {
  reporters::RunRecord record;
  record.benchmarks = {Benchmark(kMarlin, "median", 4000), Benchmark("int4_matmul/o/m:1/gptq", "median", 4000)};
  record.benchmarks[0].counters["floor_us"] = 2;
  const ComparisonTable table = TableOfRecord(record, "int4_matmul");
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(CellText(table.rows[0], "gptq"), "4.00");
  EXPECT_EQ(CellText(table.rows[1], "marlin"), "4.00 (50)");
}

TEST(TableOfRecord, SingleRunsWhereThereAreNoAggregates) {
  reporters::RunRecord record;
  record.benchmarks = {Benchmark(kMarlin, "", 3000), Benchmark(kMarlin, "", 5000), Benchmark(kMarlin, "", 9000)};
  const ComparisonTable table = TableOfRecord(record, "int4_matmul");
  EXPECT_EQ(CellText(table.rows.at(0), "marlin"), "5.00");
  EXPECT_EQ(table.rounds, 3);
}

TEST(TableOfRecord, OtherBitsAndErrorsShow) {
  reporters::RunRecord record;
  record.benchmarks = {Benchmark("int4_matmul/o/m:1/gptq/real_time", "median", 3000, 4), Benchmark(kMarlin, "", 0)};
  record.benchmarks.back().error = "no memory";
  const ComparisonTable table = TableOfRecord(record, "int4_matmul");
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(CellText(table.rows[0], "gptq"), "3.00 #4");
  EXPECT_EQ(CellText(table.rows[1], "marlin"), "error");
  std::ostringstream out;
  WriteConsoleTable(out, table);
  EXPECT_THAT(out.str(), testing::HasSubstr("error: marlin, o_4096x4096, M = 16: no memory\n"));
  EXPECT_THAT(out.str(), testing::HasSubstr("medians of 9 repetitions"));
}

TEST(TableOfRecord, ThePhasesOfAModel) {
  reporters::RunRecord record;
  record.benchmarks = {Benchmark("generation/prefill/awq/prompt:3000/manual_time", "median", 2e6),
                       Benchmark("generation/prefill/awq/prompt:256/manual_time", "median", 1e6),
                       Benchmark("generation/decode/openvino/prompt:256/manual_time", "median", 3e6)};
  const ComparisonTable table = TableOfRecord(record, "generation");
  ASSERT_EQ(table.rows.size(), 3u);
  EXPECT_EQ(table.rows[0].name, "decode");
  EXPECT_EQ(table.rows[1].rows, 256);
  EXPECT_EQ(CellText(table.rows[1], "awq"), "1000");
  EXPECT_EQ(table.rows[2].rows, 3000);
}

TEST(TableOfRecord, OtherBenchmarksAreLeftOut) {
  reporters::RunRecord record;
  record.benchmarks = {Benchmark("int4_matmul_cuda/o_4096x4096/m:16/marlin/manual_time", "median", 1),
                       Benchmark("int4_matmul/short", "median", 1), Benchmark("int4_matmul/o/marlin/fast", "median", 1),
                       Benchmark("int4_matmul/o/m:x/marlin", "median", 1)};
  EXPECT_TRUE(TableOfRecord(record, "int4_matmul").rows.empty());
}

}  // namespace
}  // namespace quant_suites
