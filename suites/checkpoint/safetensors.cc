#include "suites/checkpoint/safetensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <tuple>
#include <utility>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/mapped_file.h"

namespace suites {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data are little-endian and used as they lie");

using Json = nlohmann::json;

// The limit of the reference implementation (safetensors/src/tensor.rs, MAX_HEADER_SIZE).
constexpr std::uint64_t kMaxHeader = 100'000'000;
constexpr char kDownloadAgain[] = "; the file is damaged, download it again";

// Nothing where the size does not fit 64 bits or is no whole number of bytes.
std::optional<std::uint64_t> BytesOf(std::string_view dtype, std::span<const std::int64_t> shape) {
  std::uint64_t bits = static_cast<std::uint64_t>(BitsOfDtype(dtype));
  for (const std::int64_t size : shape) {
    if (__builtin_mul_overflow(bits, static_cast<std::uint64_t>(size), &bits)) return std::nullopt;
  }
  if (bits % 8 != 0) return std::nullopt;
  return bits / 8;
}

struct Range {
  std::uint64_t begin, end;
  const std::string* name;
};

// One entry of the header against the data section of `size` bytes.
Range ParseEntry(const std::string& file, const std::string& name, const Json& entry, std::uint64_t size,
                 StoredTensor* tensor) {
  const auto fail = [&](const std::string& reason) {
    throw CheckpointError(file + ": tensor " + Quoted(name) + ": " + reason);
  };
  if (!entry.is_object()) fail("its header entry is not a JSON object");
  const auto dtype = entry.find("dtype");
  const auto shape = entry.find("shape");
  const auto offsets = entry.find("data_offsets");
  if (dtype == entry.end() || !dtype->is_string()) fail("no dtype in the header");
  if (shape == entry.end() || !shape->is_array()) fail("no shape in the header");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2) fail("no data_offsets [begin, end]");
  tensor->dtype = dtype->get<std::string>();
  if (BitsOfDtype(tensor->dtype) == 0) fail("unknown dtype " + Quoted(tensor->dtype));
  for (const Json& dimension : *shape) {
    if (!dimension.is_number_unsigned() ||
        dimension.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      fail("its shape holds " + Quoted(dimension.dump(-1, ' ', true)) + ", not a size");
    }
    tensor->shape.push_back(dimension.get<std::int64_t>());
  }
  for (const Json& offset : *offsets) {
    if (!offset.is_number_unsigned()) fail("its data_offsets are not two numbers of bytes");
  }
  const auto begin = (*offsets)[0].get<std::uint64_t>();
  const auto end = (*offsets)[1].get<std::uint64_t>();
  if (begin > end || end > size) {
    fail("data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) + "] lie outside the " +
         std::to_string(size) + " bytes of data in the file; it was cut short or is damaged, download it again");
  }
  const auto bytes = BytesOf(tensor->dtype, tensor->shape);
  if (!bytes) fail("the size of its shape " + ShapeText(tensor->shape) + " does not fit 64 bits");
  if (*bytes != end - begin) {
    fail("shape " + ShapeText(tensor->shape) + " of " + tensor->dtype + " takes " + std::to_string(*bytes) +
         " bytes, its data_offsets hold " + std::to_string(end - begin) + kDownloadAgain);
  }
  return {begin, end, &name};
}

std::string JsonShape(std::span<const std::int64_t> shape) {
  return Json(std::vector(shape.begin(), shape.end())).dump();
}

