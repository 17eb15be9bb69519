#include "reporters/exclusive_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "reporters/text.h"

namespace reporters {
namespace {

[[noreturn]] void Fail(const std::filesystem::path& path, int error) {
  std::string message = "cannot write " + OneLine(path.string()) + ": " + std::strerror(error);
  if (error == ENOSPC || error == EDQUOT) message += "; free space or choose another folder with --output-dir";
  if (error == EACCES || error == EROFS || error == ENOTDIR || error == EPERM) {
    message += "; choose another folder with --output-dir";
  }
  throw std::runtime_error(message);
}

int WriteAll(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t written = write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

enum class Linked : std::uint8_t { kYes, kNameExists, kNotPossible };

// A file that vanishes when it goes out of scope, or with the process, whatever
// ends that. Only a link keeps the content.
class UnnamedFile {
 public:
  // Not good() where the file system has no O_TMPFILE, or /proc, by which alone
  // such a file gets a name without privileges (open(2)), is not mounted.
  explicit UnnamedFile(const std::filesystem::path& directory)
      : fd_(open(directory.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666)),
        path_("/proc/self/fd/" + std::to_string(fd_)) {
    if (fd_ >= 0 && access(path_.c_str(), F_OK) != 0) {
      close(fd_);
      fd_ = -1;
    }
  }
  UnnamedFile(const UnnamedFile&) = delete;
  UnnamedFile& operator=(const UnnamedFile&) = delete;
  ~UnnamedFile() {
    if (fd_ >= 0) close(fd_);
  }
  bool good() const { return fd_ >= 0; }

  // 0 or errno.
  int WriteAndSync(std::string_view content) {
    if (const int error = WriteAll(fd_, content)) return error;
    return fsync(fd_) == 0 ? 0 : errno;
  }

  Linked LinkTo(const std::filesystem::path& name) const {
    if (linkat(AT_FDCWD, path_.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) return Linked::kYes;
    return errno == EEXIST ? Linked::kNameExists : Linked::kNotPossible;
  }

 private:
  int fd_;
  std::string path_;
};

// The same under a hidden name, which a process that is killed leaves behind.
class NamedFile {
 public:
  explicit NamedFile(const std::filesystem::path& directory) {
    static std::atomic<unsigned> counter{0};
    do {
      path_ = directory / (".determinism-" + std::to_string(getpid()) + "-" + std::to_string(counter++) + ".tmp");
      fd_ = open(path_.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
    } while (fd_ < 0 && errno == EEXIST);  // left by a killed process of the same id
    if (fd_ < 0) Fail(directory, errno);
  }
  NamedFile(const NamedFile&) = delete;
  NamedFile& operator=(const NamedFile&) = delete;
  ~NamedFile() {
    if (fd_ >= 0) close(fd_);
    unlink(path_.c_str());
  }

  // 0 or errno. A full disk may show at any of the three calls.
  int WriteAndSync(std::string_view content) {
    if (const int error = WriteAll(fd_, content)) return error;
    if (fsync(fd_) != 0) return errno;
    const int fd = fd_;
    fd_ = -1;
    return close(fd) == 0 ? 0 : errno;
  }

  Linked LinkTo(const std::filesystem::path& name) const {
    if (link(path_.c_str(), name.c_str()) == 0) return Linked::kYes;
    if (errno == EEXIST) return Linked::kNameExists;
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS) Fail(name, errno);
    // A file system without hard links (FAT, some network ones).
    if (renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, name.c_str(), RENAME_NOREPLACE) == 0) return Linked::kYes;
    if (errno == EEXIST) return Linked::kNameExists;
    Fail(name, errno);
  }

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

std::string SafeStem(std::string_view stem) {
  std::string safe;
  if (stem.empty() || stem[0] == '.') safe = '_';  // neither hidden nor ".."
  for (char c : stem) {
    const auto u = static_cast<unsigned char>(c);
    safe += u < 0x80 && (std::isalnum(u) || c == '-' || c == '_' || c == '.') ? c : '_';
  }
  return safe.substr(0, 200);  // below NAME_MAX with the rest
}

void SyncFolder(const std::filesystem::path& directory) {
  const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // a folder that may be written but not read; the file itself is safe
  fsync(fd);
  close(fd);
}

// The name that it got; nothing where a file of this kind cannot get one here.
template <class File>
std::optional<std::filesystem::path> Publish(File& file, const std::filesystem::path& folder, std::string_view stem,
                                             std::string_view extension, std::string_view content) {
  if (const int failed = file.WriteAndSync(content)) Fail(folder, failed);
  const std::string base = SafeStem(stem);
  for (int n = 1;; ++n) {
    std::string name = base;
    if (n > 1) name.append("_").append(std::to_string(n));
    name += extension;
    const std::filesystem::path path = folder / name;
    switch (file.LinkTo(path)) {
      case Linked::kYes:
        SyncFolder(folder);
        return path;
      case Linked::kNameExists:
        continue;
      case Linked::kNotPossible:
        return std::nullopt;
    }
  }
}

}  // namespace

std::filesystem::path CreateExclusively(const std::filesystem::path& directory, std::string_view stem,
                                        std::string_view extension, std::string_view content) {
  const std::filesystem::path folder = directory.empty() ? "." : directory;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) Fail(folder, error.value());
  {
    UnnamedFile file(folder);
    if (file.good()) {
      if (const auto path = Publish(file, folder, stem, extension, content)) return *path;
    }
  }
  NamedFile file(folder);
  return *Publish(file, folder, stem, extension, content);  // it throws where it has no name
}

std::string CompactTime(std::string_view iso8601) {
  int field[6];
  const std::string text(iso8601.substr(0, 19));
  if (text.size() == 19 && std::sscanf(text.c_str(), "%4d-%2d-%2dT%2d:%2d:%2d", &field[0], &field[1], &field[2],
                                       &field[3], &field[4], &field[5]) == 6) {
    char compact[80];
    std::snprintf(compact, sizeof(compact), "%04d%02d%02d_%02d%02d%02d", field[0], field[1], field[2], field[3],
                  field[4], field[5]);
    return compact;
  }
  return CompactTime(IsoTimeNow());
}

std::string IsoTimeNow() {
  timeval now{};
  gettimeofday(&now, nullptr);
  tm local{};
  localtime_r(&now.tv_sec, &local);
  char seconds[32], text[48];
  std::strftime(seconds, sizeof(seconds), "%Y-%m-%dT%H:%M:%S", &local);
  std::snprintf(text, sizeof(text), "%s.%06ld", seconds, static_cast<long>(now.tv_usec));
  return text;
}

}  // namespace reporters
