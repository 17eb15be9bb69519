#include "suites/quantize/quantize.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "suites/checkpoint/safetensors.h"
#include "suites/quantize/encode_pipeline.h"
#include "suites/quantize/openvino_ir.h"

namespace suites::quantize {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kQuantizer = "gtest_determinism quantize_checkpoint";

std::string Gigabytes(std::uint64_t bytes) {
  // Two decimals without a locale.
  const std::uint64_t hundredths = bytes / 10'000'000;
  const std::string fraction = std::to_string(hundredths % 100);
  return std::to_string(hundredths / 100) + "." + (fraction.size() < 2 ? "0" : "") + fraction + " GB";
}

// The folder under its temporary name; gone again unless Publish() was reached.
class NewFolder {
 public:
  NewFolder(fs::path output, bool overwrite) : output_(fs::absolute(std::move(output)).lexically_normal()) {
    if (output_.filename().empty()) output_ = output_.parent_path();
    std::error_code error;
    const fs::file_status status = fs::symlink_status(output_, error);
    if (fs::exists(status) && !overwrite && !(fs::is_directory(status) && fs::is_empty(output_, error))) {
      Fail("exists already; remove it, choose another folder or give --overwrite");
    }
    fs::create_directories(output_.parent_path(), error);
    if (error) Fail("cannot make " + output_.parent_path().string() + ": " + error.message());
    const std::string pid = std::to_string(getpid());
    path_ = output_.parent_path() / ("." + output_.filename().string() + ".tmp-" + pid);
    replaced_ = output_.parent_path() / ("." + output_.filename().string() + ".old-" + pid);
    if (!fs::create_directory(path_, error)) {
      Fail("cannot make " + path_.string() + ": " + (error ? error.message() : "it exists"));
    }
  }
  ~NewFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
    fs::remove_all(replaced_, ignored);
  }
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

  const fs::path& path() const { return path_; }

  void CheckSpace(std::uint64_t needed) const {
    struct statvfs space;
    if (statvfs(path_.c_str(), &space) != 0) return;  // a write will tell
    const std::uint64_t available = std::uint64_t{space.f_bavail} * space.f_frsize;
    if (needed > available) {
      Fail("needs " + Gigabytes(needed) + ", only " + Gigabytes(available) + " are free there");
    }
  }

  void Publish() {
    std::error_code error;
    const bool exists = fs::exists(fs::symlink_status(output_, error));
    error.clear();  // status() calls a missing file an error
    if (exists) fs::rename(output_, replaced_, error);
    if (!error) fs::rename(path_, output_, error);
    if (error) Fail("cannot be put in place: " + error.message());
  }

 private:
  [[noreturn]] void Fail(const std::string& reason) const { throw CheckpointError(output_.string() + ": " + reason); }

  fs::path output_, path_, replaced_;
};

void WriteTextFile(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  if (!file) throw CheckpointError(path.string() + ": cannot be written: " + std::strerror(errno));
}

Json GptqSettings(std::int64_t group_size) {
  return {
      {"bits", 4},        {"checkpoint_format", "gptq"},           {"desc_act", false},     {"group_size", group_size},
      {"lm_head", false}, {"meta", {{"quantizer", {kQuantizer}}}}, {"pack_dtype", "int32"}, {"quant_method", "gptq"},
      {"sym", true}};
}

// As transformers writes it of torchao's Int4WeightOnlyConfig, version 2.
Json TorchaoSettings(std::int64_t group_size) {
  const Json data = {
      {"group_size", group_size},
      {"int4_choose_qparams_algorithm", {{"_data", "TINYGEMM"}, {"_type", "Int4ChooseQParamsAlgorithm"}}},
      {"int4_packing_format", "tile_packed_to_4d"},
      {"set_inductor_config", true}};
  return {{"include_input_output_embeddings", false},
          {"modules_to_not_convert", nullptr},
          {"quant_method", "torchao"},
          {"quant_type", {{"default", {{"_data", data}, {"_type", "Int4WeightOnlyConfig"}, {"_version", 2}}}}},
          {"quant_type_kwargs", Json::object()},
          {"untie_embedding_weights", false}};
}

