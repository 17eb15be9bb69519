// quant_suites --device cuda as a program, on the embedded model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tests/suites/int4/program.h"
#include "tests/suites/int4/temporary_folder.h"

namespace suites {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

namespace fs = std::filesystem;

std::string ReadFile(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class QuantSuitesGpuTest : public testing::Test {
 protected:
  struct Outcome {
    int exit_code = -1;
    std::string text;
    json result;
  };
  // One variant with this project's kernels; skips the test where there is no GPU.
  void Run(const std::string& variant, Outcome& outcome, std::vector<std::string> more = {},
           ProgramOptions options = {}) {
    const fs::path out = folder_.path() / ("out" + std::to_string(++runs_));
    std::vector<std::string> arguments = {
        "--embedded", "--device",      "cuda", "--provider",   "builtin", "--variants",      variant, "--output-dir",
        out.string(), "--repetitions", "10",   "--max-tokens", "12",      "--prompt-length", "80"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult program = RunProgram(QUANT_SUITES_PROGRAM, arguments, options);
    outcome.exit_code = program.exit_code;
    outcome.text = program.out + program.err;
    for (const char* why : {"no CUDA device", "this build has no device code", "CUDA half cannot be opened"}) {
      if (outcome.text.find(why) != std::string::npos) GTEST_SKIP() << why;
    }
    for (const auto& entry : fs::directory_iterator(out)) {
      if (entry.path().extension() == ".json") outcome.result = json::parse(ReadFile(entry.path()), nullptr, false);
    }
    ASSERT_TRUE(outcome.result.is_object()) << outcome.text;
  }
  TemporaryFolder folder_;
  int runs_ = 0;
};

// So that a machine without a GPU shows more than skips.
TEST_F(QuantSuitesGpuTest, ADeviceThatIsNotThereIsOneLineAndAFailureFile) {
  const fs::path out = folder_.path() / "none";
  const ProgramResult program = RunProgram(
      QUANT_SUITES_PROGRAM, {"--embedded", "--device", "cuda:4095", "--variants", "awq", "--output-dir", out.string()});
  EXPECT_EQ(program.exit_code, 1);
  EXPECT_THAT(program.out + program.err, AllOf(HasSubstr("cuda:4095"), HasSubstr("--device cpu")));
  int files = 0;
  for (const auto& entry : fs::directory_iterator(out)) {
    if (entry.path().extension() != ".json") continue;
    ++files;
    const json result = json::parse(ReadFile(entry.path()));
    EXPECT_EQ(result["success"], false);
    EXPECT_THAT(result["error"].get<std::string>(), HasSubstr("cuda:4095"));
  }
  EXPECT_EQ(files, 1);
}

TEST_F(QuantSuitesGpuTest, NamesTheCauseOfGptqWithItsEvidence) {
  Outcome outcome;
  Run("gptq", outcome);
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
  const json& result = outcome.result;
  EXPECT_EQ(result["outcome"], "nondeterministic");
  EXPECT_EQ(result["device"], "cuda:0");
  EXPECT_THAT(result["verdict"]["root_cause"].get<std::string>(), StartsWith("Order of accumulation in layer 0 "));
  for (const char* shown : {"first_operation", "replay_differs", "ordered_twin_exact", "within_rounding_bound",
                            "replay_kernels", "float_atomics", "switch_on_operation", "switch_ends_it"}) {
    EXPECT_EQ(result["evidence"][shown]["finding"], "shown") << shown << ": " << result["evidence"][shown];
  }
  EXPECT_THAT(result["environment"]["gpu"].get<std::string>(), testing::Not(testing::IsEmpty()));
}

TEST_F(QuantSuitesGpuTest, MarlinIsBitExactAndEveryCallOfItIsInTheProfile) {
  Outcome outcome;
  Run("awq_marlin", outcome);
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_EQ(outcome.exit_code, 0) << outcome.text;
  const json& kernels = outcome.result["kernels"];
  EXPECT_EQ(outcome.result["outcome"], "bit_exact");
  EXPECT_EQ(kernels["profiling_succeeded"], true) << kernels["reason"];
  EXPECT_GE(kernels["expected_count"].get<int>(), kernels["expected_at_least"].get<int>());
  EXPECT_FALSE(kernels["marlin_kernels"].empty());
  bool multiplies = false;
  for (const json& kernel : kernels["marlin_kernels"]) {
    // By the operator that launched it: the sum of the splits is Marlin's too.
    EXPECT_THAT(kernel["operator"].get<std::string>(), HasSubstr("marlin_gemm"));
    EXPECT_GT(kernel["cuda_time_us"].get<double>(), 0);
    multiplies = multiplies || kernel["name"].get<std::string>().find("MarlinGemm") != std::string::npos;
  }
  EXPECT_TRUE(multiplies) << kernels["marlin_kernels"];
}

// The negative control of the proof of engagement.
TEST_F(QuantSuitesGpuTest, WithoutAProfileThereIsNoVerdict) {
  Outcome outcome;
  Run("awq_marlin", outcome, {}, {.environment = {{"DETERMINISM_NO_CUPTI", "1"}}});
  if (IsSkipped() || HasFatalFailure()) return;
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(outcome.result["outcome"], "inconclusive");
  EXPECT_TRUE(outcome.result["verdict"]["is_deterministic"].is_null());
  EXPECT_EQ(outcome.result["kernels"]["profiling_succeeded"], false);
  EXPECT_THAT(outcome.result["kernels"]["reason"].get<std::string>(), HasSubstr("DETERMINISM_NO_CUPTI"));
}

TEST_F(QuantSuitesGpuTest, AGraphAndEagerStepsWriteTheSameTokensAndLogprobs) {
  Outcome graph, eager;
  Run("awq", graph);
  if (IsSkipped() || HasFatalFailure()) return;
  Run("awq", eager, {"--eager"});
  ASSERT_FALSE(HasFatalFailure());
  EXPECT_EQ(graph.result["baseline"]["tokens"], eager.result["baseline"]["tokens"]);
  EXPECT_EQ(graph.result["baseline"]["logprobs"], eager.result["baseline"]["logprobs"]);
  EXPECT_EQ(graph.result["patterns"]["list"][0]["digest"], eager.result["patterns"]["list"][0]["digest"]);
}

}  // namespace
}  // namespace suites
