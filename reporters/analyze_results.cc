// analyze_results: one table over many result files, and what changed.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <string>
#include <system_error>
#include <vector>

#include "reporters/analysis.h"
#include "reporters/analysis_text.h"

namespace {

namespace fs = std::filesystem;

constexpr char kFooter[] =
    "Reads result files of quant_suites, of the older Python script with the same keys, and failure files.\n"
    "\n"
    "Exit codes:\n"
    "  0  every file was read, and none disagrees with itself\n"
    "  1  a file could not be read, or its own numbers disagree with its tokens and logprobs\n"
    "  2  a wrong command line, or no file\n"
    "  3  the files are all right, but a variant is BROKEN, MISSING or FAILED, was bit-exact and is inconclusive, or\n"
    "     is DIFFERENT and nothing else in its files (prompt, model, settings, environment) differs\n"
    "\n"
    "Words between files of the same variant: SAME, FIXED, BROKEN, NOISIER, QUIETER, DIFFERENT (both bit-exact, but "
    "not\n"
    "the same bits), FAILED (neither ran), AMBG (the files do not allow a decision), MISSING (in the first folder "
    "only),\n"
    "NEW (in the last folder only).";

// A folder stands for its *.json files, by name.
std::vector<fs::path> Expand(const std::vector<std::string>& arguments, bool* failed) {
  std::vector<fs::path> paths;
  for (const std::string& argument : arguments) {
    std::error_code error;
    if (!fs::is_directory(argument, error)) {
      paths.emplace_back(argument);
      continue;
    }
    std::vector<fs::path> inside;
    for (fs::directory_iterator it(argument, error), end; !error && it != end; it.increment(error)) {
      const fs::path& path = it->path();
      if (path.extension() == ".json" && path.filename().string()[0] != '.') inside.push_back(path);
    }
    if (error || inside.empty()) {
      std::cerr << "analyze_results: " << reporters::OneLine(argument) << ": "
                << (error ? "cannot be read: " + error.message() : "no *.json file in this folder") << '\n';
      *failed = true;
    }
    std::sort(inside.begin(), inside.end());
    paths.insert(paths.end(), inside.begin(), inside.end());
  }
  return paths;
}

int Run(const std::vector<std::string>& arguments, const reporters::AnalysisOptions& options) {
  bool unread = false;
  std::vector<reporters::ResultFile> files;
  for (const fs::path& path : Expand(arguments, &unread)) {
    try {
      files.push_back(reporters::ReadResultFile(path));
    } catch (const reporters::ResultFileError& error) {
      std::cerr << "analyze_results: " << error.what() << '\n';
      unread = true;
    }
  }
  if (files.empty()) return unread ? 1 : 2;
  const reporters::Analysis analysis = reporters::Analyze(files, options);
  reporters::WriteAnalysis(std::cout, files, analysis, reporters::DetectConsole(STDOUT_FILENO));
  std::cout.flush();
  if (!std::cout) {
    std::cerr << "analyze_results: cannot write to standard output\n";
    return 1;
  }
  const bool disagrees =
      std::any_of(files.begin(), files.end(), [](const auto& file) { return !file.disagreements.empty(); });
  if (unread || disagrees) return 1;
  const bool regressed = std::any_of(analysis.files.begin(), analysis.files.end(),
                                     [](const auto& comparison) { return comparison.regressed; });
  return regressed ? 3 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("One table over result files, a comparison of variants, and what changed between files of a variant.",
               "analyze_results");
  app.footer(kFooter);
  std::vector<std::string> arguments;
  reporters::AnalysisOptions options;
  app.add_option("files", arguments, "Result files, or folders with *.json files; older first")->required();
  app.add_flag("--across-devices", options.across_devices, "Compare files of one variant from different devices too");
  app.add_flag("--across-models", options.across_models, "Compare variants of different models too");
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    // A typing mistake before a file that is missing for it.
    const std::vector<std::string> unknown = app.remaining();
    std::cerr << "analyze_results: " << (unknown.empty() ? error.what() : "unknown argument " + unknown.front())
              << "; see --help\n";
    return 2;
  }
  try {
    return Run(arguments, options);
  } catch (const std::exception& error) {
    std::cerr << "analyze_results: " << reporters::OneLine(error.what()) << '\n';
    return 1;
  }
}