void WriteConfig(const WeightSource& source, const fs::path& folder, const QuantizeOptions& options) {
  Json config = source.config_json();
  const char* dtype_key = config.contains("dtype") ? "dtype" : "torch_dtype";
  switch (options.format) {
    case OutputFormat::kAwq:
      config["quantization_config"] = {{"bits", 4},
                                       {"group_size", options.group_size},
                                       {"modules_to_not_convert", nullptr},
                                       {"quant_method", "awq"},
                                       {"version", "gemm"},
                                       {"zero_point", true}};
      config[dtype_key] = "float16";
      break;
    case OutputFormat::kGptq:
      config["quantization_config"] = GptqSettings(options.group_size);
      config[dtype_key] = "float16";
      WriteTextFile(folder / "quantize_config.json", GptqSettings(options.group_size).dump(2) + "\n");
      break;
    case OutputFormat::kTorchao:
      config["quantization_config"] = TorchaoSettings(options.group_size);
      config[dtype_key] = "bfloat16";
      break;
    case OutputFormat::kOpenVino:
      config[dtype_key] = "float16";
      WriteTextFile(folder / "openvino_config.json",
                    Json{{"quantization_config",
                          {{"bits", 4}, {"group_size", options.group_size}, {"quantizer", kQuantizer}, {"sym", false}}}}
                            .dump(2) +
                        "\n");
      break;
  }
  WriteTextFile(folder / "config.json", config.dump(2) + "\n");
  for (const auto& [name, text] : source.files()) WriteTextFile(folder / name, text);
}

// torchao.prototype.safetensors: what each key of the state dict was.
std::map<std::string, std::string> Metadata(const WeightSource& source, const QuantizeOptions& options) {
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
  if (options.format != OutputFormat::kTorchao) return metadata;
  Json names = Json::array();
  for (const TensorInfo& tensor : TensorsOf(source.config())) {
    names.push_back(tensor.name);
    Json entry = {{"_type", "Tensor"}};
    if (tensor.quantized) {
      entry = {{"_type", "Int4TilePackedTo4dTensor"},
               {"_data", {{"block_size", {1, options.group_size}}, {"shape", tensor.shape}}},
               {"_tensor_data_names", {"qdata", "scale_and_zero"}}};
    }
    metadata[tensor.name] = entry.dump();
  }
  metadata["tensor_names"] = names.dump();
  return metadata;
}

struct Shard {
  std::vector<TensorInfo> sources;
  std::vector<TensorHeader> headers;
  std::uint64_t bytes = 0;
};

std::vector<Shard> PlanShards(const WeightSource& source, const QuantizeOptions& options) {
  std::vector<Shard> shards(1);
  for (const TensorInfo& tensor : TensorsOf(source.config())) {
    const std::vector<TensorHeader> headers = HeadersFor(options.format, tensor, options.group_size);
    std::uint64_t bytes = 0;
    for (const TensorHeader& header : headers) bytes += BytesOf(header);
    if (!shards.back().sources.empty() && shards.back().bytes + bytes > options.shard_bytes) shards.emplace_back();
    Shard& shard = shards.back();
    shard.sources.push_back(tensor);
    shard.headers.insert(shard.headers.end(), headers.begin(), headers.end());
    shard.bytes += bytes;
  }
  return shards;
}

std::string Padded(std::size_t number) {
  const std::string digits = std::to_string(number);
  return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
}

// Rows of a dense tensor go through memory in pieces, so that an embedding of
// more than a gigabyte is never there as a whole.
constexpr std::uint64_t kPieceBytes = 32 << 20;
constexpr std::uint64_t kMemory = 512 << 20;

