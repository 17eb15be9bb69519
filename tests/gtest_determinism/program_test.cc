// Programs as programs: exit code, standard output and error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace gtest_determinism {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

struct Outcome {
  int code = -1;
  std::string text;  // both streams
};

Outcome RunProgram(const std::string& command) {
  Outcome outcome;
  std::FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return outcome;
  char buffer[4096];
  while (std::size_t n = std::fread(buffer, 1, sizeof(buffer), pipe)) outcome.text.append(buffer, n);
  const int status = pclose(pipe);
  outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return outcome;
}

Outcome Subject(const std::string& arguments, const std::string& environment = "") {
  return RunProgram(environment + " " + SUBJECT_PROGRAM + " " + arguments);
}

TEST(Program, PassPrintsItsPower) {
  const Outcome outcome = Subject("--gtest_filter=Subject.Passes --determinism_runs=5");
  EXPECT_EQ(outcome.code, 0) << outcome.text;
  EXPECT_THAT(outcome.text,
              HasSubstr("[ BITEXACT ] [] { return 1.0f; }: 5 of 5 runs bit-exact; a deviation of probability >= 52.7 % "
                        "per run would have been seen with 95 % certainty (4 comparisons, if runs are independent)\n"));
}

TEST(Program, QuietPrintsNothing) {
  const Outcome outcome = Subject("--gtest_filter=Subject.Passes --determinism_quiet");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.text, Not(HasSubstr("BITEXACT")));
}

TEST(Program, FailureNamesACommandThatFailsAgain) {
  const Outcome outcome = Subject("--gtest_filter=Subject.Fails --determinism_runs=9 --determinism_seed=7");
  EXPECT_EQ(outcome.code, 1);
  const std::string key = "  Re-run: ";
  const std::size_t at = outcome.text.find(key);
  ASSERT_NE(at, std::string::npos) << outcome.text;
  const std::string command = outcome.text.substr(at + key.size(), outcome.text.find('\n', at) - at - key.size());
  EXPECT_THAT(command, HasSubstr("--gtest_filter='Subject.Fails' --determinism_runs=9 --determinism_seed=7"));
  const Outcome again = RunProgram(command);
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.text, HasSubstr("1 of 9 runs differs from run 0"));
}

TEST(Program, EnvironmentIsTheTwinOfFlags) {
  EXPECT_THAT(Subject("--gtest_filter=Subject.Passes", "DETERMINISM_RUNS=6").text, HasSubstr("6 of 6 runs"));
  const Outcome outcome = RunProgram(std::string("DETERMINISM_RUNS=6 ") + OWN_MAIN_PROGRAM);
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.text, ContainsRegex("Re-run: DETERMINISM_RUNS=6 DETERMINISM_SEED=42 .*--gtest_filter='OwnMain"));
  const Outcome broken = RunProgram(std::string("DETERMINISM_RUNS=six ") + OWN_MAIN_PROGRAM);
  EXPECT_EQ(broken.code, 1);
  EXPECT_THAT(broken.text, HasSubstr("error: DETERMINISM_RUNS=six: expected a number of runs, at least 2"));
}

TEST(Program, FlagsThatCannotBeRead) {
  const Outcome unknown = Subject("--determinism_run=3");
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.text, HasSubstr("error: unknown flag --determinism_run=3; known are --determinism_runs"));
  EXPECT_THAT(unknown.text, Not(HasSubstr("RUN")));
  EXPECT_EQ(Subject("--determinism_runs=0").code, 2);
  EXPECT_EQ(Subject("", "DETERMINISM_SEED=x").code, 2);
  const Outcome foreign = Subject("--gtest_determinism_runs=3");
  EXPECT_EQ(foreign.code, 2) << "gtest alone exits with 0";
  EXPECT_THAT(foreign.text, HasSubstr("error: unknown argument --gtest_determinism_runs=3"));
  EXPECT_EQ(Subject("stray").code, 2);
}

TEST(Program, HelpListsTheFlags) {
  const Outcome outcome = Subject("--help");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_THAT(outcome.text, AllOf(HasSubstr("--gtest_filter"), HasSubstr("--determinism_rate_below=P")));
}

TEST(Program, NoTestSelectedIsAFailure) {
  const Outcome outcome = Subject("--gtest_filter=Nothing.*");
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.text, HasSubstr("error: no test was selected: --gtest_filter=Nothing.* matches none"));
  EXPECT_EQ(Subject("--gtest_filter=Subject.DISABLED_Never").code, 1);
  EXPECT_EQ(Subject("--gtest_filter=Subject.Passes", "GTEST_TOTAL_SHARDS=9 GTEST_SHARD_INDEX=8").code, 0)
      << "an empty shard is no failure";
  EXPECT_EQ(Subject("--gtest_list_tests --gtest_filter=Nothing.*").code, 0);
}

TEST(Program, ListingPrintsTestsAlone) {
  EXPECT_THAT(Subject("--gtest_list_tests").text, testing::StartsWith("Subject.\n  Passes\n"));
}

TEST(Program, SkipsAreSkips) {
  for (const char* test : {"Subject.SkipsInTheCallable", "Subject.SkipsByException", "SkippedFixture.BodyIsNotRun"}) {
    const Outcome outcome = Subject(std::string("--gtest_filter=") + test);
    EXPECT_EQ(outcome.code, 0) << outcome.text;
    EXPECT_THAT(outcome.text, HasSubstr(std::string("[  SKIPPED ] ") + test));
    EXPECT_THAT(outcome.text, Not(HasSubstr("BITEXACT")));
    EXPECT_THAT(outcome.text, Not(HasSubstr("must not run")));
  }
}

TEST(Program, SilenceIsNotSuccess) {
  const Outcome fatal = Subject("--gtest_filter=Subject.FailsFatallyInTheCallable");
  EXPECT_EQ(fatal.code, 1);
  EXPECT_THAT(fatal.text, HasSubstr("error: run 0: a fatal failure was recorded in the callable"));
  const Outcome thrown = Subject("--gtest_filter=Subject.Throws");
  EXPECT_EQ(thrown.code, 1);
  EXPECT_THAT(thrown.text, HasSubstr("Actual: error: run 0 threw: boom"));
  const Outcome empty = Subject("--gtest_filter=Subject.ComparesNothing");
  EXPECT_EQ(empty.code, 1);
  EXPECT_THAT(empty.text, HasSubstr("Actual: inconclusive: the callable produced no elements"));
}

TEST(Program, PropertiesReachTheJsonOfGtest) {
  const std::string path = testing::TempDir() + "determinism_program_test." + std::to_string(getpid()) + ".json";
  const Outcome outcome = Subject("--gtest_filter=Subject.Fails --gtest_output=json:" + path);
  EXPECT_EQ(outcome.code, 1);
  std::ostringstream json;
  json << std::ifstream(path).rdbuf();
  std::remove(path.c_str());
  EXPECT_THAT(json.str(),
              AllOf(HasSubstr("\"determinism_outcome\": \"nondeterministic\""),
                    HasSubstr("\"determinism_first_run\": \"3\""), HasSubstr("\"determinism_deviations\": \"1\"")));
}

}  // namespace
}  // namespace gtest_determinism
