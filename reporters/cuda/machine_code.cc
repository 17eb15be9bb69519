#include "reporters/cuda/machine_code.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>

#include "reporters/cuda/internal/cubin.h"

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
#include <cupti.h>
#include <dlfcn.h>

#include "reporters/cuda/internal/cupti_client.h"
#endif

extern char** environ;

namespace reporters {
namespace {

namespace fs = std::filesystem;

// More is not kept: a library's whole machine code is some hundred MB.
constexpr std::size_t kMostBytes = std::size_t{2} << 30;

struct Modules {
  std::mutex mutex;
  bool watching = false;
  std::string reason = "WatchModules() was not called";
  std::vector<std::shared_ptr<const std::string>> cubins;
  std::size_t bytes = 0;
  int left_out = 0;
};
Modules& TheModules() {
  static Modules modules;
  return modules;
}

bool IsExecutable(const fs::path& path) { return access(path.c_str(), X_OK) == 0 && !fs::is_directory(path); }

std::string ReadAll(int fd) {
  std::string text;
  std::string piece(1 << 16, '\0');
  ssize_t n = 0;
  while ((n = read(fd, piece.data(), piece.size())) > 0 || (n < 0 && errno == EINTR)) {
    if (n > 0) text.append(piece.data(), static_cast<std::size_t>(n));
  }
  return text;
}

// A file that goes with the object.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& content) {
    const char* folder = std::getenv("TMPDIR");
    path_ = std::string(folder != nullptr && *folder != '\0' ? folder : "/tmp") + "/determinism-XXXXXX";
    const int fd = mkstemp(path_.data());
    if (fd < 0) throw std::runtime_error("no temporary file: " + std::string(std::strerror(errno)));
    std::size_t done = 0;
    while (done < content.size()) {
      const ssize_t n = write(fd, content.data() + done, content.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
    const int error = errno;
    close(fd);
    if (done < content.size()) {
      unlink(path_.c_str());
      throw std::runtime_error("no temporary file: " + std::string(std::strerror(error)));
    }
  }
  ~TemporaryFile() { unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Standard output of a program; its errors are thrown away. Throws where it
// cannot be started or fails.
std::string OutputOf(const std::vector<std::string>& arguments) {
  int pipe_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe: " + std::string(std::strerror(errno)));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(pipe_ends[1]);
  if (error != 0) {
    close(pipe_ends[0]);
    throw std::runtime_error(arguments[0] + " cannot be started: " + std::strerror(error));
  }
  std::string text = ReadAll(pipe_ends[0]);
  close(pipe_ends[0]);
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) throw std::runtime_error(arguments[0] + " failed on a module");
  return text;
}

// What one module says of one function.
struct Reading {
  std::string error;  // "" where it was read
  AtomicCounts atomics;
};

Evidence Judge(const std::vector<Reading>& readings, const AtomicCounts& atomics) {
  if (!atomics.float_adds.empty()) return {Finding::kShown, Describe(atomics.float_adds)};
  for (const Reading& reading : readings) {
    if (!reading.error.empty()) return {Finding::kNotLookedAt, reading.error};
  }
  if (!atomics.compare_and_swap.empty()) {
    return {Finding::kNotLookedAt, "compare-and-swap, what for is not known: " + Describe(atomics.compare_and_swap)};
  }
  return {Finding::kRefuted, atomics.others.empty() ? "no atomic instruction"
                                                    : "atomic instructions, none of them an addition of floats: " +
                                                          Describe(atomics.others)};
}

#if defined(GTEST_DETERMINISM_HAVE_CUDA)
void OnResource(CUpti_CallbackId id, const void* data) {
  if (id != CUPTI_CBID_RESOURCE_MODULE_LOADED) return;
  const auto* resource = static_cast<const CUpti_ResourceData*>(data);
  const auto* module = static_cast<const CUpti_ModuleResourceData*>(resource->resourceDescriptor);
  if (module == nullptr || module->pCubin == nullptr || module->cubinSize == 0) return;
  Modules& modules = TheModules();
  const std::lock_guard<std::mutex> lock(modules.mutex);
  if (modules.bytes + module->cubinSize > kMostBytes) {
    ++modules.left_out;
    return;
  }
  modules.bytes += module->cubinSize;
  modules.cubins.push_back(std::make_shared<const std::string>(module->pCubin, module->cubinSize));
}
#endif

}  // namespace

bool WatchModules(std::string* reason) {
  Modules& modules = TheModules();
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  static std::mutex starting;
  const std::lock_guard<std::mutex> lock(starting);
  std::string why;
  if (!modules.watching) {
    why = internal::WhyNoCupti();
    if (why.empty()) {
      try {
        // For the rest of the process, and past the end of CUPTI: modules are
        // loaded whenever a kernel is first used.
        static const internal::Subscription* subscription = nullptr;
        internal::SetCallbackHandler(CUPTI_CB_DOMAIN_RESOURCE, OnResource);
        if (subscription == nullptr) subscription = new internal::Subscription();
        subscription->Enable(CUPTI_CB_DOMAIN_RESOURCE, CUPTI_CBID_RESOURCE_MODULE_LOADED, true);
      } catch (const std::exception& error) {
        internal::SetCallbackHandler(CUPTI_CB_DOMAIN_RESOURCE, nullptr);
        why = error.what();
      }
    }
  }
  const std::lock_guard<std::mutex> guard(modules.mutex);
  modules.watching = modules.watching || why.empty();
#else
  const std::string why =
      "this build has no device code: it was configured without nvcc or with GTEST_DETERMINISM_CUDA=OFF";
  const std::lock_guard<std::mutex> guard(modules.mutex);
#endif
  if (!modules.watching) modules.reason = why;
  if (reason != nullptr) *reason = why;
  return modules.watching;
}

fs::path FindNvdisasm(std::string* reason) {
  std::vector<fs::path> folders;
  if (const char* path = std::getenv("PATH")) {
    std::string_view rest(path);
    while (!rest.empty()) {
      const std::size_t colon = rest.find(':');
      if (colon != 0) folders.emplace_back(rest.substr(0, colon));
      rest.remove_prefix(colon == std::string_view::npos ? rest.size() : colon + 1);
    }
  }
  if (const char* home = std::getenv("CUDA_HOME"); home != nullptr && *home != '\0')
    folders.push_back(fs::path(home) / "bin");
  folders.emplace_back("/usr/local/cuda/bin");
#if defined(GTEST_DETERMINISM_HAVE_CUDA)
  // Wheels: .../nvidia/cu13/lib/libcupti.so.13 beside .../nvidia/cu13/bin/nvdisasm.
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&cuptiGetVersion), &info) != 0 && info.dli_fname != nullptr) {
    folders.push_back(fs::path(info.dli_fname).parent_path().parent_path() / "bin");
  }