std::string HeaderText(const std::filesystem::path& path, const std::vector<TensorHeader>& tensors,
                       const std::map<std::string, std::string>& metadata, std::uint64_t* data_size) {
  // Put together by hand: tensors in the order of their data, which an object of
  // the library would sort by name.
  std::string header = "{";
  if (!metadata.empty()) header += "\"__metadata__\":" + Json(metadata).dump();
  std::set<std::string> names;
  std::uint64_t end = 0;
  for (const TensorHeader& tensor : tensors) {
    const auto fail = [&](const char* reason) {
      throw CheckpointError(path.string() + ": tensor " + Quoted(tensor.name) + " " + Quoted(tensor.dtype) + " " +
                            ShapeText(tensor.shape) + " cannot be written: " + reason);
    };
    if (BitsOfDtype(tensor.dtype) == 0) fail("unknown dtype");
    if (tensor.name == "__metadata__" || !names.insert(tensor.name).second) fail("its name is taken");
    for (const std::int64_t size : tensor.shape) {
      if (size < 0) fail("a negative size");
    }
    const std::uint64_t begin = end;
    const auto bytes = BytesOf(tensor.dtype, tensor.shape);
    if (!bytes || __builtin_add_overflow(begin, bytes.value_or(0), &end)) fail("its size does not fit 64 bits");
    if (header.size() > 1) header += ',';
    header += Json(tensor.name).dump() + ":{\"dtype\":" + Json(tensor.dtype).dump() +
              ",\"shape\":" + JsonShape(tensor.shape) + ",\"data_offsets\":[" + std::to_string(begin) + "," +
              std::to_string(end) + "]}";
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  *data_size = end;
  return header;
}

}  // namespace

void SafetensorsReader::AddFile(const std::filesystem::path& file) {
  const auto mapping = MappedFile::Open(file, 8, "safetensors");
  const std::span<const std::byte> bytes = mapping->bytes();
  const std::string what = file.string();
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), 8);
  const std::uint64_t after_length = bytes.size() - 8;
  if (header_size > kMaxHeader) {
    throw CheckpointError(what + ": the header claims " + std::to_string(header_size) + " bytes, more than the " +
                          std::to_string(kMaxHeader) + " that the format allows; not a safetensors file, or damaged");
  }
  if (header_size > after_length) {
    throw CheckpointError(what + ": the header claims " + std::to_string(header_size) + " bytes, the file has only " +
                          std::to_string(after_length) +
                          " after it begins; it was cut short or is damaged, download it again");
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data() + 8), header_size);
  const Json header = ParseJson(text, what + ": header");
  if (!header.is_object()) throw CheckpointError(what + ": the header is not a JSON object");
  const std::span<const std::byte> data = bytes.subspan(8 + header_size);

  std::vector<Range> ranges;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object()) throw CheckpointError(what + ": __metadata__ is not a JSON object");
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) throw CheckpointError(what + ": __metadata__ " + Quoted(key) + " is not a string");
        metadata_.emplace(key, value.get<std::string>());
      }
      continue;
    }
    StoredTensor tensor;
    Range range = ParseEntry(what, name, entry, data.size(), &tensor);
    tensor.data = data.subspan(range.begin, range.end - range.begin);
    tensor.owner = mapping;
    const auto [position, inserted] = tensors_.emplace(name, std::move(tensor));
    if (!inserted) throw CheckpointError(what + ": tensor " + Quoted(name) + " is also in another shard");
    range.name = &position->first;
    ranges.push_back(range);
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  std::uint64_t covered = 0;
  const Range* previous = nullptr;
  for (const Range& range : ranges) {
    if (range.begin < covered) {
      throw CheckpointError(what + ": tensors " + Quoted(*previous->name) + " and " + Quoted(*range.name) + " overlap" +
                            kDownloadAgain);
    }
    if (range.begin > covered) {
      throw CheckpointError(what + ": " + std::to_string(range.begin - covered) + " bytes before tensor " +
                            Quoted(*range.name) + " belong to no tensor" + kDownloadAgain);
    }
    covered = range.end;
    previous = &range;
  }
  if (covered != data.size()) {
    throw CheckpointError(what + ": " + std::to_string(data.size() - covered) +
                          " bytes at the end belong to no tensor" + kDownloadAgain);
  }
}

