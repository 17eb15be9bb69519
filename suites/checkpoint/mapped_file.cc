#include "suites/checkpoint/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <string>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/safetensors.h"

namespace suites {
namespace {

// Files that are mapped now, by the address at which they begin.
struct Registry {
  std::mutex mutex;
  std::map<const std::byte*, std::weak_ptr<const MappedFile>> files;
};
Registry& Files() {
  static auto* const registry = new Registry;  // outlives every file
  return *registry;
}

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::Open(const std::filesystem::path& path, std::size_t smallest,
                                                   const char* kind) {
  const auto fail = [&](const std::string& reason) { throw CheckpointError(path.string() + ": " + reason); };
  // O_NONBLOCK: the name may be that of a FIFO.
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) fail(std::string("cannot be opened: ") + std::strerror(errno));
  struct stat status {};
  void* address = MAP_FAILED;
  const bool regular = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  const auto size = regular ? static_cast<std::size_t>(status.st_size) : 0;
  if (regular && size >= smallest) address = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  const int map_error = errno;
  if (address == MAP_FAILED) close(file);
  if (!regular) fail("not a regular file");
  if (size < smallest) {
    fail("only " + std::to_string(size) + " bytes, a " + kind + " file has at least " + std::to_string(smallest) +
         "; the file is damaged, download it again");
  }
  if (address == MAP_FAILED) fail(std::string("cannot be mapped: ") + std::strerror(map_error));
  const auto* const begin = static_cast<const std::byte*>(address);
  const auto mapped = std::shared_ptr<const MappedFile>(new MappedFile(path, file, {begin, size}));
  {
    const std::lock_guard lock(Files().mutex);
    Files().files[begin] = mapped;
  }
  RefuseLfsPointer(path, {reinterpret_cast<const char*>(begin), size});
  return mapped;
}

MappedFile::~MappedFile() {
  {
    const std::lock_guard lock(Files().mutex);
    Files().files.erase(bytes_.data());
  }
  munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
  close(file_);
}

void MappedFile::Read(std::uint64_t offset, std::size_t bytes, void* out) const {
  auto* next = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t n = pread(file_, next, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw CheckpointError(path_.string() + ": cannot be read: " + std::strerror(errno));
    if (n == 0) throw CheckpointError(path_.string() + ": was cut while it was read");
    next += n;
    offset += static_cast<std::uint64_t>(n);
    bytes -= static_cast<std::size_t>(n);
  }
}

void MappedFile::Release(std::uint64_t offset, std::size_t bytes) const {
  const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  const std::uint64_t begin = offset / page * page;
  // Nobody writes to the mapping, so that nothing is lost with a page.
  madvise(const_cast<std::byte*>(bytes_.data() + begin), bytes + (offset - begin), MADV_DONTNEED);
}

std::optional<MappedFile::Place> MappedFile::Find(const void* address, std::size_t bytes) {
  const auto* const begin = static_cast<const std::byte*>(address);
  const std::lock_guard lock(Files().mutex);
  auto after = Files().files.upper_bound(begin);
  if (after == Files().files.begin()) return std::nullopt;
  std::shared_ptr<const MappedFile> file = std::prev(after)->second.lock();
  if (file == nullptr) return std::nullopt;
  const auto offset = static_cast<std::uint64_t>(begin - file->bytes().data());
  if (offset > file->bytes().size() || bytes > file->bytes().size() - offset) return std::nullopt;
  return Place{std::move(file), offset};
}

}  // namespace suites
