// What program_test.cc runs, a filter at a time.
#include <gtest/gtest.h>

#include <stdexcept>

#include "gtest_determinism/determinism.h"

namespace gtest_determinism {
namespace {

TEST(Subject, Passes) {
  EXPECT_DETERMINISTIC([] { return 1.0f; });
}

TEST(Subject, Fails) {
  int calls = 0;
  EXPECT_DETERMINISTIC([&] { return ++calls == 4 ? 2.0f : 1.0f; });
}

TEST(Subject, SkipsInTheCallable) {
  EXPECT_DETERMINISTIC([](Outputs&) { GTEST_SKIP() << "no device of that kind"; });
}

TEST(Subject, SkipsByException) {
  EXPECT_DETERMINISTIC([]() -> int { throw SkipRuns("no device of that kind"); });
}

TEST(Subject, FailsFatallyInTheCallable) {
  EXPECT_DETERMINISTIC([](Outputs& out) {
    out.Buffer<int>("y", {1})[0] = 1;
    ASSERT_EQ(1, 2) << "inside";
  });
}

TEST(Subject, Throws) {
  EXPECT_DETERMINISTIC([]() -> int { throw std::runtime_error("boom"); });
}

TEST(Subject, ComparesNothing) {
  EXPECT_DETERMINISTIC([] { return std::vector<float>(); });
}

TEST(Subject, DISABLED_Never) { FAIL(); }

class SkippedFixture : public testing::Test {
 protected:
  void SetUp() override { GTEST_SKIP() << "skipped in SetUp"; }
};

TEST_F(SkippedFixture, BodyIsNotRun) {
  EXPECT_DETERMINISTIC([]() -> int { throw std::runtime_error("must not run"); });
}

}  // namespace
}  // namespace gtest_determinism
