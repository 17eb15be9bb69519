#include "gtest_determinism/configuration.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

namespace gtest_determinism {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ConfigurationTest : public testing::Test {
 protected:
  void TearDown() override {
    for (const char* name : {"DETERMINISM_RUNS", "DETERMINISM_SEED", "DETERMINISM_QUIET"}) unsetenv(name);
  }
  Configuration Parse(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "program");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    int argc = static_cast<int>(arguments.size());
    Configuration configuration = ParseConfiguration(&argc, argv.data());
    left_.assign(argv.begin() + 1, argv.begin() + argc);
    return configuration;
  }
  std::string ErrorOf(const std::string& argument) {
    try {
      Parse({argument});
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "no error";
  }
  std::vector<std::string> left_;
};

TEST_F(ConfigurationTest, Defaults) {
  const Configuration configuration = Parse({});
  EXPECT_EQ(configuration.runs, 30);
  EXPECT_EQ(configuration.seed, 42u);
  EXPECT_EQ(configuration.rate_below, std::nullopt);
  EXPECT_TRUE(configuration.perturb);
  EXPECT_FALSE(configuration.strict);
  EXPECT_FALSE(configuration.quiet);
  EXPECT_EQ(configuration.program, "program");
}

TEST_F(ConfigurationTest, TakesItsFlagsAndLeavesTheRest) {
  const Configuration configuration =
      Parse({"--other", "--determinism_runs=7", "x", "--determinism_strict", "--determinism_quiet=false",
             "--determinism_rate_below=0.01", "--determinism_seed=18446744073709551615", "--determinism_budget=1.5",
             "--determinism_perturb=no", "--", "--determinism_runs=9"});
  EXPECT_EQ(configuration.runs, 7);
  EXPECT_TRUE(configuration.strict);
  EXPECT_FALSE(configuration.quiet);
  EXPECT_FALSE(configuration.perturb);
  EXPECT_EQ(configuration.rate_below, 0.01);
  EXPECT_EQ(configuration.budget_seconds, 1.5);
  EXPECT_EQ(configuration.seed, 18446744073709551615u);
  EXPECT_THAT(left_, ElementsAre("--other", "x", "--", "--determinism_runs=9"));
}

TEST_F(ConfigurationTest, EnvironmentBelowFlags) {
  setenv("DETERMINISM_RUNS", "11", 1);
  setenv("DETERMINISM_SEED", "5", 1);
  setenv("DETERMINISM_QUIET", "", 1);
  EXPECT_EQ(Parse({}).runs, 11);
  EXPECT_EQ(Parse({"--determinism_runs=12"}).runs, 12);
  EXPECT_EQ(Parse({"--determinism_runs=12"}).seed, 5u);
  setenv("DETERMINISM_RUNS", "many", 1);
  EXPECT_EQ(ErrorOf("--determinism_quiet"), "DETERMINISM_RUNS=many: expected a number of runs, at least 2");
}

TEST_F(ConfigurationTest, ErrorsNameTheFlagAndWhatIsWanted) {
  EXPECT_EQ(ErrorOf("--determinism_runs=1"), "--determinism_runs=1: expected a number of runs, at least 2");
  EXPECT_EQ(ErrorOf("--determinism_runs=3x"), "--determinism_runs=3x: expected a number of runs, at least 2");
  EXPECT_EQ(ErrorOf("--determinism_runs=99999999999"),
            "--determinism_runs=99999999999: expected a number of runs, at least 2");
  EXPECT_EQ(ErrorOf("--determinism_runs"), "--determinism_runs: a value is missing, write --determinism_runs=VALUE");
  EXPECT_EQ(ErrorOf("--determinism_seed=-1"), "--determinism_seed=-1: expected a whole number from 0 to 2^64 - 1");
  EXPECT_EQ(ErrorOf("--determinism_rate_below=nan"), "--determinism_rate_below=nan: expected a rate between 0 and 1");
  EXPECT_EQ(ErrorOf("--determinism_budget=inf"), "--determinism_budget=inf: expected seconds, more than 0");
  EXPECT_EQ(ErrorOf("--determinism_strict=maybe"), "--determinism_strict=maybe: expected true or false");
  EXPECT_THAT(ErrorOf("--determinism_run=3"), HasSubstr("unknown flag --determinism_run=3; known are "));
  EXPECT_THAT(ErrorOf("--determinism_run=3"), HasSubstr("--determinism_runs, --determinism_rate_below"));
}

TEST_F(ConfigurationTest, HelpNamesEveryFlagThatIsKnown) {
  const std::string unknown = ErrorOf("--determinism_");
  std::size_t at = unknown.find("known are ");
  ASSERT_NE(at, std::string::npos);
  int flags = 0;
  for (at = unknown.find("--", at); at != std::string::npos; at = unknown.find("--", at + 1), ++flags) {
    const std::string flag = unknown.substr(at, unknown.find(',', at) - at);
    EXPECT_THAT(std::string(ConfigurationHelp()), HasSubstr("\n  " + flag)) << flag;
  }
  EXPECT_EQ(flags, 7);
}

}  // namespace
}  // namespace gtest_determinism
