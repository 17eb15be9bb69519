// Folders and files for the tests of checkpoint readers.
#ifndef TESTS_SUITES_CHECKPOINT_SCRATCH_H_
#define TESTS_SUITES_CHECKPOINT_SCRATCH_H_

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "suites/checkpoint/safetensors.h"
#include "tests/support/temporary_folder.h"

namespace suites::testing_support {

using ScratchFolder = test_support::TemporaryFolder;

inline std::filesystem::path TestData() { return TEST_DATA_DIR; }

inline void WriteFile(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline nlohmann::json ReadJson(const std::filesystem::path& path) { return nlohmann::json::parse(ReadFile(path)); }

inline std::string LengthBytes(std::uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

// A safetensors file of any header, right or wrong.
inline std::string RawSafetensors(const std::string& header, std::size_t data_bytes) {
  return LengthBytes(header.size()) + header + std::string(data_bytes, '\1');
}

// Rewrites the header of a safetensors file and leaves its data alone.
inline void EditHeader(const std::filesystem::path& path, const std::function<void(nlohmann::json*)>& edit) {
  const std::string bytes = ReadFile(path);
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  nlohmann::json header = nlohmann::json::parse(bytes.substr(8, length));
  edit(&header);
  const std::string text = header.dump();
  WriteFile(path, LengthBytes(text.size()) + text + bytes.substr(8 + length));
}

inline void EditJson(const std::filesystem::path& path, const std::function<void(nlohmann::json*)>& edit) {
  nlohmann::json json = ReadJson(path);
  edit(&json);
  WriteFile(path, json.dump());
}

// The message of the CheckpointError that `action` throws; it must be one line
// that begins with `file`. "" where nothing is thrown.
inline std::string ErrorOf(const std::filesystem::path& file, const std::function<void()>& action) {
  try {
    action();
  } catch (const CheckpointError& error) {
    const std::string message = error.what();
    EXPECT_TRUE(message.starts_with(file.string())) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_LT(message.size(), 700u) << message;
    return message;
  }
  return "";
}

}  // namespace suites::testing_support

#endif  // TESTS_SUITES_CHECKPOINT_SCRATCH_H_
