#include "gtest_determinism/result_sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "gtest_determinism/assertions.h"

namespace gtest_determinism {
namespace {

using testing::ElementsAre;

class Subscription {
 public:
  Subscription() {
    id_ = ResultSink::Instance().Subscribe([this](const PublishedReport& published) { seen.push_back(published); });
  }
  ~Subscription() { ResultSink::Instance().Unsubscribe(id_); }
  std::vector<PublishedReport> seen;

 private:
  int id_;
};

std::vector<std::string> Properties() {
  const testing::TestResult& result = *testing::UnitTest::GetInstance()->current_test_info()->result();
  std::vector<std::string> properties;
  for (int i = 0; i < result.test_property_count(); ++i) {
    properties.push_back(std::string(result.GetTestProperty(i).key()) + "=" + result.GetTestProperty(i).value());
  }
  return properties;
}

TEST(ResultSinkTest, AssertionsPublishWhatWhereAndHow) {
  Subscription subscription;
  const int line = __LINE__ + 1;
  EXPECT_DETERMINISTIC_WITH((Options{.runs = 4}), [] { return 1; });
  Record("by hand", RunRepeated([] { return 2; }, {.runs = 3}));
  ASSERT_EQ(subscription.seen.size(), 2u);
  const PublishedReport& first = subscription.seen[0];
  EXPECT_EQ(first.test_suite, "ResultSinkTest");
  EXPECT_EQ(first.test, "AssertionsPublishWhatWhereAndHow");
  EXPECT_EQ(first.assertion, "EXPECT_DETERMINISTIC_WITH");
  EXPECT_EQ(first.expression, "[] { return 1; }");
  EXPECT_EQ(first.file, __FILE__);
  EXPECT_EQ(first.line, line);
  EXPECT_EQ(first.index, 0);
  EXPECT_EQ(first.passed, true);
  EXPECT_EQ(first.report.runs, 4);
  EXPECT_EQ(subscription.seen[1].expression, "by hand");
  EXPECT_EQ(subscription.seen[1].line, line + 1);
  EXPECT_EQ(subscription.seen[1].index, 1);
  EXPECT_EQ(subscription.seen[1].passed, std::nullopt);
  EXPECT_EQ(ResultSink::Instance().All().back().expression, "by hand");
}

TEST(ResultSinkTest, PropertiesAreNumberedFromTheSecondOn) {
  EXPECT_DETERMINISTIC_WITH((Options{.runs = 4}), [] { return 1; });
  EXPECT_DETERMINISTIC_WITH((Options{.runs = 5}), [] { return 1; });
  EXPECT_THAT(Properties(),
              testing::IsSupersetOf({"determinism_runs=4", "determinism_outcome=bit_exact", "determinism_distinct=1",
                                     "determinism_2_runs=5", "determinism_2_upper_bound=0.527129"}));
}

TEST(ResultSinkTest, NobodyIsCalledAfterUnsubscribing) {
  std::vector<PublishedReport> seen;
  {
    Subscription subscription;
    Record("x", Report{});
    seen = subscription.seen;
  }
  Record("y", Report{});
  EXPECT_EQ(seen.size(), 1u);
}

}  // namespace
}  // namespace gtest_determinism
