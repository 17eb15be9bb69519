// Reader and writer of safetensors files. Format: huggingface/safetensors,
// README, "Format": u64 little-endian length N, N bytes of JSON header, then
// the data. Without libtorch.
#ifndef SUITES_CHECKPOINT_SAFETENSORS_H_
#define SUITES_CHECKPOINT_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace suites {

// A file that cannot be used. what() is one line that names the file, the
// thing in it and what to do.
class CheckpointError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct StoredTensor {
  std::string dtype;  // as in the file: "F16", "BF16", "F32", "I32", ...
  std::vector<std::int64_t> shape;
  // Contiguous, row-major, little-endian, read-only. The format does not
  // promise that it is aligned to the size of an element.
  std::span<const std::byte> data;
  std::shared_ptr<const void> owner;  // keeps the mapping alive
};

// Bits of one element of a safetensors dtype ("BF16": 16); 0 if unknown.
int BitsOfDtype(std::string_view dtype);

// "[4, 128]", for messages.
std::string ShapeText(std::span<const std::int64_t> shape);

// A mapped file, or a set of shards behind model.safetensors.index.json. The
// file must not be cut while it is mapped (the kernel would answer a read of the
// lost part with SIGBUS).
class SafetensorsReader {
 public:
  // `path`: a .safetensors file, or a folder that holds model.safetensors or
  // model.safetensors.index.json. Checks the whole header (length at most 100
  // MB, known dtypes, offsets in bounds, no overlap, no gap, sizes that fit the
  // shapes) before it returns. Shards must lie in the same folder; no two may
  // hold the same name. Throws CheckpointError.
  static SafetensorsReader Open(const std::filesystem::path& path);

  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  bool Contains(const std::string& name) const { return tensors_.contains(name); }
  // Throws CheckpointError that names the tensor.
  const StoredTensor& Get(const std::string& name) const;
  // __metadata__; of several shards the first wins where they disagree.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  void AddFile(const std::filesystem::path& file);

  std::map<std::string, StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
  std::filesystem::path path_;
};

struct TensorHeader {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
};

// Writes a file whose shapes are known beforehand and whose data come in
// pieces. The file comes to be under a temporary name in the same folder and is
// renamed by Finish(); without Finish() nothing is left.
class SafetensorsWriter {
 public:
  // Tensors are laid out in the order given. Throws CheckpointError: a name
  // twice, an unknown dtype, a file that cannot be made.
  SafetensorsWriter(const std::filesystem::path& path, const std::vector<TensorHeader>& tensors,
                    const std::map<std::string, std::string>& metadata = {});
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  // The next bytes of the data section: all tensors, one after the other.
  // Throws CheckpointError (no space left, more than was announced).
  void Append(std::span<const std::byte> data);
  // Throws CheckpointError where bytes are missing.
  void Finish();

 private:
  void WriteAll(const void* data, std::size_t size);

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int file_ = -1;
  std::uint64_t expected_ = 0;  // bytes of the data section
  std::uint64_t written_ = 0;
};

struct TensorToWrite {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
};
// All at once: tensors in the order given, header padded to 8 bytes.
void WriteSafetensors(const std::filesystem::path& path, const std::vector<TensorToWrite>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace suites

#endif  // SUITES_CHECKPOINT_SAFETENSORS_H_
