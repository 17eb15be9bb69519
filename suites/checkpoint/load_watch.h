// Follows a loader through a checkpoint: how far it is, and which mapped pages it
// will hardly read again.
#ifndef SUITES_CHECKPOINT_LOAD_WATCH_H_
#define SUITES_CHECKPOINT_LOAD_WATCH_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <set>
#include <span>
#include <string>

#include "suites/checkpoint/checkpoint.h"
#include "suites/checkpoint/mapped_file.h"

namespace suites {

class LoadWatch {
 public:
  // `keep`: bytes handed out last that stay in resident memory.
  explicit LoadWatch(std::uint64_t keep = std::uint64_t{256} << 20) : keep_(keep) {}
  void SetProgress(LoadProgress progress, std::uint64_t total);
  // The loader was given these tensors, views of mapped files or copies, under
  // `name`. From any thread.
  void HandedOut(const std::string& name, std::span<const at::Tensor> tensors);

 private:
  struct Range {
    MappedFile::Place place;
    std::uint64_t bytes = 0;
  };

  const std::uint64_t keep_;
  std::mutex mutex_;
  LoadProgress progress_;
  std::uint64_t done_ = 0, total_ = 0;
  std::set<std::string> counted_;
  std::deque<Range> resident_;  // in the order in which they were handed out
  std::uint64_t resident_bytes_ = 0;
};

}  // namespace suites

#endif  // SUITES_CHECKPOINT_LOAD_WATCH_H_
