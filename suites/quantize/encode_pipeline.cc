#include "suites/quantize/encode_pipeline.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace suites::quantize {

EncodePipeline::EncodePipeline(std::vector<EncodePart> parts, int threads, std::uint64_t memory)
    : slots_(parts.size()), memory_(memory) {
  for (std::size_t i = 0; i < parts.size(); ++i) slots_[i].part = std::move(parts[i]);
  if (threads <= 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  try {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
  } catch (...) {
    // As many as the system gives; without one there is nothing to do it.
    if (threads_.empty()) throw;
  }
}

EncodePipeline::~EncodePipeline() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool EncodePipeline::HasTask() {
  while (current_ < slots_.size()) {
    Slot& slot = slots_[current_];
    if (!slot.begun) {
      if (in_use_ > 0 && in_use_ + slot.part.bytes > memory_) return false;
      slot.encoding = slot.part.begin();
      slot.tasks = slot.encoding->tasks();
      slot.begun = true;
      in_use_ += slot.part.bytes;
      if (slot.tasks == 0) done_.notify_one();
    }
    if (slot.started < slot.tasks) return true;
    ++current_;
  }
  return false;
}

void EncodePipeline::Fail() {
  if (!failure_) failure_ = std::current_exception();
  stop_ = true;
  work_.notify_all();
  done_.notify_all();
}

void EncodePipeline::Work() {
  std::unique_lock lock(mutex_);
  try {
    for (;;) {
      work_.wait(lock, [this] { return stop_ || HasTask() || current_ == slots_.size(); });
      if (stop_ || current_ == slots_.size()) return;
      Slot& slot = slots_[current_];
      const std::int64_t task = slot.started++;
      // A part that this begins may let another thread go on.
      if (slot.started == slot.tasks) work_.notify_all();
      lock.unlock();
      try {
        slot.encoding->Run(task);
      } catch (...) {
        lock.lock();
        throw;
      }
      lock.lock();
      if (++slot.finished == slot.tasks) done_.notify_one();
    }
  } catch (...) {
    Fail();
  }
}

std::span<const Bytes> EncodePipeline::Next() {
  std::vector<Bytes> old;  // freed after the lock
  std::unique_lock lock(mutex_);
  if (taken_ == slots_.size()) throw std::logic_error("EncodePipeline: no part is left");
  if (taken_ > 0) {
    old = std::move(result_);
    in_use_ -= slots_[taken_ - 1].part.bytes;
    work_.notify_all();
  }
  Slot& slot = slots_[taken_];
  done_.wait(lock, [&] { return failure_ || slot.done(); });
  if (failure_) std::rethrow_exception(failure_);
  ++taken_;
  result_ = slot.encoding->Take();
  slot.encoding.reset();
  return result_;
}

}  // namespace suites::quantize
