#include "reporters/console.h"

#include <ostream>
#include <utility>

namespace reporters {
namespace {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

ConsoleProgress::~ConsoleProgress() { Clear(); }

void ConsoleProgress::Start(const std::string& name, int index, int count) {
  Clear();
  std::string prefix = "[";
  prefix.append(std::to_string(index)).append("/").append(std::to_string(count));
  prefix.append("] ").append(OneLine(name)).append(": ");
  prefix_ = std::move(prefix);
  started_ = std::chrono::steady_clock::now();
  drawn_ = {};
  open_ = true;
  if (style_.terminal) {
    Update("loading", 0, 0);
  } else {
    out_ << prefix_ << "started" << std::endl;
  }
}

void ConsoleProgress::Update(const std::string& phase, int done, int of) {
  if (!style_.terminal) return;
  if (line_ && done != of && std::chrono::steady_clock::now() - drawn_ < std::chrono::milliseconds(100)) return;
  drawn_ = std::chrono::steady_clock::now();
  std::string text = prefix_ + OneLine(phase);
  if (of > 0) text.append(" ").append(std::to_string(done)).append("/").append(std::to_string(of));
  if (open_) text.append(", ").append(FormatSeconds(SecondsSince(started_)));
  // A line that wraps could not be erased by "\r"; 79 columns fit any terminal.
  out_ << "\r\x1b[K" << Elide(text, 79) << std::flush;
  line_ = true;
}

void ConsoleProgress::Finish(const std::string& result, Color color) {
  if (!open_) return;
  Clear();
  out_ << prefix_ << Paint(OneLine(result), color, style_) << ", " << FormatSeconds(SecondsSince(started_))
       << std::endl;
  open_ = false;
}

void ConsoleProgress::Clear() {
  if (line_) out_ << "\r\x1b[K" << std::flush;
  line_ = false;
}

}  // namespace reporters
