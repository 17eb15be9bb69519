#include "kernels/providers/op_library.h"

#include <ATen/Context.h>
#include <c10/util/Exception.h>
#include <cxxabi.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <torch/version.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <stdexcept>
#include <utility>

#define XXH_INLINE_ALL
#include "kernels/providers/elf_library.h"
#include "kernels/torch_cuda.h"
#include "xxhash/xxhash.h"

namespace kernels {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void Refuse(const fs::path& path, const std::string& what) {
  throw std::invalid_argument("op library " + path.string() + " " + what);
}

std::string FirstLine(const std::string& text) { return text.substr(0, text.find('\n')); }

std::string WhatOf(const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  return FirstLine(torch_error != nullptr ? torch_error->what_without_backtrace() : error.what());
}

// A file's bytes, mapped for reading.
class Mapped {
 public:
  explicit Mapped(const fs::path& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) Refuse(path, std::string("cannot be read: ") + std::strerror(errno));
    struct stat status = {};
    const bool regular = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
    if (regular && status.st_size > 0) {
      void* const data = mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file, 0);
      if (data != MAP_FAILED) bytes_ = {static_cast<const std::byte*>(data), static_cast<std::size_t>(status.st_size)};
    }
    close(file);
    if (!regular) Refuse(path, "is not a file");
  }
  ~Mapped() {
    if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

std::string DigestOf(std::span<const std::byte> bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  std::string hex;
  for (const unsigned char byte : canonical.digest) {
    constexpr char kDigits[] = "0123456789abcdef";
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::string Demangled(const std::string& symbol) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status),
                                                    std::free);
  return status == 0 && text ? text.get() : symbol;
}

bool IsOfTorch(const std::string& symbol) {
  for (const char* part : {"3c10", "2at", "5torch", "aoti_torch_"}) {
    if (symbol.find(part) != std::string::npos) return true;
  }
  return symbol.starts_with("torch_");
}

// Libraries of which it is known that they define no symbol of torch's beside
// those that are opened below.
bool IsFamiliar(const std::string& library) {
  for (const char* prefix :
       {"libtorch.so", "libtorch_cpu", "libtorch_cuda", "libc10", "libcu", "libnv", "libnccl", "libstdc++", "libgcc_s",
        "libc.so", "libm.so", "libdl.so", "libpthread.so", "librt.so", "ld-linux", "libgomp"}) {
    if (library.starts_with(prefix)) return true;
  }
  return false;
}

std::string LinkerError() {
  const char* const error = dlerror();
  return error != nullptr ? FirstLine(error) : "no reason given";
}

// An op library finds libtorch by its own rpath or because this process has it;
// a program that does not link all of libtorch opens the rest of it first.
// Returns "", or why the first part of it that is needed cannot be opened.
std::string OpenPartsOfTorch(const std::vector<std::string>& needed) {
  TorchCuda();
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&at::globalContext), &info) == 0 || info.dli_fname == nullptr) return "";
  const fs::path folder = fs::path(info.dli_fname).parent_path();
  std::string reason;
  for (const std::string& name : needed) {
    if (!name.starts_with("libtorch") && !name.starts_with("libc10")) continue;
    if (dlopen((folder / name).c_str(), RTLD_LAZY | RTLD_GLOBAL) == nullptr && reason.empty()) reason = LinkerError();
  }
  return reason;
}

const std::string kThisTorch = std::string("torch ") + TORCH_VERSION + ", which this program runs with,";

// A function that is missing would end the process when it is first called,
// perhaps in the middle of the library's registration.
void CheckSymbols(const fs::path& path, const internal::ElfLibrary& library) {
  if (!std::all_of(library.needed.begin(), library.needed.end(), IsFamiliar)) return;
  for (const std::string& symbol : library.undefined) {
    if (IsOfTorch(symbol) && dlsym(RTLD_DEFAULT, symbol.c_str()) == nullptr) {
      Refuse(path, "was built for another torch: " + kThisTorch + " lacks " + Demangled(symbol));
    }
  }
}

// Why dlopen() refused. `part`: what it said of a part of libtorch, "" if nothing.
std::string Reason(const internal::ElfLibrary& library, const std::string& part) {
  std::string reason = LinkerError();
  if (const std::size_t at = reason.find("undefined symbol: "); at != std::string::npos) {
    std::string symbol = reason.substr(at + 18);
    symbol = symbol.substr(0, symbol.find_first_of(" ,("));
    if (IsOfTorch(symbol)) return "was built for another torch: " + kThisTorch + " lacks " + Demangled(symbol);
    return "needs " + Demangled(symbol) + ", which no library of this program defines";
  }
  if (!part.empty()) reason = part;
  const CudaStatus& cuda = TorchCuda();
  for (const std::string& name : library.needed) {
    if (cuda.devices == 0 && name.find("cuda") != std::string::npos) {
      return "cannot be opened: " + reason + " (" + cuda.reason + ")";
    }
  }
  return "cannot be opened: " + reason;
}

std::set<std::string> RegisteredOperators() {
  std::set<std::string> names;
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
    names.insert(name.overload_name.empty() ? name.name : name.name + "." + name.overload_name);
  }
  return names;
}

struct Opened {
  std::mutex mutex;
  std::vector<OpLibrary> libraries;
};
Opened& TheOpened() {
  static Opened* const opened = new Opened;  // outlives every other static
  return *opened;
}

