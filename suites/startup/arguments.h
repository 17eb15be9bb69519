#ifndef SUITES_STARTUP_ARGUMENTS_H_
#define SUITES_STARTUP_ARGUMENTS_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

namespace suites {

// Reads a program's arguments, argv[0] left out, into what `app`, which has the
// program's name, was told of. Returns the exit code where the program is to
// end: 0 after --help on std::cout; 2 after one line on std::cerr. Of several
// mistakes it names an unknown argument before a missing one: a typing mistake
// is both.
std::optional<int> ParseArguments(CLI::App& app, const std::vector<std::string>& arguments);

}  // namespace suites

#endif  // SUITES_STARTUP_ARGUMENTS_H_
