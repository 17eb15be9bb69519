// The tensors of a checkpoint by name, whatever file they lie in.
#ifndef SUITES_CHECKPOINT_TENSOR_TABLE_H_
#define SUITES_CHECKPOINT_TENSOR_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
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
  std::string dtype;  // as safetensors name it: "F16", "BF16", "F32", "I32", ...
  std::vector<std::int64_t> shape;
  // Contiguous, row-major, little-endian, read-only. Not always aligned to the
  // size of an element.
  std::span<const std::byte> data;
  std::shared_ptr<const void> owner;  // keeps the mapping alive
};

// Bits of one element of a safetensors dtype ("BF16": 16); 0 if unknown.
int BitsOfDtype(std::string_view dtype);

// "[4, 128]", for messages.
std::string ShapeText(std::span<const std::int64_t> shape);

class TensorTable {
 public:
  const std::map<std::string, StoredTensor>& tensors() const { return tensors_; }
  bool Contains(const std::string& name) const { return tensors_.contains(name); }
  // Throws CheckpointError that names the tensor.
  const StoredTensor& Get(const std::string& name) const;
  // What the writer said beside the tensors; of several shards the first wins
  // where they disagree.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::filesystem::path& path() const { return path_; }

 protected:
  std::map<std::string, StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
  std::filesystem::path path_;
};

// An index of shards as Hugging Face writes it: "weight_map" from the names of
// tensors to files in the same folder.
struct ShardIndex {
  std::set<std::string> files;
  std::map<std::string, std::string> file_of;
};
// Throws CheckpointError: no weight_map, a file that is missing or is not in the
// folder itself.
ShardIndex ReadShardIndex(const std::filesystem::path& index);
// Throws CheckpointError where a tensor of the index is not in `table`.
void CheckShardIndex(const std::filesystem::path& index, const ShardIndex& shards, const TensorTable& table);

}  // namespace suites

#endif  // SUITES_CHECKPOINT_TENSOR_TABLE_H_
