// Encodes one part after the other on threads, ahead of whoever writes them.
#ifndef SUITES_QUANTIZE_ENCODE_PIPELINE_H_
#define SUITES_QUANTIZE_ENCODE_PIPELINE_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "suites/quantize/linear_formats.h"

namespace suites::quantize {

// What becomes one piece of the file: a linear layer, or rows of another tensor.
struct EncodePart {
  std::uint64_t bytes = 0;  // of what it becomes
  std::function<std::unique_ptr<Encoding>()> begin;
};

class EncodePipeline {
 public:
  // Starts `threads` threads (0: as many as there are cores). At most `memory`
  // bytes of encoded parts are there at a time, or one part where that is larger.
  EncodePipeline(std::vector<EncodePart> parts, int threads, std::uint64_t memory);
  // Stops, however much is left to do.
  ~EncodePipeline();
  EncodePipeline(const EncodePipeline&) = delete;
  EncodePipeline& operator=(const EncodePipeline&) = delete;

  // The bytes of the next part, in the order of `parts`; waits until they are
  // there. They are freed by the next call. Throws what a task threw, and
  // std::logic_error behind the last part.
  std::span<const Bytes> Next();

 private:
  struct Slot {
    EncodePart part;
    std::unique_ptr<Encoding> encoding;
    std::int64_t tasks = 0, started = 0, finished = 0;
    bool begun = false;
    bool done() const { return begun && finished == tasks; }
  };

  void Work();
  bool HasTask();  // with mutex_ held; may begin a part
  void Fail();     // keeps the first exception

  std::vector<Slot> slots_;
  const std::uint64_t memory_;
  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::size_t current_ = 0;    // the part whose tasks are handed out
  std::size_t taken_ = 0;      // parts that Next() has returned
  std::uint64_t in_use_ = 0;   // bytes of parts that are begun and not freed
  std::vector<Bytes> result_;  // what Next() returned last
  bool stop_ = false;
  std::exception_ptr failure_;
  std::vector<std::thread> threads_;
};

}  // namespace suites::quantize

#endif  // SUITES_QUANTIZE_ENCODE_PIPELINE_H_
