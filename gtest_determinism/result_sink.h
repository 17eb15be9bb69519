// Where assertions publish their Reports, and reporters find them.
#ifndef GTEST_DETERMINISM_RESULT_SINK_H_
#define GTEST_DETERMINISM_RESULT_SINK_H_

#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest_determinism/report.h"

namespace gtest_determinism {

struct PublishedReport {
  std::string test_suite;  // "" outside a test
  std::string test;        // "IsReproducible/awq_marlin"
  std::string assertion;   // "EXPECT_DETERMINISTIC"; "" for Record()
  std::string expression;  // source text of the callable, or the name given to Record()
  std::string file;
  int line = 0;
  int index = 0;               // of the Reports of this run of the test, from 0
  std::optional<bool> passed;  // nothing: no assertion was made here
  Report report;
};

// All Reports of this process, in order; with --gtest_repeat those of each
// iteration. Thread-safe.
class ResultSink {
 public:
  static ResultSink& Instance();

  using Subscriber = std::function<void(const PublishedReport&)>;
  // Called for each Report from now on, on the thread of the assertion. A
  // subscriber may not publish, subscribe or unsubscribe.
  int Subscribe(Subscriber subscriber);
  void Unsubscribe(int id);

  void Publish(PublishedReport published);
  std::vector<PublishedReport> All() const;
  void Clear();

 private:
  mutable std::mutex mutex_;
  int next_id_ = 0;
  std::vector<std::pair<int, Subscriber>> subscribers_;
  std::vector<PublishedReport> all_;
};

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_RESULT_SINK_H_
