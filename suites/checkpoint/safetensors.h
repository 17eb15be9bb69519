// Reader of safetensors files. Format: huggingface/safetensors, README,
// "Format": u64 little-endian length N, N bytes of JSON header, then the data.
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
  std::span<const std::byte> data;   // contiguous, row-major, little-endian
  std::shared_ptr<const void> owner;  // keeps the mapping alive
};

// A mapped file, or a set of shards behind model.safetensors.index.json.
class SafetensorsReader {
 public:
  // `path`: a .safetensors file, or a folder that holds model.safetensors or
  // model.safetensors.index.json. Checks the whole header (length at most 100
  // MB, known dtypes, offsets in bounds, no overlap, no gap, sizes that fit the
  // shapes) before it returns. Throws CheckpointError.
  static SafetensorsReader Open(const std::filesystem::path& path);

  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  bool Contains(const std::string& name) const { return tensors_.contains(name); }
  // Throws CheckpointError that names the tensor.
  const StoredTensor& Get(const std::string& name) const;
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::map<std::string, StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
  std::filesystem::path path_;
};

// Writes tensors in the order given, header padded to 8 bytes. The file comes
// to be under a temporary name and is renamed. Throws CheckpointError.
struct TensorToWrite {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
};
void WriteSafetensors(const std::filesystem::path& path, const std::vector<TensorToWrite>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace suites

#endif  // SUITES_CHECKPOINT_SAFETENSORS_H_
