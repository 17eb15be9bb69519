#include "tests/suites/int4/program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>

namespace suites {
namespace {

std::string TemporaryFile() {
  std::string pattern = testing::TempDir() + "/program_XXXXXX";
  close(mkstemp(pattern.data()));
  return pattern;
}

std::string TakeFile(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  unlink(file.c_str());
  return text;
}

}  // namespace

Program::Program(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                 const ProgramOptions& options)
    : out_file_(TemporaryFile()), err_file_(TemporaryFile()) {
  std::vector<std::string> words = {program.string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ != 0) return;
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, STDIN_FILENO);
  dup2(open(out_file_.c_str(), O_WRONLY), STDOUT_FILENO);
  dup2(open(err_file_.c_str(), O_WRONLY), STDERR_FILENO);
  // A person's environment, not that of the test runner.
  for (const char* name : {"GTEST_TOTAL_SHARDS", "GTEST_SHARD_INDEX", "GTEST_SHARD_STATUS_FILE", "GTEST_OUTPUT"})
    unsetenv(name);
  for (const auto& [name, value] : options.environment) setenv(name.c_str(), value.c_str(), 1);
  if (options.file_size_limit) {
    const rlimit limit = {*options.file_size_limit, *options.file_size_limit};
    setrlimit(RLIMIT_FSIZE, &limit);
    signal(SIGXFSZ, SIG_IGN);  // inherited: write() then fails with EFBIG
  }
  execv(argv[0], argv.data());
  _exit(127);
}

Program::~Program() {
  if (pid_ > 0) {
    Kill();
    Wait();
  }
}

void Program::Kill() { kill(pid_, SIGKILL); }

bool Program::Running() {
  if (pid_ <= 0) return false;
  if (waitpid(pid_, &status_, WNOHANG) == 0) return true;
  pid_ = -1;
  return false;
}

ProgramResult Program::Wait() {
  if (pid_ > 0) waitpid(pid_, &status_, 0);
  pid_ = -1;
  ProgramResult result;
  result.exit_code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  result.out = TakeFile(out_file_);
  result.err = TakeFile(err_file_);
  return result;
}

ProgramResult RunProgram(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                         const ProgramOptions& options) {
  return Program(program, arguments, options).Wait();
}

}  // namespace suites
