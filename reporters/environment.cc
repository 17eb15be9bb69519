#include "reporters/environment.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string_view>

#include "reporters/build_info.h"  // written by git_revision.cmake at build time

extern char** environ;

namespace reporters {
namespace {

std::string ValueOfLine(const std::string& path, std::string_view key, char separator) {
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const std::size_t at = line.find(separator);
    if (at == std::string::npos) continue;
    std::string value = line.substr(at + 1);
    value.erase(0, value.find_first_not_of(" \t\""));
    value.erase(value.find_last_not_of(" \t\"") + 1);
    return value;
  }
  return "unknown";
}

std::string UsableCpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return std::to_string(sysconf(_SC_NPROCESSORS_ONLN));
  return std::to_string(CPU_COUNT(&set));
}

bool Matters(std::string_view name) {
  constexpr std::string_view kPrefixes[] = {
      "OMP_",      "GOMP_", "MKL_",    "KMP_",  "CUDA_",   "CUBLAS_", "TORCH_",       "PYTORCH_", "ATEN_",  "OV_",
      "OPENVINO_", "TBB_",  "ONEDNN_", "DNNL_", "NVIDIA_", "NCCL_",   "DETERMINISM_", "QUANT_",   "GTEST_", "MALLOC_"};
  constexpr std::string_view kNames[] = {"LD_PRELOAD", "LD_LIBRARY_PATH", "GLIBC_TUNABLES",
                                         "HF_HOME",    "HF_HUB_CACHE",    "LC_ALL"};
  return std::any_of(std::begin(kPrefixes), std::end(kPrefixes),
                     [&](std::string_view prefix) { return name.substr(0, prefix.size()) == prefix; }) ||
         std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

// A value that may be a secret (a registry's or a hub's token) is not recorded.
bool IsSecret(std::string_view name) {
  return name.find("TOKEN") != std::string_view::npos || name.find("SECRET") != std::string_view::npos ||
         name.find("PASSWORD") != std::string_view::npos || name.find("KEY") != std::string_view::npos;
}

}  // namespace

Environment CollectEnvironment(std::vector<std::string> argv, std::vector<std::pair<std::string, std::string>> values) {
  Environment environment;
  utsname system{};
  uname(&system);
  environment.values = {
      {"cpu", ValueOfLine("/proc/cpuinfo", "model name", ':')},
      {"cpus", UsableCpus()},
      {"os", ValueOfLine("/etc/os-release", "PRETTY_NAME", '=')},
      {"os_kernel", std::string(system.sysname) + " " + system.release + " " + system.machine},
      {"compiler", build_info::kCompiler},
      {"build_type", build_info::kBuildType},
      {"build_flags", build_info::kBuildFlags},
      {"git_revision", build_info::kGitRevision},
      {"git_dirty", build_info::kGitDirty},
  };
  for (auto& value : values) environment.values.push_back(std::move(value));
  environment.argv = std::move(argv);
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = text.substr(0, equals);
    if (Matters(name) && !IsSecret(name)) environment.variables[std::string(name)] = text.substr(equals + 1);
  }
  return environment;
}

}  // namespace reporters
