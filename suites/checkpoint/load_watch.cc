#include "suites/checkpoint/load_watch.h"

#include <utility>

namespace suites {

void LoadWatch::SetProgress(LoadProgress progress, std::uint64_t total) {
  const std::lock_guard lock(mutex_);
  progress_ = std::move(progress);
  total_ = total;
  done_ = 0;
  counted_.clear();
}

void LoadWatch::HandedOut(const std::string& name, std::span<const at::Tensor> tensors) {
  LoadProgress progress;
  std::uint64_t done = 0, total = 0;
  {
    const std::lock_guard lock(mutex_);
    std::uint64_t bytes = 0;
    for (const at::Tensor& tensor : tensors) {
      if (!tensor.defined() || tensor.nbytes() == 0) continue;
      bytes += tensor.nbytes();
      if (auto place = MappedFile::Find(tensor.const_data_ptr(), tensor.nbytes())) {
        resident_.push_back({std::move(*place), tensor.nbytes()});
        resident_bytes_ += tensor.nbytes();
      }
    }
    // What is handed out now is not yet read, whatever its size.
    const std::uint64_t newest = bytes;
    while (resident_.size() > tensors.size() && resident_bytes_ > keep_ + newest) {
      const Range& oldest = resident_.front();
      oldest.place.file->Release(oldest.place.offset, oldest.bytes);
      resident_bytes_ -= oldest.bytes;
      resident_.pop_front();
    }
    if (progress_) {
      progress = progress_;
      done = done_;
      total = total_;
      if (counted_.insert(name).second) done_ += bytes;
    }
  }
  if (progress) progress(done, total);
}

}  // namespace suites
