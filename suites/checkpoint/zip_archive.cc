#include "suites/checkpoint/zip_archive.h"

#include <cstdint>
#include <cstring>
#include <string_view>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/safetensors.h"

namespace suites {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50;
constexpr std::uint32_t kCentralHeader = 0x02014b50;
constexpr std::uint32_t kEnd = 0x06054b50;
constexpr std::uint32_t kZip64End = 0x06064b50;
constexpr std::uint32_t kZip64Locator = 0x07064b50;
constexpr std::size_t kEndSize = 22;

// Little-endian fields, every read inside the bounds.
class Bytes {
 public:
  Bytes(std::string file, std::span<const std::byte> bytes) : file_(std::move(file)), bytes_(bytes) {}

  [[noreturn]] void Fail(const std::string& reason) const {
    throw CheckpointError(file_ + ": ZIP archive: " + reason + "; the file is damaged, download it again");
  }
  [[noreturn]] void FailAsPickle() const {
    throw CheckpointError(
        file_ +
        ": is in PyTorch's format from before version 1.6, which is not read; load and save it with a "
        "newer one, as safetensors");
  }
  std::span<const std::byte> Part(std::uint64_t offset, std::uint64_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) Fail("a record lies outside the file");
    return bytes_.subspan(offset, size);
  }
  template <typename T>
  T Get(std::uint64_t offset) const {
    T value;
    std::memcpy(&value, Part(offset, sizeof value).data(), sizeof value);
    return value;
  }
  std::size_t size() const { return bytes_.size(); }

 private:
  std::string file_;
  std::span<const std::byte> bytes_;
};

struct Directory {
  std::uint64_t offset;
  std::uint64_t entries;
};

Directory FindDirectory(const Bytes& bytes) {
  // The end record is last; behind it there may be a comment of up to 65,535 bytes.
  const std::size_t last = bytes.size() - kEndSize;
  const std::size_t first = last > 65535 ? last - 65535 : 0;
  for (std::size_t end = last + 1; end-- > first;) {
    if (bytes.Get<std::uint32_t>(end) != kEnd) continue;
    if (bytes.Get<std::uint16_t>(end + 4) != 0 || bytes.Get<std::uint16_t>(end + 6) != 0) bytes.Fail("several disks");
    const auto entries = bytes.Get<std::uint16_t>(end + 10);
    const auto offset = bytes.Get<std::uint32_t>(end + 16);
    if (entries != 0xffff && offset != 0xffffffff) return {offset, entries};
    if (end < 20 || bytes.Get<std::uint32_t>(end - 20) != kZip64Locator) bytes.Fail("no ZIP64 locator");
    const auto zip64 = bytes.Get<std::uint64_t>(end - 20 + 8);
    if (bytes.Get<std::uint32_t>(zip64) != kZip64End) bytes.Fail("no ZIP64 end record");
    return {bytes.Get<std::uint64_t>(zip64 + 48), bytes.Get<std::uint64_t>(zip64 + 32)};
  }
  constexpr std::uint16_t kPickle = 0x0280;  // what a pickle of protocol 2 begins with
  if (bytes.Get<std::uint16_t>(0) == kPickle) bytes.FailAsPickle();
  bytes.Fail("no end of the central directory");
}

struct Entry {
  std::uint64_t size;
  std::uint64_t packed_size;
  std::uint64_t local_header;
};

// Fields that do not fit 32 bits stand in the extra field with the id 1, in this order.
void ReadZip64(const Bytes& bytes, std::uint64_t extra, std::uint64_t end, Entry* entry) {
  while (end - extra >= 4) {
    const auto id = bytes.Get<std::uint16_t>(extra);
    const auto size = bytes.Get<std::uint16_t>(extra + 2);
    std::uint64_t field = extra + 4;
    extra = field + size;
    if (extra > end) bytes.Fail("an extra field is too long");
    if (id != 1) continue;
    for (std::uint64_t* value : {&entry->size, &entry->packed_size, &entry->local_header}) {
      if (*value != 0xffffffff) continue;
      if (extra - field < 8) bytes.Fail("a ZIP64 field is missing");
      *value = bytes.Get<std::uint64_t>(field);
      field += 8;
    }
  }
}

}  // namespace

ZipArchive OpenZip(const std::filesystem::path& path) {
  ZipArchive archive;
  archive.file = MappedFile::Open(path, kEndSize, "ZIP");
  const Bytes bytes(path.string(), archive.file->bytes());
  const auto [offset, entries] = FindDirectory(bytes);
  std::uint64_t header = offset;
  for (std::uint64_t i = 0; i < entries; ++i) {
    if (bytes.Get<std::uint32_t>(header) != kCentralHeader) bytes.Fail("the central directory ends early");
    const auto flags = bytes.Get<std::uint16_t>(header + 8);
    const auto method = bytes.Get<std::uint16_t>(header + 10);
    const std::uint64_t name_size = bytes.Get<std::uint16_t>(header + 28);
    const std::uint64_t extra_size = bytes.Get<std::uint16_t>(header + 30);
    const std::uint64_t comment_size = bytes.Get<std::uint16_t>(header + 32);
    Entry entry{.size = bytes.Get<std::uint32_t>(header + 24),
                .packed_size = bytes.Get<std::uint32_t>(header + 20),
                .local_header = bytes.Get<std::uint32_t>(header + 42)};
    const auto name_bytes = bytes.Part(header + 46, name_size);
    const std::string name(reinterpret_cast<const char*>(name_bytes.data()), name_bytes.size());
    const std::uint64_t extra = header + 46 + name_size;
    bytes.Part(extra, extra_size);
    ReadZip64(bytes, extra, extra + extra_size, &entry);
    header = extra + extra_size + comment_size;

    if (method != 0 || (flags & 1) != 0 || entry.size != entry.packed_size) {
      bytes.Fail("entry " + Quoted(name) + " is compressed or encrypted, PyTorch stores entries plain");
    }
    if (bytes.Get<std::uint32_t>(entry.local_header) != kLocalHeader) bytes.Fail("no header of entry " + Quoted(name));
    // The local extra field differs from the central one: PyTorch pads it so that
    // the data are aligned to 64 bytes.
    const std::uint64_t data = entry.local_header + 30 + bytes.Get<std::uint16_t>(entry.local_header + 26) +
                               bytes.Get<std::uint16_t>(entry.local_header + 28);
    if (!archive.entries.emplace(name, bytes.Part(data, entry.size)).second) {
      bytes.Fail("entry " + Quoted(name) + " is there twice");
    }
  }
  return archive;
}

}  // namespace suites