std::vector<EncodePart> PartsOf(const WeightSource& source, const TensorInfo& tensor, const QuantizeOptions& options) {
  std::uint64_t bytes = 0;
  for (const TensorHeader& header : HeadersFor(options.format, tensor, options.group_size)) bytes += BytesOf(header);
  const auto part = [&](std::uint64_t part_bytes, RowRange rows) {
    return EncodePart{part_bytes, [&source, tensor, format = options.format, group = options.group_size, rows] {
                        return BeginEncoding(format, source, tensor, group, rows);
                      }};
  };
  if (tensor.quantized) return {part(bytes, {0, tensor.rows()})};
  const auto row_bytes = bytes / static_cast<std::uint64_t>(tensor.rows());
  const auto rows = static_cast<std::int64_t>(std::max<std::uint64_t>(1, kPieceBytes / row_bytes));
  std::vector<EncodePart> parts;
  for (std::int64_t begin = 0; begin < tensor.rows(); begin += rows) {
    const std::int64_t end = std::min(begin + rows, tensor.rows());
    parts.push_back(part(static_cast<std::uint64_t>(end - begin) * row_bytes, {begin, end}));
  }
  return parts;
}

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// This thread writes what the others encode.
void WriteShards(const WeightSource& source, const std::vector<Shard>& shards, const fs::path& folder,
                 const QuantizeOptions& options, QuantizeResult* result) {
  const auto metadata = Metadata(source, options);
  std::vector<EncodePart> parts;
  std::vector<std::vector<std::size_t>> parts_of(shards.size());  // of each tensor of a shard, how many
  for (std::size_t i = 0; i < shards.size(); ++i) {
    for (const TensorInfo& tensor : shards[i].sources) {
      std::vector<EncodePart> more = PartsOf(source, tensor, options);
      parts_of[i].push_back(more.size());
      std::move(more.begin(), more.end(), std::back_inserter(parts));
    }
  }
  EncodePipeline pipeline(std::move(parts), options.threads, kMemory);
  Json weight_map = Json::object();
  std::uint64_t bytes = 0;
  std::size_t done = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shards.size() == 1
                                 ? "model.safetensors"
                                 : "model-" + Padded(i + 1) + "-of-" + Padded(shards.size()) + ".safetensors";
    SafetensorsWriter writer(folder / name, shards[i].headers, metadata);
    for (std::size_t t = 0; t < shards[i].sources.size(); ++t) {
      if (options.progress) options.progress(done++, result->tensors, shards[i].sources[t].name);
      for (std::size_t part = 0; part < parts_of[i][t]; ++part) {
        auto start = std::chrono::steady_clock::now();
        const std::span<const Bytes> encoded = pipeline.Next();
        result->encoding_wait += SecondsSince(start);
        start = std::chrono::steady_clock::now();
        for (const Bytes& data : encoded) writer.Append(data.span());
        result->writing += SecondsSince(start);
      }
    }
    const auto start = std::chrono::steady_clock::now();
    writer.Finish();
    result->writing += SecondsSince(start);
    for (const TensorHeader& header : shards[i].headers) weight_map[header.name] = name;
    bytes += shards[i].bytes;
  }
  if (shards.size() > 1) {
    WriteTextFile(folder / "model.safetensors.index.json",
                  Json{{"metadata", {{"total_size", bytes}}}, {"weight_map", weight_map}}.dump(2) + "\n");
  }
}

}  // namespace

QuantizeResult Quantize(const WeightSource& source, const fs::path& output, const QuantizeOptions& options) {
  if (options.group_size != 32 && options.group_size != 64 && options.group_size != 128) {
    throw CheckpointError("group size " + std::to_string(options.group_size) + " is not 32, 64 or 128");
  }
  const std::vector<Shard> shards = PlanShards(source, options);
  QuantizeResult result;
  for (const Shard& shard : shards) {
    result.bytes += shard.bytes;
    result.tensors += shard.sources.size();
  }
  NewFolder folder(output, options.overwrite);
  constexpr std::uint64_t kSmallFiles = 32 << 20;  // tokenizer, headers
  // OpenVINO's weights lie on the disk once more until they are saved.
  folder.CheckSpace(kSmallFiles + result.bytes * (options.format == OutputFormat::kOpenVino ? 2 : 1));
  WriteConfig(source, folder.path(), options);
  if (options.format == OutputFormat::kOpenVino) {
    WriteOpenVinoIr(source, folder.path(), options);
  } else {
    WriteShards(source, shards, folder.path(), options, &result);
  }
  folder.Publish();
  return result;
}

}  // namespace suites::quantize