SafetensorsReader SafetensorsReader::Open(const std::filesystem::path& path) {
  SafetensorsReader reader;
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    reader.path_ = path;
    reader.AddFile(path);
    return reader;
  }
  const auto single = path / "model.safetensors";
  if (std::filesystem::exists(single, error)) {
    reader.path_ = single;
    reader.AddFile(single);
    return reader;
  }
  const auto index_path = path / "model.safetensors.index.json";
  if (!std::filesystem::exists(index_path, error)) {
    throw CheckpointError(path.string() + ": neither model.safetensors nor model.safetensors.index.json is there");
  }
  reader.path_ = index_path;
  const ShardIndex shards = ReadShardIndex(index_path);
  for (const std::string& file : shards.files) reader.AddFile(path / file);
  CheckShardIndex(index_path, shards, reader);
  return reader;
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, const std::vector<TensorHeader>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : path_(path), temporary_(path.string() + ".tmp." + std::to_string(getpid())) {
  std::string header;
  try {
    header = HeaderText(path, tensors, metadata, &expected_);
  } catch (const Json::exception&) {
    throw CheckpointError(path.string() + ": a tensor's name or the metadata are not UTF-8");
  }

  unlink(temporary_.c_str());  // left by a killed process that had the same id
  file_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file_ < 0) {
    throw CheckpointError(path.string() + ": cannot be written: " + std::strerror(errno));
  }
  try {
    const std::uint64_t size = header.size();
    WriteAll(&size, sizeof size);
    WriteAll(header.data(), header.size());
  } catch (...) {  // no destructor runs for what was not constructed
    close(file_);
    unlink(temporary_.c_str());
    throw;
  }
}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_ < 0) return;
  close(file_);
  unlink(temporary_.c_str());
}

void SafetensorsWriter::WriteAll(const void* data, std::size_t size) {
  const auto* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t n = write(file_, next, size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw CheckpointError(path_.string() + ": cannot be written: " + std::strerror(errno));
    next += n;
    size -= static_cast<std::size_t>(n);
  }
}

// The disk begins now, and Finish() has little to wait for. Only a hint.
void SafetensorsWriter::StartWriteBack() {
#if defined(SYNC_FILE_RANGE_WRITE)
  constexpr std::uint64_t kAtLeast = 32 << 20;
  if (written_ - handed_over_ < kAtLeast) return;
  const auto begin = static_cast<off64_t>(handed_over_), size = static_cast<off64_t>(written_ - handed_over_);
  static_cast<void>(sync_file_range(file_, begin, size, SYNC_FILE_RANGE_WRITE));
  handed_over_ = written_;
#endif
}

void SafetensorsWriter::Append(std::span<const std::byte> data) {
  if (data.size() > expected_ - written_) {
    throw CheckpointError(path_.string() + ": more data than the tensors' shapes take");
  }
  WriteAll(data.data(), data.size());
  written_ += data.size();
  StartWriteBack();
}

void SafetensorsWriter::Finish() {
  if (written_ != expected_) {
    throw CheckpointError(path_.string() + ": " + std::to_string(written_) + " of " + std::to_string(expected_) +
                          " bytes of data were given");
  }
  // A full disk may answer only now; a file is renamed once it is whole.
  const bool synced = fsync(file_) == 0 || errno == EINVAL;
  const bool closed = close(file_) == 0;
  file_ = -1;
  if (!synced || !closed || rename(temporary_.c_str(), path_.c_str()) != 0) {
    const std::string reason = std::strerror(errno);
    unlink(temporary_.c_str());
    throw CheckpointError(path_.string() + ": cannot be written: " + reason);
  }
}

void WriteSafetensors(const std::filesystem::path& path, const std::vector<TensorToWrite>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<TensorHeader> headers;
  for (const TensorToWrite& tensor : tensors) headers.push_back({tensor.name, tensor.dtype, tensor.shape});
  SafetensorsWriter writer(path, headers, metadata);
  for (const TensorToWrite& tensor : tensors) {
    if (BytesOf(tensor.dtype, tensor.shape) != tensor.data.size()) {
      throw CheckpointError(path.string() + ": tensor " + Quoted(tensor.name) + " has " +
                            std::to_string(tensor.data.size()) + " bytes, its shape " + ShapeText(tensor.shape) +
                            " takes another number");
    }
    writer.Append(tensor.data);
  }
  writer.Finish();
}

}  // namespace suites
