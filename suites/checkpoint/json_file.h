// JSON files of a checkpoint folder, read with limits: nothing that a file says
// may cost more memory or stack than its size.
#ifndef SUITES_CHECKPOINT_JSON_FILE_H_
#define SUITES_CHECKPOINT_JSON_FILE_H_

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace suites {

// `text` between quotes on one line: control bytes and bytes that are not ASCII
// as \xNN, cut after 120 bytes. For names that come from a file.
std::string Quoted(std::string_view text);

// Parses `text`. `what` names it in errors ("/models/a/config.json"). Refuses,
// beside what is not JSON (RFC 8259), duplicate keys and nesting deeper than 64.
// Throws CheckpointError.
nlohmann::json ParseJson(std::string_view text, const std::string& what);

// Throws CheckpointError where `bytes`, the first ones of a file, are those of a Git LFS
// pointer: what "git clone" leaves in the place of a large file where LFS is not set up.
void RefuseLfsPointer(const std::filesystem::path& path, std::string_view bytes);

// The bytes of a regular file. Throws CheckpointError where it is missing, not a
// regular file, unreadable or larger than `limit` bytes.
std::string ReadTextFile(const std::filesystem::path& path, std::size_t limit);

// The largest JSON file that is read: the tokenizer.json of Qwen3 has 11 MB.
inline constexpr std::size_t kJsonFileLimit = std::size_t{256} << 20;

nlohmann::json ReadJsonFile(const std::filesystem::path& path);

}  // namespace suites

#endif  // SUITES_CHECKPOINT_JSON_FILE_H_
