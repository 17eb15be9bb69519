// A file in memory, read-only.
#ifndef SUITES_CHECKPOINT_MAPPED_FILE_H_
#define SUITES_CHECKPOINT_MAPPED_FILE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace suites {

class MappedFile {
 public:
  // Throws CheckpointError: not a regular file, shorter than `smallest` bytes
  // (at least 1), cannot be mapped. `kind` is for the message, "safetensors".
  static std::shared_ptr<const MappedFile> Open(const std::filesystem::path& path, std::size_t smallest,
                                                const char* kind);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }

  // Copies bytes of the file without touching the mapping: no page faults, large
  // requests, and a file that was cut in the meantime is an error, not a SIGBUS.
  // Throws CheckpointError.
  void Read(std::uint64_t offset, std::size_t bytes, void* out) const;

  // Takes the bytes out of this process's resident memory. They stay in the page
  // cache and come back where they are read again.
  void Release(std::uint64_t offset, std::size_t bytes) const;

  struct Place {
    std::shared_ptr<const MappedFile> file;
    std::uint64_t offset = 0;
  };
  // Where [address, address + bytes) lies in a mapped file; nothing for memory of
  // another kind.
  static std::optional<Place> Find(const void* address, std::size_t bytes);

 private:
  MappedFile(std::filesystem::path path, int file, std::span<const std::byte> bytes)
      : path_(std::move(path)), file_(file), bytes_(bytes) {}

  std::filesystem::path path_;
  int file_;
  std::span<const std::byte> bytes_;
};

}  // namespace suites

#endif  // SUITES_CHECKPOINT_MAPPED_FILE_H_
