#include "suites/startup/arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace suites {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

struct Outcome {
  std::optional<int> exit_code;
  std::string out, err;
  int number = 0;
};

Outcome Parse(const std::vector<std::string>& arguments) {
  Outcome outcome;
  CLI::App app("What it is for", "some_program");
  std::string file;
  app.add_option("--number", outcome.number, "A number")->check(CLI::Range(0, 9));
  app.add_option("--file", file, "A file")->required();
  app.add_subcommand("part", "A part");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  outcome.exit_code = ParseArguments(app, arguments);
  outcome.out = testing::internal::GetCapturedStdout();
  outcome.err = testing::internal::GetCapturedStderr();
  return outcome;
}

TEST(ParseArguments, ReadsInTheGivenOrder) {
  const Outcome outcome = Parse({"--file", "a", "--number", "3"});
  EXPECT_EQ(outcome.exit_code, std::nullopt);
  EXPECT_EQ(outcome.number, 3);
  EXPECT_EQ(outcome.out + outcome.err, "");
}

TEST(ParseArguments, HelpIsNoMistake) {
  const Outcome outcome = Parse({"--help"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("What it is for"));
  EXPECT_EQ(outcome.err, "");
}

TEST(ParseArguments, AMistakeIsOneLineAndExitCodeTwo) {
  using Arguments = std::vector<std::string>;
  for (const auto& [arguments, named] :
       std::vector<std::pair<Arguments, std::string>>{{{}, "--file is required"},
                                                      {{"--bogus"}, "unknown argument --bogus"},
                                                      {{"part", "--bogus"}, "unknown argument --bogus"},
                                                      {{"--file", "a", "--bogus"}, "--bogus"},
                                                      {{"--file", "a", "--number", "ten"}, "ten"},
                                                      {{"--file", "a", "--number", "10"}, "10"},
                                                      {{"--file"}, "--file"},
                                                      {{"--file", "a", "--number", "1\n2"}, "--number"}}) {
    const Outcome outcome = Parse(arguments);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_THAT(outcome.err, HasSubstr(named));
    EXPECT_THAT(outcome.err, MatchesRegex("some_program: [^\n]*; see --help\n"));
    EXPECT_EQ(outcome.out, "");
  }
}

}  // namespace
}  // namespace suites
