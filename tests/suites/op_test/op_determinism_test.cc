// The program, with op libraries built for it: what it finds, says and returns.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/suites/int4/program.h"
#include "tests/support/temporary_folder.h"

namespace suites {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

const std::string kGood = std::string(OP_LIBRARIES_DIR) + "/libop_library_good.so";
// No package vllm of this machine's.
const ProgramOptions kNoPython = {{{"PATH", "/nowhere"}, {"VIRTUAL_ENV", ""}, {"QUANT_OP_LIBRARIES", ""}}};

// Each test is a process of its own, and several run at a time.
const fs::path& Folder() {
  static const test_support::TemporaryFolder folder;
  return folder.path();
}

std::string Describe(const std::string& name, const std::string& op, const std::string& arguments,
                     const std::string& tests, const std::string& more = "") {
  const fs::path file = Folder() / (name + ".json");
  std::ofstream(file) << R"({"schema_version": 1, "name": ")" << name << R"(", "op": ")" << op << R"(", )"
                      << R"("values": {"x": {"random": "normal", "shape": [4096], "dtype": "float32", "seed": 1}}, )"
                      << R"("arguments": )" << arguments << R"(, "tests": )" << tests << more << "}";
  return file.string();
}

ProgramResult RunOp(std::vector<std::string> arguments, const ProgramOptions& options = kNoPython) {
  return RunProgram(OP_DETERMINISM_PROGRAM, arguments, options);
}

const std::string kBitExact = R"([{"property": "run_to_run", "runs": 10, "expect": "bit_exact"}])";
const std::string kNoisy = R"([{"property": "run_to_run", "runs": 10, "expect": "nondeterministic"}])";

TEST(OpDeterminism, PassesWhatIsBitExact) {
  const std::string file = Describe("exact", "determinism_test_ops::scaled_sum",
                                    R"({"x": {"value": "x"}, "scale": 0.5, "twice": true})", kBitExact);
  const ProgramResult result = RunOp({"--op-library", kGood, "--description", file});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("libop_library_good.so, "), HasSubstr("XXH3-128 "),
                                HasSubstr("10 of 10 runs bit-exact"), HasSubstr("OK ] exact.run_to_run")));
}

TEST(OpDeterminism, FailsWhatDiffersAndASwitchIsAnArgument) {
  const std::string on = Describe("noisy", "determinism_test_ops::noisy_sum", R"([{"value": "x"}, true])", kBitExact);
  const ProgramResult noisy = RunOp({"--op-library", kGood, "--description", on});
  EXPECT_EQ(noisy.exit_code, 1) << noisy.err;
  EXPECT_THAT(noisy.out, AllOf(HasSubstr("distinct patterns"), HasSubstr("determinism_test_ops::noisy_sum"),
                               HasSubstr("[  FAILED  ] noisy.run_to_run")));
  const std::string off = Describe("quiet", "determinism_test_ops::noisy_sum", R"([{"value": "x"}, false])", kBitExact);
  EXPECT_EQ(RunOp({"--op-library", kGood, "--description", off}).exit_code, 0);
}

TEST(OpDeterminism, NoiseThatIsExpectedMustBeSeen) {
  const std::string op = "determinism_test_ops::noisy_sum";
  const std::string there = Describe("there", op, R"([{"value": "x"}, true])", kNoisy);
  const std::string gone = Describe("gone", op, R"([{"value": "x"}, false])", kNoisy);
  const ProgramResult seen = RunOp({"--op-library", kGood, "--description", there});
  EXPECT_EQ(seen.exit_code, 0) << seen.out;
  EXPECT_THAT(seen.out, HasSubstr("distinct patterns"));
  const ProgramResult unseen = RunOp({"--op-library", kGood, "--description", gone});
  EXPECT_EQ(unseen.exit_code, 1);
  EXPECT_THAT(unseen.out, HasSubstr("was expected to differ between runs: 10 of 10 runs bit-exact"));
}

TEST(OpDeterminism, ComparesWhatIsWrittenToAnArgument) {
  const std::string file = Describe("in_place", "determinism_test_ops::add_one_", R"([{"value": "x"}])", kBitExact);
  const ProgramResult result = RunOp({"--op-library", kGood, "--description", file});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
}

TEST(OpDeterminism, FindsALibraryInTheEnvironment) {
  const std::string file =
      Describe("found", "determinism_test_ops::halves", R"([{"value": "x"}, null, [96, 4000]])", kBitExact);
  ProgramOptions options = kNoPython;
  options.environment.back().second = kGood;
  EXPECT_EQ(RunOp({"--description", file}, options).exit_code, 0);
  const ProgramResult without = RunOp({"--description", file});
  EXPECT_EQ(without.exit_code, 2);
  EXPECT_EQ(without.out, "");
  EXPECT_THAT(without.err,
              AllOf(StartsWith("op_determinism: there is no operator determinism_test_ops::halves: torch "),
                    HasSubstr("name one with --op-library or $QUANT_OP_LIBRARIES\n")));
}

