#include "suites/startup/arguments.h"

#include <algorithm>
#include <iostream>

namespace suites {

std::optional<int> ParseArguments(CLI::App& app, const std::vector<std::string>& arguments) {
  std::string problem;
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    return std::nullopt;
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::RequiredError& error) {
    const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
    problem = unknown.empty() ? error.what() : "unknown argument " + unknown.front();
  } catch (const CLI::ParseError& error) {
    problem = error.what();
  }
  std::replace(problem.begin(), problem.end(), '\n', ' ');
  std::cerr << app.get_name() << ": " << problem << "; see --help\n";
  return 2;
}

}  // namespace suites
