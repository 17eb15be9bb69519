// What a user may set for a whole process. Read from the environment once, and
// from the command line where InitDeterminism() (init.h) is called.
#ifndef GTEST_DETERMINISM_CONFIGURATION_H_
#define GTEST_DETERMINISM_CONFIGURATION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace gtest_determinism {

struct Configuration {
  int runs = 30;                         // --determinism_runs, DETERMINISM_RUNS
  std::optional<double> rate_below;      // --determinism_rate_below, DETERMINISM_RATE_BELOW
  std::optional<double> budget_seconds;  // --determinism_budget, DETERMINISM_BUDGET
  std::uint64_t seed = 42;               // --determinism_seed, DETERMINISM_SEED
  bool perturb = true;                   // --determinism_perturb, DETERMINISM_PERTURB
  // Expected noise is a failure too. For suites that expect some variants to be
  // non-deterministic; the assertions of this library are always strict.
  bool strict = false;  // --determinism_strict, DETERMINISM_STRICT
  bool quiet = false;   // --determinism_quiet, DETERMINISM_QUIET
  // argv[0], for the command that runs a test again; "" where not known.
  std::string program;
  // Flags were parsed, so that a command can name them; else their environment twins.
  bool flags_parsed = false;
};

// Of this process. The first call reads the environment; throws
// std::invalid_argument, one line, for a value there that cannot be read.
const Configuration& GetConfiguration();
void SetConfiguration(const Configuration& configuration);

// Reads the environment, then takes every --determinism_ flag out of argv and
// applies it. Nothing after "--" is looked at. Throws std::invalid_argument, one
// line, for an unknown flag or a value that cannot be read.
Configuration ParseConfiguration(int* argc, char** argv);

// Text of --help, one paragraph a flag.
std::string_view ConfigurationHelp();

}  // namespace gtest_determinism

#endif  // GTEST_DETERMINISM_CONFIGURATION_H_
