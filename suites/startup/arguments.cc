#include "suites/startup/arguments.h"

#include <algorithm>
#include <exception>
#include <iostream>
#include <string_view>
#include <utility>

namespace suites {
namespace {

int Refuse(const std::string& program, std::string problem) {
  std::replace(problem.begin(), problem.end(), '\n', ' ');
  std::cerr << program << ": " << problem << "; see --help\n";
  return 2;
}

}  // namespace

std::optional<int> ParseArguments(CLI::App& app, const std::vector<std::string>& arguments) {
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    return std::nullopt;
  } catch (const CLI::Success& success) {
    return app.exit(success);
  } catch (const CLI::RequiredError& error) {
    const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
    return Refuse(app.get_name(), unknown.empty() ? error.what() : "unknown argument " + unknown.front());
  } catch (const CLI::ParseError& error) {
    return Refuse(app.get_name(), error.what());
  }
}

int RunMain(const char* name, const std::function<int()>& run) {
  try {
    return run();
  } catch (const UsageError& error) {
    return Refuse(name, error.what());
  } catch (const std::bad_alloc&) {
    std::cerr << name << ": out of memory\n";
  } catch (const std::exception& error) {
    const std::string_view text = error.what();
    std::cerr << name << ": " << text.substr(0, text.find('\n')) << "\n";
  }
  return 1;
}

bool IsDeviceName(const std::string& device) {
  if (device == "cpu" || device == "cuda") return true;
  constexpr std::string_view kPrefix = "cuda:";
  return device.starts_with(kPrefix) && device.size() > kPrefix.size() && device.size() <= kPrefix.size() + 6 &&
         device.find_first_not_of("0123456789", kPrefix.size()) == std::string::npos;
}

CLI::Validator DeviceName() {
  return {[](std::string& device) {
            return IsDeviceName(device) ? std::string() : device + " is none of cpu, cuda and cuda:N";
          },
          "", "device"};
}

CLI::Validator ReadBy(std::function<void(const std::string&)> read) {
  return {[read = std::move(read)](std::string& value) {
            try {
              read(value);
              return std::string();
            } catch (const std::exception& error) {
              return std::string(error.what());
            }
          },
          "", "value"};
}

}  // namespace suites
