// A program with gtest's own main(): the library reads its environment alone.
#include <gtest/gtest.h>

#include "gtest_determinism/determinism.h"

TEST(OwnMain, Fails) {
  int calls = 0;
  EXPECT_DETERMINISTIC([&] { return ++calls; });
}
