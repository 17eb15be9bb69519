// What the harnesses share: a file that holds the input, and what an error may
// look like. Each harness defines LLVMFuzzerTestOneInput(); libFuzzer or
// standalone_driver.cc calls it.
#ifndef TESTS_FUZZ_FUZZ_H_
#define TESTS_FUZZ_FUZZ_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace fuzz {

// A folder in memory where there is /dev/shm, that goes when the process ends.
inline const std::filesystem::path& Folder() {
  struct Owner {
    Owner() {
      std::error_code error;
      const bool memory = std::filesystem::is_directory("/dev/shm", error);
      std::string name = ((memory ? "/dev/shm" : std::filesystem::temp_directory_path()) / "fuzz_XXXXXX").string();
      if (mkdtemp(name.data()) == nullptr) {
        std::perror("mkdtemp");
        std::abort();
      }
      path = name;
    }
    ~Owner() {
      std::error_code error;
      std::filesystem::remove_all(path, error);
    }
    std::filesystem::path path;
  };
  static const Owner owner;
  return owner.path;
}

// FOLDER/NAME with these bytes.
inline std::filesystem::path Write(const std::string& name, std::string_view bytes) {
  std::filesystem::path path = Folder() / name;
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr || std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || std::fclose(file) != 0) {
    std::perror(path.c_str());
    std::abort();
  }
  return path;
}

inline std::string_view Text(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

[[noreturn]] inline void Die(const std::string& reason) {
  std::fprintf(stderr, "fuzz: %s\n", reason.c_str());
  std::abort();
}

// Errors of the readers are one line of printable text, short enough to read.
inline void CheckMessage(const std::exception& error) {
  const std::string_view message = error.what();
  for (const char c : message) {
    if (static_cast<unsigned char>(c) < 0x20) Die("a message is not one line: " + std::string(message));
  }
  if (message.empty() || message.size() > 1000) Die("a message of " + std::to_string(message.size()) + " bytes");
}

// Runs `action`, which may throw nothing but `Error`; false where it did.
template <typename Error, typename Action>
bool Accepts(const Action& action) {
  try {
    action();
    return true;
  } catch (const Error& error) {
    CheckMessage(error);
    return false;
  }
}

// Reads every byte, so that a view that leaves its file is seen.
inline std::uint64_t Touch(std::span<const std::byte> bytes) {
  std::uint64_t sum = 0;
  for (const std::byte byte : bytes) sum += static_cast<std::uint64_t>(byte);
  return sum;
}

// Keeps the compiler from leaving out what made `value`.
template <typename T>
void Use(const T& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

}  // namespace fuzz

#endif  // TESTS_FUZZ_FUZZ_H_
