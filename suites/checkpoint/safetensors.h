// Reader and writer of safetensors files. Format: huggingface/safetensors,
// README, "Format": u64 little-endian length N, N bytes of JSON header, then
// the data. Without libtorch.
#ifndef SUITES_CHECKPOINT_SAFETENSORS_H_
#define SUITES_CHECKPOINT_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "suites/checkpoint/tensor_table.h"

namespace suites {

// A mapped file, or a set of shards behind model.safetensors.index.json. The
// file must not be cut while it is mapped (the kernel would answer a read of the
// lost part with SIGBUS).
class SafetensorsReader : public TensorTable {
 public:
  // `path`: a .safetensors file, or a folder that holds model.safetensors or
  // model.safetensors.index.json. Checks the whole header (length at most 100
  // MB, known dtypes, offsets in bounds, no overlap, no gap, sizes that fit the
  // shapes) before it returns. Shards must lie in the same folder; no two may
  // hold the same name. metadata() is __metadata__. Throws CheckpointError.
  static SafetensorsReader Open(const std::filesystem::path& path);

 private:
  void AddFile(const std::filesystem::path& file);
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
  void StartWriteBack();

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int file_ = -1;
  std::uint64_t expected_ = 0;  // bytes of the data section
  std::uint64_t written_ = 0;
  std::uint64_t handed_over_ = 0;  // of those, how many the disk was asked to write
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
