// What ctest learns of a program whose tests are one entry: a failure counts
// beside skips, a skip beside passes, and nothing is not a pass.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <string>

namespace {

int ExitCode(const std::string& filter) {
  const int status =
      std::system((std::string(ONE_ENTRY_SUBJECT " --gtest_filter=") + filter + " > /dev/null 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(OneEntry, PassesFailsOrIsSkippedAsAWhole) {
  EXPECT_EQ(ExitCode("Subject.Passes"), 0);
  EXPECT_EQ(ExitCode("Subject.Skips"), ONE_ENTRY_SKIPPED);
  EXPECT_EQ(ExitCode("Subject.Passes:Subject.Skips"), ONE_ENTRY_SKIPPED);
  EXPECT_EQ(ExitCode("Subject.Fails"), 1);
  EXPECT_EQ(ExitCode("Subject.*"), 1);
  EXPECT_EQ(ExitCode("Subject.Nosuch"), 1);
}

}  // namespace
