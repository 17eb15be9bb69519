// The benchmarks' program on a GPU, on a small selection: that its table holds what
// it says, never how quickly.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "gtest_determinism/cuda.h"
#include "tests/reporters/subprocess.h"
#include "tests/reporters/temporary_folder.h"

namespace quant_suites {
namespace {

using testing::HasSubstr;

const std::string kProgram = QUANT_BENCHMARKS_PROGRAM;

TEST(CudaBenchmarks, OneTableOfAllProviders) {
  if (const std::string why = gtest_determinism::NoCudaDevice(); !why.empty()) GTEST_SKIP() << why;
  const reporters::TemporaryFolder folder;
  const std::string file = folder.path() / "table.json", markdown = folder.path() / "table.md";
  const reporters::Finished run = reporters::RunCommand(
      kProgram + " --benchmark_filter=int4_matmul_cuda --layers o --rows 1,64 --rounds 2 --providers " +
      "cublas_fp16,marlin,marlin_invariant,gptq,gptq_ordered --table-json " + file + " --table-markdown " + markdown);
  ASSERT_EQ(run.exit_code, 0) << run.output;
  // Google Benchmark's own lines, with the counters.
  EXPECT_THAT(run.output, HasSubstr("int4_matmul_cuda/o_4096x4096/m:64/marlin"));
  EXPECT_THAT(run.output, HasSubstr("floor_share="));
  std::ifstream in(file);
  const nlohmann::json table = nlohmann::json::parse(in)["matmuls"];
  EXPECT_GT(table["ceilings"]["bytes_per_second"], 1e11);
  EXPECT_GT(table["ceilings"]["flops_per_second"], 1e13);
  ASSERT_EQ(table["rows"].size(), 2u);
  for (const nlohmann::json& row : table["rows"]) {
    ASSERT_EQ(row["cells"].size(), 5u);
    for (const nlohmann::json& cell : row["cells"]) {
      EXPECT_TRUE(cell["error"].is_null()) << cell;
      EXPECT_EQ(cell["us"].size(), 2u);
      // A time below the floor would mean that the work was not done or the weights
      // came from the cache; the ceilings themselves are known to a few percent.
      EXPECT_LT(cell["floor_share"], 1.1) << cell;
      EXPECT_EQ(cell["runs"], 20);
      // Halves round; a result without any difference would not have been compared.
      EXPECT_GT(cell["deviation"], 1e-6) << cell;
      EXPECT_LT(cell["deviation"], 5e-3) << cell;
      // Partial sums of one row in arrival order, its twin beside it as the control.
      const bool arrival = cell["provider"] == "gptq" && row["rows"] == 1;
      EXPECT_EQ(cell["patterns"] > 1, arrival) << cell;
    }
  }
  EXPECT_TRUE(std::filesystem::exists(markdown));
  // One row of x has the same bits in a batch of 64 where the kernel says so; cuBLAS's
  // are no control, since it promises neither.
  const auto first_row = [&](int row, const std::string& provider) {
    for (const nlohmann::json& cell : table["rows"][row]["cells"]) {
      if (cell["provider"] == provider) return cell["first_row"].get<std::string>();
    }
    return std::string();
  };
  EXPECT_EQ(first_row(0, "marlin_invariant"), first_row(1, "marlin_invariant"));
  EXPECT_NE(first_row(0, "marlin_invariant"), "");
  EXPECT_NE(first_row(0, "marlin"), first_row(1, "marlin"));  // two paths, two orders of summation
}

TEST(CudaBenchmarks, OnceForAProfiler) {
  if (const std::string why = gtest_determinism::NoCudaDevice(); !why.empty()) GTEST_SKIP() << why;
  const reporters::Finished run =
      reporters::RunCommand(kProgram + " --once --layers o,down --rows 1,16 --providers marlin,awq");
  EXPECT_EQ(run.exit_code, 0) << run.output;
  EXPECT_THAT(run.output, HasSubstr("8 calls"));
}

}  // namespace
}  // namespace quant_suites
