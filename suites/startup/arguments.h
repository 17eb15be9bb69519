#ifndef SUITES_STARTUP_ARGUMENTS_H_
#define SUITES_STARTUP_ARGUMENTS_H_

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace suites {

// Reads a program's arguments, argv[0] left out, into what `app`, which has the
// program's name, was told of. Returns the exit code where the program is to
// end: 0 after --help on std::cout; 2 after one line on std::cerr. Of several
// mistakes it names an unknown argument before a missing one: a typing mistake
// is both.
std::optional<int> ParseArguments(CLI::App& app, const std::vector<std::string>& arguments);

// A value that cannot be used, found out after ParseArguments(): "--layers 40: the
// model has 36".
class UsageError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

// What main() returns: that of `run`, which calls ParseArguments(), and after an
// exception 1, or 2 for a UsageError, with the first line of its text on std::cerr.
int RunMain(const char* name, const std::function<int()>& run);

// "cpu", "cuda" or "cuda:N"; whether there is such a device shows later.
bool IsDeviceName(const std::string& device);

// Checks for CLI::Option::check(): IsDeviceName(), and what `read` takes without a
// std::exception, whose text is the message.
CLI::Validator DeviceName();
CLI::Validator ReadBy(std::function<void(const std::string&)> read);

}  // namespace suites

#endif  // SUITES_STARTUP_ARGUMENTS_H_
