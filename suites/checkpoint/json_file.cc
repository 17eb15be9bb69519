#include "suites/checkpoint/json_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <unordered_set>
#include <utility>
#include <vector>

#include "suites/checkpoint/safetensors.h"

namespace suites {
namespace {

constexpr int kMaxDepth = 64;

}  // namespace

std::string Quoted(std::string_view text) {
  constexpr std::size_t kMaxLength = 120;
  constexpr char kHex[] = "0123456789abcdef";
  std::string out = "'";
  for (const char c : text.substr(0, kMaxLength)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out + (text.size() > kMaxLength ? "...'" : "'");
}

nlohmann::json ParseJson(std::string_view text, const std::string& what) {
  // The parser itself keeps the last of two equal keys; a header that says two
  // things about one tensor is refused instead.
  std::vector<std::unordered_set<std::string>> keys;
  const auto check = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (depth > kMaxDepth) {
      throw CheckpointError(what + ": JSON nested deeper than " + std::to_string(kMaxDepth) +
                            " levels; the file is damaged, download it again");
    }
    if (event == Event::object_start) {
      keys.emplace_back();
    } else if (event == Event::object_end) {
      keys.pop_back();
    } else if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!keys.back().insert(key).second) {
        throw CheckpointError(what + ": the key " + Quoted(key) + " occurs twice in one JSON object");
      }
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), check);
  } catch (const nlohmann::json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ...;
    // last read: '...'": the last part may repeat a whole file.
    std::string reason = error.what();
    reason.resize(std::min(reason.find("; last read"), reason.size()));
    if (const auto end_of_id = reason.find("] "); end_of_id != std::string::npos) reason.erase(0, end_of_id + 2);
    throw CheckpointError(what + ": not valid JSON (" + reason.substr(0, 160) + ")");
  }
}

void RefuseLfsPointer(const std::filesystem::path& path, std::string_view bytes) {
  if (!bytes.starts_with("version https://git-lfs.github.com/spec/")) return;
  throw CheckpointError(path.string() + ": is a Git LFS pointer, not the file itself; fetch it with: git lfs pull");
}

std::string ReadTextFile(const std::filesystem::path& path, std::size_t limit) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    throw CheckpointError(path.string() + ": no such file");
  }
  // A FIFO or a device would block or never end.
  if (!std::filesystem::is_regular_file(status)) {
    throw CheckpointError(path.string() + ": not a regular file");
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw CheckpointError(path.string() + ": cannot be opened: " + std::strerror(errno));
  const auto size = std::filesystem::file_size(path, error);
  if (error || size > limit) {
    throw CheckpointError(path.string() + ": " + std::to_string(size) + " bytes, more than the " +
                          std::to_string(limit) + " that such a file may have");
  }
  std::string text(size, '\0');
  file.read(text.data(), static_cast<std::streamsize>(size));
  if (static_cast<std::uintmax_t>(file.gcount()) != size) {
    throw CheckpointError(path.string() + ": cannot be read to its end");
  }
  RefuseLfsPointer(path, text);
  return text;
}

nlohmann::json ReadJsonFile(const std::filesystem::path& path) {
  return ParseJson(ReadTextFile(path, kJsonFileLimit), path.string());
}

}  // namespace suites
