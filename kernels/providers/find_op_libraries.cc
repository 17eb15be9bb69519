// Where op libraries lie that were not named on the command line.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/providers/op_library.h"

namespace kernels {
namespace {

namespace fs = std::filesystem;

std::string Environment(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

std::vector<std::string> SplitAtColons(std::string_view text) {
  std::vector<std::string> parts;
  for (std::size_t first = 0; first <= text.size();) {
    const std::size_t last = std::min(text.find(':', first), text.size());
    if (last > first) parts.emplace_back(text.substr(first, last - first));
    first = last + 1;
  }
  return parts;
}

// The files of the package vllm that register operators of the suites.
std::vector<fs::path> VllmIn(const fs::path& packages) {
  std::vector<fs::path> libraries;
  std::error_code error;
  for (const char* name : {"_C.abi3.so", "_C_stable_libtorch.abi3.so"}) {
    const fs::path path = packages / "vllm" / name;
    if (fs::is_regular_file(path, error)) libraries.push_back(path);
  }
  return libraries;
}

// In prefix/lib/python3.*/{site,dist}-packages, and where Debian's pip installs.
std::vector<fs::path> VllmBelow(const fs::path& prefix) {
  for (const char* lib : {"lib", "local/lib", "lib64"}) {
    std::vector<fs::path> versions;
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(prefix / lib, error)) {
      if (entry.path().filename().string().starts_with("python3")) versions.push_back(entry.path());
    }
    std::sort(versions.begin(), versions.end());
    for (const fs::path& version : versions) {
      for (const char* packages : {"site-packages", "dist-packages"}) {
        if (std::vector<fs::path> libraries = VllmIn(version / packages); !libraries.empty()) return libraries;
      }
    }
  }
  return {};
}

}  // namespace

std::vector<fs::path> FindOpLibraries() {
  const std::vector<std::string> named = SplitAtColons(Environment("QUANT_OP_LIBRARIES"));
  if (!named.empty()) return {named.begin(), named.end()};

  std::vector<fs::path> prefixes;
  if (const std::string environment = Environment("VIRTUAL_ENV"); !environment.empty()) prefixes.push_back(environment);
  for (const std::string& folder : SplitAtColons(Environment("PATH"))) {
    const fs::path python = fs::path(folder) / "python3";
    if (access(python.c_str(), X_OK) != 0) continue;
    // A virtual environment's python3 is a link to the one that it was made with.
    prefixes.push_back(fs::path(folder).parent_path());
    std::error_code error;
    if (const fs::path real = fs::canonical(python, error); !error) {
      prefixes.push_back(real.parent_path().parent_path());
    }
    break;
  }
  for (const fs::path& prefix : prefixes) {
    if (std::vector<fs::path> libraries = VllmBelow(prefix); !libraries.empty()) return libraries;
  }
  return {};
}

}  // namespace kernels
