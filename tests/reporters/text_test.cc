#include "reporters/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <stdexcept>

namespace reporters {
namespace {

TEST(Numbers, AsPeopleReadThem) {
  EXPECT_EQ(FormatScientific(1.234e-5), "1.23e-05");
  EXPECT_EQ(FormatScientific(0.0), "0");
  EXPECT_EQ(FormatScientific(std::nullopt), "-");
  EXPECT_EQ(FormatPercent(0.1459), "14.6 %");
  EXPECT_EQ(FormatPercent(0.00012), "0.012 %");
  EXPECT_EQ(FormatPercent(0), "0.0 %");
  EXPECT_EQ(FormatSeconds(0.1519), "0.152 s");
  EXPECT_EQ(FormatSeconds(12.44), "12.4 s");
  EXPECT_EQ(FormatSeconds(185), "3 min 5 s");
  EXPECT_EQ(FormatSeconds(-1), "-");
}

// Unicode 15, section 3.9, tables 3-8 to 3-11.
TEST(ValidUtf8, ReplacesEachMaximalIllFormedPart) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(ValidUtf8("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"), "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
  EXPECT_EQ(ValidUtf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
                      "A"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(ValidUtf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF"
                      "A"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(ValidUtf8("\xF4\x91\x92\x93\xFF"
                      "A\x80\xBF"
                      "B"),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(ValidUtf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
                      "A"),
            r + r + r + r + "A");
  EXPECT_EQ(ValidUtf8("\xC3"), r);
}

TEST(OneLine, HoldsNothingThatATerminalWouldObey) {
  EXPECT_EQ(OneLine("a\nb\tc\x1b[31md\x7f\xC2\x9B"
                    "e"),
            "a b c?[31md??e");
  EXPECT_EQ(OneLine("caf\xC3\xA9 \xC2\xA0"), "caf\xC3\xA9 \xC2\xA0");
}

TEST(Elide, CutsBetweenCodePoints) {
  EXPECT_EQ(Elide("caf\xC3\xA9", 4), "caf\xC3\xA9");
  EXPECT_EQ(Elide("caf\xC3\xA9s", 5), "caf\xC3\xA9s");
  EXPECT_EQ(Elide("caf\xC3\xA9s", 4), "caf\xE2\x80\xA6");
  EXPECT_EQ(Elide("\xC3\xA9\xC3\xA9\xC3\xA9", 2), "\xC3\xA9\xE2\x80\xA6");
  EXPECT_EQ(Elide("ab", 0), "");
}

TEST(Table, PadsByColumnsAndLeavesNoTrailingSpace) {
  Table table({"name", "n"}, {Table::Align::kLeft, Table::Align::kRight});
  table.AddRow({{"caf\xC3\xA9"}, {"7"}}, {"below"});
  table.AddRow({{"a"}, {"1234"}});
  table.AddRow({{"only"}});
  std::ostringstream out;
  table.Write(out, {});
  EXPECT_EQ(out.str(), "name     n\ncaf\xC3\xA9     7\n  below\na     1234\nonly\n");
  EXPECT_EQ(table.Width(), 10u);
  EXPECT_THROW(table.AddRow({{"a"}, {"b"}, {"c"}}), std::invalid_argument);
}

TEST(Console, ColorOnlyWhereItIsWanted) {
  EXPECT_EQ(Paint("x", Color::kRed, {true, true}), "\x1b[31mx\x1b[0m");
  EXPECT_EQ(Paint("x", Color::kRed, {true, false}), "x");
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_FALSE(DetectConsole(ends[1]).terminal);
  EXPECT_FALSE(DetectConsole(ends[1]).color);
  close(ends[0]);
  close(ends[1]);
}

TEST(Console, NoColorIsHonouredOnATerminal) {
  const int terminal = posix_openpt(2);
  ASSERT_GE(terminal, 0);
  setenv("TERM", "xterm", 1);
  unsetenv("NO_COLOR");
  EXPECT_TRUE(DetectConsole(terminal).terminal);
  EXPECT_TRUE(DetectConsole(terminal).color);
  setenv("NO_COLOR", "1", 1);
  EXPECT_TRUE(DetectConsole(terminal).terminal);
  EXPECT_FALSE(DetectConsole(terminal).color);
  unsetenv("NO_COLOR");
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(DetectConsole(terminal).terminal);
  close(terminal);
}

}  // namespace
}  // namespace reporters
