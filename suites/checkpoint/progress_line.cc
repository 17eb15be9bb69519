#include "suites/checkpoint/progress_line.h"

#include <unistd.h>

#include <utility>

namespace suites {

std::string ProgressText(std::uint64_t bytes_done, std::uint64_t bytes_total, double seconds) {
  const double done = static_cast<double>(bytes_done) / 1e9, total = static_cast<double>(bytes_total) / 1e9;
  char text[96];
  std::snprintf(text, sizeof text, "%.2f of %.2f GB, %.0f %%", done, total, total > 0 ? 100 * done / total : 100);
  std::string line = text;
  if (bytes_done > 0 && seconds > 0) {
    std::snprintf(text, sizeof text, ", %.2f GB/s", done / seconds);
    line += text;
  }
  return line;
}

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
  const double seconds = std::chrono::duration<double>(now - start_).count();
  std::fprintf(stream_, "\r\033[K%s: %s", label_.c_str(), ProgressText(bytes_done, bytes_total, seconds).c_str());
  std::fflush(stream_);
}

}  // namespace suites
