// The progress of a load as one line on a terminal.
#ifndef SUITES_CHECKPOINT_PROGRESS_LINE_H_
#define SUITES_CHECKPOINT_PROGRESS_LINE_H_

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace suites {

// "1.25 of 5.60 GB, 22 %, 0.84 GB/s"; without the rate where no time has passed.
std::string ProgressText(std::uint64_t bytes_done, std::uint64_t bytes_total, double seconds);

// "awq: 1.25 of 5.60 GB, 22 %, 0.84 GB/s", at most ten times a second, over itself;
// taken away again when the object goes. Writes nothing where the stream is not a
// terminal.
class ProgressLine {
 public:
  // `label` stands before it. `terminal`: whether `stream` is one.
  ProgressLine(std::string label, std::FILE* stream, bool terminal);
  explicit ProgressLine(std::string label);  // stderr
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // As LoadProgress calls it; from one thread at a time.
  void Show(std::uint64_t bytes_done, std::uint64_t bytes_total);

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_;
  std::FILE* stream_;
  bool terminal_;
  bool shown_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_;
};

}  // namespace suites

#endif  // SUITES_CHECKPOINT_PROGRESS_LINE_H_
