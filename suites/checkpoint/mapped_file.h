// A file in memory, read-only.
#ifndef SUITES_CHECKPOINT_MAPPED_FILE_H_
#define SUITES_CHECKPOINT_MAPPED_FILE_H_

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

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

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

}  // namespace suites

#endif  // SUITES_CHECKPOINT_MAPPED_FILE_H_
