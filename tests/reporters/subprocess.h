#ifndef TESTS_REPORTERS_SUBPROCESS_H_
#define TESTS_REPORTERS_SUBPROCESS_H_

#include <sys/wait.h>

#include <cstdio>
#include <string>

namespace reporters {

struct Finished {
  int exit_code = -1;  // 128 + signal where one ended it
  std::string output;  // stdout and stderr
};

// Runs `command` with the shell.
inline Finished RunCommand(const std::string& command) {
  Finished finished;
  FILE* pipe = popen(("(" + command + ") 2>&1").c_str(), "r");
  char buffer[4096];
  for (std::size_t n; (n = fread(buffer, 1, sizeof(buffer), pipe)) > 0;) finished.output.append(buffer, n);
  const int status = pclose(pipe);
  finished.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return finished;
}

}  // namespace reporters

#endif  // TESTS_REPORTERS_SUBPROCESS_H_