TEST(OpDeterminism, NeedsNoLibraryForTorchsOwn) {
  const std::string file = Describe("own", "aten::relu", R"([{"value": "x"}])", kBitExact);
  EXPECT_EQ(RunOp({"--description", file}).exit_code, 0);
  EXPECT_EQ(RunOp({"--description", file, "--gtest_filter=nosuch*"}).exit_code, 1) << "no test ran";
}

TEST(OpDeterminism, ListsItsTestsWithoutOpeningAnything) {
  const std::string file = Describe("listed", "nosuch::op", "[]", kBitExact, R"(, "parameters": {"m": [1, 2]})");
  const ProgramResult result = RunOp({"--op-library", "/nosuch.so", "--description", file, "--gtest_list_tests"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("listed.\n  run_to_run/m_1\n  run_to_run/m_2\n")));
}

TEST(OpDeterminism, SaysInOneLineWhatItCannotUse) {
  const std::string file = Describe("lacks", "determinism_test_ops::nosuch", "[]", kBitExact);
  const auto refusal = [](const std::vector<std::string>& arguments) {
    const ProgramResult result = RunOp(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.out << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    return result.err;
  };
  EXPECT_THAT(refusal({"--op-library", kGood, "--description", file}),
              AllOf(HasSubstr("there is no operator determinism_test_ops::nosuch"), HasSubstr(kGood)));
  EXPECT_THAT(refusal({"--op-library", file, "--description", file}), HasSubstr("is no ELF file"));
  EXPECT_THAT(
      refusal({"--op-library", std::string(OP_LIBRARIES_DIR) + "/libop_library_other_torch.so", "--description", file}),
      HasSubstr("was built for another torch"));
  EXPECT_THAT(refusal({"--description", "/nosuch.json"}), HasSubstr("/nosuch.json"));
  EXPECT_THAT(refusal({}), HasSubstr("--description is required; see --help"));
  EXPECT_THAT(refusal({"--description", file, "--nosuch"}), HasSubstr("--nosuch"));
  EXPECT_THAT(refusal({"--nosuch"}), HasSubstr("--nosuch"));
  EXPECT_THAT(refusal({"--description", file, "--device", "tpu"}),
              StartsWith("op_determinism: --device: device \"tpu\""));
  // No machine has so many.
  const std::string absent =
      Describe("absent", "aten::relu", R"([{"value": "x"}])", kBitExact, R"(, "device": "cuda:4095")");
  EXPECT_THAT(refusal({"--description", absent}),
              StartsWith("op_determinism: " + absent + ": device: device \"cuda:4095\""));
}

TEST(OpDeterminism, AnOperatorThatThrowsIsAFailureWithItsFirstLine) {
  const std::string without =
      Describe("without", "determinism_test_ops::without_a_kernel", R"([{"value": "x"}])", kBitExact);
  const ProgramResult result = RunOp({"--op-library", kGood, "--description", without});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_THAT(result.out,
              AllOf(HasSubstr("Could not run 'determinism_test_ops::without_a_kernel'"), Not(HasSubstr("frame #"))));
}

TEST(OpDeterminism, APerturbationOfAGpuIsRefusedOnTheCpu) {
  const std::string file =
      Describe("perturbed", "aten::relu", R"([{"value": "x"}])",
               R"([{"property": "run_to_run", "perturbations": ["NAME"], "expect": "bit_exact"}])");
  const auto with = [&](const std::string& name) {
    std::ifstream in(file);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    text.replace(text.find("NAME"), 4, name);
    const fs::path named = Folder() / ("perturbed_" + name + ".json");
    std::ofstream(named) << text;
    return RunOp({"--description", named.string()});
  };
  EXPECT_EQ(with("competing_load").exit_code, 0);
  const ProgramResult refused = with("sm_contention");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.out, HasSubstr("perturbation sm_contention is one of a GPU, but the test runs on the CPU"));
}

TEST(OpDeterminism, ExplainsItself) {
  const ProgramResult result = RunOp({"--help"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, AllOf(HasSubstr("--op-library FILE"), HasSubstr("--description FILE"), HasSubstr("--device"),
                                HasSubstr("$QUANT_OP_LIBRARIES"), HasSubstr("Exit code: 0")));
}

}  // namespace
}  // namespace suites
