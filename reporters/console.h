// What a person sees while variants run.
#ifndef REPORTERS_CONSOLE_H_
#define REPORTERS_CONSOLE_H_

#include <chrono>
#include <iosfwd>
#include <string>

#include "reporters/text.h"

namespace reporters {

// On a terminal one line that is drawn over itself; else (a file, a pipe,
// ctest) one plain line when a step begins and one when it ends. From one
// thread at a time.
class ConsoleProgress {
 public:
  ConsoleProgress(std::ostream& out, ConsoleStyle style) : out_(out), style_(style) {}
  ~ConsoleProgress();
  ConsoleProgress(const ConsoleProgress&) = delete;
  ConsoleProgress& operator=(const ConsoleProgress&) = delete;

  // "[2/6] awq: started"
  void Start(const std::string& name, int index, int count);
  // Terminal only: "[2/6] awq: baseline 7/20, 3.100 s", drawn at most ten times
  // a second. Without Start() before it the phase stands alone.
  void Update(const std::string& phase, int done, int of);
  // "[2/6] awq: bit_exact, 4.213 s"
  void Finish(const std::string& result, Color color = Color::kNone);

  // Takes the line away, before something else is printed.
  void Clear();

 private:
  std::ostream& out_;
  ConsoleStyle style_;
  std::string prefix_;
  std::chrono::steady_clock::time_point started_, drawn_;
  bool open_ = false;  // started and not finished
  bool line_ = false;  // something to erase
};

}  // namespace reporters

#endif  // REPORTERS_CONSOLE_H_
