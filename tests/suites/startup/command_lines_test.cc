// Every program says in one line what it cannot read, and ends with 2.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "tests/suites/int4/program.h"

namespace suites {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

std::vector<std::filesystem::path> Programs() {
  std::vector<std::filesystem::path> programs;
  std::istringstream list(PROGRAMS);
  for (std::string file; std::getline(list, file, ':');) programs.emplace_back(file);
  return programs;
}

TEST(CommandLines, AnUnknownFlagIsOneLineThatNamesIt) {
  ASSERT_GE(Programs().size(), 6u);
  for (const std::filesystem::path& program : Programs()) {
    const ProgramResult result = RunProgram(program, {"--bogus"});
    EXPECT_EQ(result.exit_code, 2) << program;
    EXPECT_EQ(result.out, "") << program;
    EXPECT_THAT(result.err, MatchesRegex(program.filename().string() + ": [^\n]*--bogus[^\n]*; see --help\n"));
  }
}

TEST(CommandLines, HelpNamesTheProgram) {
  for (const std::filesystem::path& program : Programs()) {
    const ProgramResult result = RunProgram(program, {"--help"});
    EXPECT_EQ(result.exit_code, 0) << program;
    EXPECT_THAT(result.out, HasSubstr("Usage: " + program.filename().string() + " "));
    EXPECT_EQ(result.err, "") << program;
  }
}

}  // namespace
}  // namespace suites
