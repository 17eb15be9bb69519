// Tests for one_entry_test.cc to choose from.
#include <gtest/gtest.h>

TEST(Subject, Passes) {}
TEST(Subject, Fails) { FAIL(); }
TEST(Subject, Skips) { GTEST_SKIP(); }
