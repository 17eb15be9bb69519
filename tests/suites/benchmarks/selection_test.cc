#include "suites/benchmarks/selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/reporters/temporary_folder.h"

namespace quant_suites {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

ParsedSelection Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "quant_benchmarks");
  return ParseSelection(static_cast<int>(arguments.size()), arguments.data());
}

TEST(Selection, DefaultsAreTheShortTable) {
  const ParsedSelection parsed = Parse({});
  EXPECT_LT(parsed.exit_code, 0);
  EXPECT_THAT(parsed.selection.rows, ElementsAre(1, 16, 64, 512, 3790));
  EXPECT_TRUE(parsed.selection.Wants("qkv", parsed.selection.layers));
  EXPECT_THAT(parsed.others, IsEmpty());
}

TEST(Selection, TakesItsOwnAndLeavesTheOthersToGoogleBenchmark) {
  const ParsedSelection parsed = Parse(
      {"--benchmark_filter=cuda", "--layers", "qkv,down", "--rows=1,17", "--rounds", "5", "--benchmark_list_tests"});
  EXPECT_THAT(parsed.selection.layers, ElementsAre("qkv", "down"));
  EXPECT_THAT(parsed.selection.rows, ElementsAre(1, 17));
  EXPECT_EQ(parsed.selection.rounds, 5);
  EXPECT_THAT(parsed.others, ElementsAre("--benchmark_filter=cuda", "--benchmark_list_tests"));
  EXPECT_TRUE(parsed.selection.Wants("down", parsed.selection.layers));
  EXPECT_FALSE(parsed.selection.Wants("o", parsed.selection.layers));
}

TEST(Selection, EachNumberOfRowsOnce) { EXPECT_THAT(Parse({"--rows", "64,1,64"}).selection.rows, ElementsAre(1, 64)); }

TEST(Selection, AFilterIsAnExtendedExpression) {
  EXPECT_EQ(WrongFilter("int4_matmul/(qkv|o)_.*/m:1/"), "");
  EXPECT_EQ(WrongFilter("-cuda"), "");
  EXPECT_NE(WrongFilter("("), "");
  EXPECT_NE(WrongFilter("-("), "");
}

TEST(Selection, ATableIsRefusedBeforeAnythingIsMeasured) {
  const reporters::TemporaryFolder folder;
  const std::string file = folder.path() / "table.json", nowhere = folder.path() / "no" / "table.md";
  EXPECT_LT(Parse({"--table-json", file.c_str(), "--table-markdown", "table.md"}).exit_code, 0);
  EXPECT_FALSE(std::filesystem::exists(file));
  testing::internal::CaptureStderr();
  EXPECT_EQ(Parse({"--table-json", folder.path().c_str()}).exit_code, 2);
  EXPECT_EQ(Parse({"--table-markdown", nowhere.c_str()}).exit_code, 2);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(said, testing::HasSubstr(folder.path().string() + " is a folder"));
  EXPECT_THAT(said, testing::HasSubstr("no folder " + (folder.path() / "no").string()));
}

TEST(Selection, AllRows) { EXPECT_EQ(Parse({"--all-rows"}).selection.rows.size(), 14u); }

TEST(Selection, AFlagOfNeitherIsNamed) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(Parse({"--benchmark_filter=x", "--bogus"}).exit_code, 2);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "quant_benchmarks: unknown argument --bogus; see --help\n");
}

TEST(Selection, SenselessValuesAreRefused) {
  testing::internal::CaptureStderr();
  EXPECT_EQ(Parse({"--rounds", "0"}).exit_code, 2);
  EXPECT_EQ(Parse({"--rows", "1,-2"}).exit_code, 2);
  EXPECT_EQ(Parse({"--rows", "many"}).exit_code, 2);
  EXPECT_EQ(Parse({"--rows", "1", "--all-rows"}).exit_code, 2);
  EXPECT_EQ(Parse({"--layers", "qkv,no_layer"}).exit_code, 2);
  EXPECT_EQ(Parse({"--providers", "marlin,no_provider"}).exit_code, 2);
  EXPECT_EQ(Parse({"--variants", "no_variant"}).exit_code, 2);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), testing::HasSubstr("quant_benchmarks: "));
}

}  // namespace
}  // namespace quant_suites
