#include "suites/checkpoint/tensor_table.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "suites/checkpoint/json_file.h"

namespace suites {
namespace {

struct DtypeBits {
  std::string_view name;
  int bits;
};
constexpr std::array kDtypes = {
    DtypeBits{"BOOL", 8},    DtypeBits{"U8", 8},      DtypeBits{"I8", 8},      DtypeBits{"F8_E5M2", 8},
    DtypeBits{"F8_E4M3", 8}, DtypeBits{"F8_E8M0", 8}, DtypeBits{"U16", 16},    DtypeBits{"I16", 16},
    DtypeBits{"F16", 16},    DtypeBits{"BF16", 16},   DtypeBits{"U32", 32},    DtypeBits{"I32", 32},
    DtypeBits{"F32", 32},    DtypeBits{"U64", 64},    DtypeBits{"I64", 64},    DtypeBits{"F64", 64},
    DtypeBits{"C64", 64},    DtypeBits{"F4", 4},      DtypeBits{"F6_E2M3", 6}, DtypeBits{"F6_E3M2", 6},
};

}  // namespace

int BitsOfDtype(std::string_view dtype) {
  const auto* found = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& d) { return d.name == dtype; });
  return found == kDtypes.end() ? 0 : found->bits;
}

std::string ShapeText(std::span<const std::int64_t> shape) {
  std::string out = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i == 16) return out + ", ...]";
    out += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return out + "]";
}

const StoredTensor& TensorTable::Get(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw CheckpointError(path_.string() + ": no tensor " + Quoted(name) + " in the checkpoint");
  }
  return found->second;
}

namespace {

bool IsInside(const std::filesystem::path& file, const std::filesystem::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), file.begin(), file.end()).first == folder.end();
}

// A shard may be a link, as everything in the hub's cache is
// (models--ORG--NAME/snapshots/REVISION/FILE to models--ORG--NAME/blobs/HASH), but
// not one that leads elsewhere.
bool LeadsOutside(const std::filesystem::path& folder, const std::string& name) {
  std::error_code error;
  const auto home = std::filesystem::canonical(folder.empty() ? "." : folder, error);
  const auto file = std::filesystem::canonical(folder / name, error);
  if (error) return true;
  if (IsInside(file, home)) return false;
  const auto model = home.parent_path().parent_path();
  const bool cache = home.parent_path().filename() == "snapshots" && model.filename().string().starts_with("models--");
  return !cache || !IsInside(file, model / "blobs");
}

}  // namespace

ShardIndex ReadShardIndex(const std::filesystem::path& path) {
  const nlohmann::json index = ReadJsonFile(path);
  const auto weight_map = index.is_object() ? index.find("weight_map") : index.end();
  if (weight_map == index.end() || !weight_map->is_object() || weight_map->empty()) {
    throw CheckpointError(path.string() + ": no weight_map from tensor names to files");
  }
  ShardIndex shards;
  for (const auto& [name, file] : weight_map->items()) {
    if (!file.is_string()) throw CheckpointError(path.string() + ": no file name for tensor " + Quoted(name));
    const auto& file_name = file.get_ref<const std::string&>();
    // A shard is a file beside its index; anything else could name any file of
    // the machine.
    if (file_name.empty() || file_name == "." || file_name == ".." ||
        file_name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      throw CheckpointError(path.string() + ": shard " + Quoted(file_name) + " of tensor " + Quoted(name) +
                            " is not the name of a file in the same folder");
    }
    std::error_code error;
    if (!std::filesystem::exists(path.parent_path() / file_name, error)) {
      throw CheckpointError(path.string() + ": shard " + Quoted(file_name) + " is missing; download it again");
    }
    if (LeadsOutside(path.parent_path(), file_name)) {
      throw CheckpointError(path.string() + ": shard " + Quoted(file_name) + " of tensor " + Quoted(name) +
                            " is a link that leads out of the folder");
    }
    shards.files.insert(file_name);
    shards.file_of[name] = file_name;
  }
  return shards;
}

void CheckShardIndex(const std::filesystem::path& index, const ShardIndex& shards, const TensorTable& table) {
  for (const auto& [name, file] : shards.file_of) {
    if (!table.Contains(name)) {
      throw CheckpointError(index.string() + ": tensor " + Quoted(name) + " is not in shard " + Quoted(file) +
                            ", nor in another");
    }
  }
}

}  // namespace suites