#endif
  for (const fs::path& folder : folders) {
    if (IsExecutable(folder / "nvdisasm")) return folder / "nvdisasm";
  }
  if (reason != nullptr) {
    *reason =
        "nvdisasm is neither on PATH nor in $CUDA_HOME/bin, /usr/local/cuda/bin or the wheel nvidia-cuda-nvdisasm";
  }
  return {};
}

std::vector<SassFunction> Disassemble(const fs::path& nvdisasm, const std::string& cubin,
                                      const std::vector<std::string>& functions) {
  const std::vector<internal::CubinFunction> symbols = internal::FunctionsOf(cubin);
  std::string indices;
  for (const internal::CubinFunction& symbol : symbols) {
    // What is no kernel may be called by one.
    const bool wanted = !symbol.kernel || std::find(functions.begin(), functions.end(), symbol.name) != functions.end();
    if (wanted) indices += (indices.empty() ? "" : ",") + std::to_string(symbol.index);
  }
  if (indices.empty()) return {};
  const TemporaryFile file(cubin);
  return ParseSass(OutputOf({nvdisasm.string(), "-c", "-fun", indices, file.path()}));
}

std::vector<FunctionCode> ReadMachineCode(const std::vector<std::string>& functions) {
  std::vector<std::shared_ptr<const std::string>> cubins;
  std::string reason;
  {
    Modules& modules = TheModules();
    const std::lock_guard<std::mutex> lock(modules.mutex);
    cubins = modules.cubins;
    if (!modules.watching) {
      reason = modules.reason;
    } else if (modules.left_out > 0) {
      reason = std::to_string(modules.left_out) + " modules were not kept, for their size";
    } else {
      reason = "its module was loaded before it was watched for";
    }
  }
  std::string no_disassembler;
  const fs::path nvdisasm = cubins.empty() ? fs::path() : FindNvdisasm(&no_disassembler);

  std::map<std::string, std::vector<Reading>> readings;
  const std::set<std::string> wanted(functions.begin(), functions.end());
  for (const auto& cubin : cubins) {
    std::vector<std::string> here;
    for (const internal::CubinFunction& symbol : internal::FunctionsOf(*cubin)) {
      if (wanted.contains(symbol.name)) here.push_back(symbol.name);
    }
    if (here.empty()) continue;
    std::string error = no_disassembler;
    std::vector<SassFunction> sass;
    if (error.empty()) {
      try {
        sass = Disassemble(nvdisasm, *cubin, here);
      } catch (const std::exception& failed) {
        error = failed.what();
      }
    }
    for (const std::string& name : here) {
      Reading reading{error, {}};
      const auto found = std::find_if(sass.begin(), sass.end(), [&](const auto& f) { return f.name == name; });
      if (error.empty() && (found == sass.end() || found->instructions == 0)) {
        reading.error = "nvdisasm shows no instruction of it";
      } else if (error.empty()) {
        reading.atomics = AtomicsOf(sass, name);
      }
      readings[name].push_back(std::move(reading));
    }
  }
  std::vector<FunctionCode> codes;
  for (const std::string& name : functions) {
    FunctionCode code;
    code.name = name;
    const auto found = readings.find(name);
    if (found == readings.end()) {
      code.float_atomics = {Finding::kNotLookedAt, reason};
    } else {
      for (const Reading& reading : found->second) code.atomics.Add(reading.atomics);
      code.float_atomics = Judge(found->second, code.atomics);
    }
    codes.push_back(std::move(code));
  }
  return codes;
}

}  // namespace reporters
