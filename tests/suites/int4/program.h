#ifndef TESTS_SUITES_INT4_PROGRAM_H_
#define TESTS_SUITES_INT4_PROGRAM_H_

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace suites {

struct ProgramResult {
  int exit_code = -1;  // 128 + n where signal n ended it
  std::string out, err;
};

struct ProgramOptions {
  std::vector<std::pair<std::string, std::string>> environment = {};  // set on top of this process's
  std::optional<std::size_t> file_size_limit = std::nullopt;  // bytes; a write beyond it fails as on a full disk
};

// A program of this build as a person would start it, with both outputs kept.
class Program {
 public:
  Program(const std::filesystem::path& program, const std::vector<std::string>& arguments,
          const ProgramOptions& options = {});
  ~Program();
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void Kill();  // SIGKILL
  bool Running();
  ProgramResult Wait();

 private:
  pid_t pid_ = -1;
  int status_ = -1;
  std::string out_file_, err_file_;
};

ProgramResult RunProgram(const std::filesystem::path& program, const std::vector<std::string>& arguments,
                         const ProgramOptions& options = {});

}  // namespace suites

#endif  // TESTS_SUITES_INT4_PROGRAM_H_
