#include "suites/checkpoint/progress_line.h"

#include <unistd.h>

#include <utility>

namespace suites {

ProgressLine::ProgressLine(std::string label, std::FILE* stream, bool terminal)
    : label_(std::move(label)), stream_(stream), terminal_(terminal) {}

ProgressLine::ProgressLine(std::string label) : ProgressLine(std::move(label), stderr, isatty(STDERR_FILENO) != 0) {}

ProgressLine::~ProgressLine() {
  if (!shown_) return;
  std::fputs("\r\033[K", stream_);
  std::fflush(stream_);
}

void ProgressLine::Show(std::uint64_t bytes_done, std::uint64_t bytes_total) {
  if (!terminal_) return;
  const Clock::time_point now = Clock::now();
  if (shown_ && bytes_done < bytes_total && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  shown_ = true;
  const double done = static_cast<double>(bytes_done) / 1e9, total = static_cast<double>(bytes_total) / 1e9;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  std::fprintf(stream_, "\r\033[K%s: %.2f of %.2f GB, %.0f %%", label_.c_str(), done, total,
               total > 0 ? 100 * done / total : 100);
  if (bytes_done > 0 && seconds > 0) std::fprintf(stream_, ", %.2f GB/s", done / seconds);
  std::fflush(stream_);
}

}  // namespace suites
