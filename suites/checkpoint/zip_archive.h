// The entries of a ZIP archive, without unpacking. Format: PKWARE APPNOTE 6.3.10.
#ifndef SUITES_CHECKPOINT_ZIP_ARCHIVE_H_
#define SUITES_CHECKPOINT_ZIP_ARCHIVE_H_

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "suites/checkpoint/mapped_file.h"

namespace suites {

struct ZipArchive {
  std::shared_ptr<const MappedFile> file;
  std::map<std::string, std::span<const std::byte>> entries;  // views of `file`
};

// Sizes come from the central directory, ZIP64 included: PyTorch leaves them out
// of the local headers. Throws CheckpointError: not a ZIP archive, cut short,
// several disks, a compressed or encrypted entry, a name twice, an entry outside
// of the file. Checksums are not verified.
ZipArchive OpenZip(const std::filesystem::path& path);

}  // namespace suites

#endif  // SUITES_CHECKPOINT_ZIP_ARCHIVE_H_
