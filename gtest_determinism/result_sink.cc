#include "gtest_determinism/result_sink.h"

namespace gtest_determinism {

ResultSink& ResultSink::Instance() {
  // Never destroyed: a listener may unsubscribe when statics are torn down.
  static auto* const sink = new ResultSink;
  return *sink;
}

int ResultSink::Subscribe(Subscriber subscriber) {
  const std::lock_guard lock(mutex_);
  subscribers_.emplace_back(next_id_, std::move(subscriber));
  return next_id_++;
}

void ResultSink::Unsubscribe(int id) {
  const std::lock_guard lock(mutex_);
  std::erase_if(subscribers_, [id](const auto& subscriber) { return subscriber.first == id; });
}

void ResultSink::Publish(PublishedReport published) {
  const std::lock_guard lock(mutex_);
  all_.push_back(std::move(published));
  for (const auto& [id, subscriber] : subscribers_) subscriber(all_.back());
}

std::vector<PublishedReport> ResultSink::All() const {
  const std::lock_guard lock(mutex_);
  return all_;
}

void ResultSink::Clear() {
  const std::lock_guard lock(mutex_);
  all_.clear();
}

}  // namespace gtest_determinism
