#include "gtest_determinism/configuration.h"

#include <errno.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <stdexcept>
#include <vector>

namespace gtest_determinism {
namespace {

// The prefix is never --gtest_: an unknown flag of that form makes gtest print
// its help and exit with 0.
constexpr std::string_view kFlagPrefix = "--determinism_";
constexpr std::string_view kVariablePrefix = "DETERMINISM_";

[[noreturn]] void Reject(const std::string& source, std::string_view value, std::string_view wanted) {
  throw std::invalid_argument(source + "=" + std::string(value) + ": expected " + std::string(wanted));
}

template <class T>
std::optional<T> Number(std::string_view text) {
  T value{};
  const std::from_chars_result end = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end.ec != std::errc() || end.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

bool Boolean(const std::string& source, std::string_view text) {
  if (text == "1" || text == "true" || text == "yes") return true;
  if (text == "0" || text == "false" || text == "no") return false;
  Reject(source, text, "true or false");
}

struct Setting {
  std::string_view name;  // as in --determinism_NAME
  bool boolean;           // may stand without a value
  void (*set)(Configuration&, const std::string& source, std::string_view value);
};

constexpr Setting kSettings[] = {
    {"runs", false,
     [](Configuration& c, const std::string& source, std::string_view value) {
       const auto n = Number<int>(value);
       if (!n || *n < 2) Reject(source, value, "a number of runs, at least 2");
       c.runs = *n;
     }},
    {"rate_below", false,
     [](Configuration& c, const std::string& source, std::string_view value) {
       const auto p = Number<double>(value);
       if (!p || !(*p > 0 && *p < 1)) Reject(source, value, "a rate between 0 and 1");
       c.rate_below = p;
     }},
    {"budget", false,
     [](Configuration& c, const std::string& source, std::string_view value) {
       const auto seconds = Number<double>(value);
       if (!seconds || !(*seconds > 0) || std::isinf(*seconds)) Reject(source, value, "seconds, more than 0");
       c.budget_seconds = seconds;
     }},
    {"seed", false,
     [](Configuration& c, const std::string& source, std::string_view value) {
       const auto n = Number<std::uint64_t>(value);
       if (!n) Reject(source, value, "a whole number from 0 to 2^64 - 1");
       c.seed = *n;
     }},
    {"perturb", true,
     [](Configuration& c, const std::string& source, std::string_view value) { c.perturb = Boolean(source, value); }},
    {"strict", true,
     [](Configuration& c, const std::string& source, std::string_view value) { c.strict = Boolean(source, value); }},
    {"quiet", true,
     [](Configuration& c, const std::string& source, std::string_view value) { c.quiet = Boolean(source, value); }},
};

std::string VariableOf(std::string_view name) {
  std::string variable(kVariablePrefix);
  for (const char c : name) variable += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return variable;
}

Configuration FromEnvironment() {
  Configuration configuration;
  for (const Setting& setting : kSettings) {
    const std::string variable = VariableOf(setting.name);
    // An empty value is what a shell leaves of an unset one.
    const char* value = std::getenv(variable.c_str());
    if (value != nullptr && *value != '\0') setting.set(configuration, variable, value);
  }
#if defined(__GLIBC__)
  configuration.program = program_invocation_name;
#endif
  return configuration;
}

void ApplyFlag(Configuration& configuration, std::string_view argument) {
  const std::string_view body = argument.substr(kFlagPrefix.size());
  const std::size_t equals = body.find('=');
  const std::string_view name = body.substr(0, equals);
  for (const Setting& setting : kSettings) {
    if (setting.name != name) continue;
    const std::string source(argument.substr(0, kFlagPrefix.size() + name.size()));
    if (equals != std::string_view::npos) {
      setting.set(configuration, source, body.substr(equals + 1));
    } else if (setting.boolean) {
      setting.set(configuration, source, "true");
    } else {
      throw std::invalid_argument(source + ": a value is missing, write " + source + "=VALUE");
    }
    return;
  }
  std::string known;
  for (const Setting& setting : kSettings) {
    known += (known.empty() ? "" : ", ") + std::string(kFlagPrefix) + std::string(setting.name);
  }
  throw std::invalid_argument("unknown flag " + std::string(argument) + "; known are " + known);
}

std::mutex configuration_mutex;
std::optional<Configuration>& Stored() {
  static auto* const stored = new std::optional<Configuration>;
  return *stored;
}

}  // namespace

const Configuration& GetConfiguration() {
  const std::lock_guard lock(configuration_mutex);
  if (!Stored()) Stored() = FromEnvironment();
  return *Stored();
}

void SetConfiguration(const Configuration& configuration) {
  const std::lock_guard lock(configuration_mutex);
  Stored() = configuration;
}

Configuration ParseConfiguration(int* argc, char** argv) {
  Configuration configuration = FromEnvironment();
  configuration.flags_parsed = true;
  if (*argc > 0) configuration.program = argv[0];
  int kept = *argc > 0 ? 1 : 0;
  bool looking = true;
  for (int i = 1; i < *argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--") looking = false;
    if (looking && argument.substr(0, kFlagPrefix.size()) == kFlagPrefix) {
      ApplyFlag(configuration, argument);
    } else {
      argv[kept++] = argv[i];
    }
  }
  argv[kept] = nullptr;
  *argc = kept;
  return configuration;
}

std::string_view ConfigurationHelp() {
  return R"(Determinism flags (each has a twin in the environment: DETERMINISM_RUNS, ...):
  --determinism_runs=N
      Runs of each assertion that does not state its own; default 30. n equal
      runs exclude deviation rates above 1 - 0.05^(1/(n-1)) at 95 %.
  --determinism_rate_below=P
      Instead of a count: as many runs as exclude rates above P at 95 %.
  --determinism_budget=SECONDS
      Stop an assertion's runs after this time; only what was run is claimed.
  --determinism_seed=N
      Seed of the perturbations; default 42.
  --determinism_perturb[=true|false]
      Poison the allocator and load the machine around runs where an assertion
      does not choose its perturbations; default true.
  --determinism_strict[=true|false]
      Noise that a suite expects is a failure too; default false.
  --determinism_quiet[=true|false]
      Do not print a line for each assertion that passes; default false.
)";
}

}  // namespace gtest_determinism
