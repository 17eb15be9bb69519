// main() of a test program that is one entry of ctest: see ONE_ENTRY in
// cmake/AddDeterminismTest.cmake. Exit code 0: tests passed, and none was skipped.
// kSkipped: some were, and none failed. 1: one failed, or there was none to run.
#include <gtest/gtest.h>

#include <cstdio>

namespace {
constexpr int kSkipped = ONE_ENTRY_SKIPPED;
}

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const bool lists = GTEST_FLAG_GET(list_tests);
  const int failed = RUN_ALL_TESTS();
  const testing::UnitTest& tests = *testing::UnitTest::GetInstance();
  if (failed != 0 || lists) return failed;
  if (tests.successful_test_count() == 0 && tests.skipped_test_count() == 0) {
    std::fprintf(stderr, "no test was run\n");
    return 1;
  }
  return tests.skipped_test_count() > 0 ? kSkipped : 0;
}
