#include "suites/checkpoint/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "suites/checkpoint/safetensors.h"

namespace suites {

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
  close(file);
  if (!regular) fail("not a regular file");
  if (size < smallest) {
    fail("only " + std::to_string(size) + " bytes, a " + kind + " file has at least " + std::to_string(smallest) +
         "; the file is damaged, download it again");
  }
  if (address == MAP_FAILED) fail(std::string("cannot be mapped: ") + std::strerror(map_error));
  return std::shared_ptr<const MappedFile>(new MappedFile({static_cast<const std::byte*>(address), size}));
}

MappedFile::~MappedFile() { munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size()); }

}  // namespace suites