// PyTorch refuses an operator that is registered already by an exception, which
// cannot pass the dynamic linker: the process ends. While this lives it does so
// with one line, and not with a list of stack frames.
class TerminateInOneLine {
 public:
  explicit TerminateInOneLine(const fs::path& path) : before_(std::set_terminate(&End)) { Path() = path.string(); }
  ~TerminateInOneLine() { std::set_terminate(before_); }
  TerminateInOneLine(const TerminateInOneLine&) = delete;
  TerminateInOneLine& operator=(const TerminateInOneLine&) = delete;

 private:
  static std::string& Path() {
    static std::string path;
    return path;
  }
  [[noreturn]] static void End() {
    std::string what = "it threw what is no std::exception";
    try {
      if (const std::exception_ptr thrown = std::current_exception()) std::rethrow_exception(thrown);
    } catch (const std::exception& error) {
      what = WhatOf(error);
    } catch (...) {
    }
    std::fprintf(stderr, "op library %s cannot register its operators: %s\n", Path().c_str(), what.c_str());
    std::_Exit(2);
  }
  const std::terminate_handler before_;
};

OpLibrary Open(const fs::path& given, const fs::path& path) {
  OpLibrary library;
  library.path = path;
  internal::ElfLibrary elf;
  {
    const Mapped file(path);
    library.bytes = file.bytes().size();
    try {
      elf = internal::ReadElfLibrary(file.bytes());
    } catch (const std::invalid_argument& error) {
      Refuse(given, error.what());
    }
    library.digest = DigestOf(file.bytes());
  }
  const std::string part = OpenPartsOfTorch(elf.needed);
  if (part.empty()) CheckSymbols(given, elf);
  const std::set<std::string> before = RegisteredOperators();
  void* handle = nullptr;
  {
    const TerminateInOneLine in_one_line(given);
    // Lazily: libraries made for Python name symbols of Python that a program
    // without it never calls.
    handle = dlopen(path.c_str(), RTLD_LAZY | RTLD_GLOBAL);
  }
  if (handle == nullptr) Refuse(given, Reason(elf, part));
  for (const std::string& name : RegisteredOperators()) {
    if (!before.contains(name)) library.operators.push_back(name);
  }
  return library;
}

std::string Listed(const std::vector<OpLibrary>& libraries) {
  std::string text;
  for (const OpLibrary& library : libraries) {
    text += (text.empty() ? "" : ", ") + library.path.string() + " (" + std::to_string(library.operators.size()) +
            (library.operators.size() == 1 ? " operator)" : " operators)");
  }
  return text;
}

// "0.23.0" of the folder vllm-0.23.0.dist-info beside the package; "" elsewhere.
std::string VllmVersion(const fs::path& library) {
  if (library.parent_path().filename() != "vllm") return "";
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(library.parent_path().parent_path(), error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("vllm-") && name.ends_with(".dist-info")) return name.substr(5, name.size() - 5 - 10);
  }
  return "";
}

}  // namespace

std::vector<OpLibrary> OpenOpLibraries(const std::vector<fs::path>& paths) {
  Opened& opened = TheOpened();
  const std::lock_guard lock(opened.mutex);
  std::vector<OpLibrary> libraries;
  for (const fs::path& given : paths) {
    std::error_code error;
    const fs::path path = fs::canonical(given, error);
    if (error) Refuse(given, "cannot be read: " + error.message());
    const auto known = std::find_if(opened.libraries.begin(), opened.libraries.end(),
                                    [&](const OpLibrary& library) { return library.path == path; });
    if (known != opened.libraries.end()) {
      libraries.push_back(*known);
      continue;
    }
    libraries.push_back(Open(given, path));
    opened.libraries.push_back(libraries.back());
  }
  return libraries;
}

std::vector<OpLibrary> OpenedOpLibraries() {
  Opened& opened = TheOpened();
  const std::lock_guard lock(opened.mutex);
  return opened.libraries;
}

std::optional<OpLibrary> LibraryOfOperator(const std::string& op) {
  for (const OpLibrary& library : OpenedOpLibraries()) {
    for (const std::string& name : library.operators) {
      if (name == op || name.starts_with(op + ".")) return library;
    }
  }
  return std::nullopt;
}

c10::OperatorHandle FindOperator(const std::string& op, const std::string& overload) {
  if (auto handle = c10::Dispatcher::singleton().findSchema({op, overload})) return *handle;
  std::set<std::string> names;
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
    if (name.name == op) names.insert(name.overload_name);
  }
  if (!names.empty()) {
    std::string overloads;
    for (const std::string& name : names) overloads += (overloads.empty() ? "\"" : ", \"") + name + "\"";
    throw std::invalid_argument("operator " + op + " has no overload \"" + overload + "\"; it has " + overloads);
  }
  const std::vector<OpLibrary> libraries = OpenedOpLibraries();
  throw std::invalid_argument(
      "there is no operator " + op +
      (libraries.empty() ? ": torch " + std::string(TORCH_VERSION) + " has none of that name, and no op library was " +
                               "opened; name one with --op-library or $QUANT_OP_LIBRARIES"
                         : ", neither in torch " + std::string(TORCH_VERSION) + " nor in " + Listed(libraries)));
}

std::string Describe(const OpLibrary& library) {
  const std::string version = VllmVersion(library.path);
  return (version.empty() ? "" : "vllm " + version + ", ") + library.path.filename().string() + ", " +
         std::to_string(library.bytes) + " bytes, XXH3-128 " + library.digest;
}

}  // namespace kernels
