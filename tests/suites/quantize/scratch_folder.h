#ifndef TESTS_SUITES_QUANTIZE_SCRATCH_FOLDER_H_
#define TESTS_SUITES_QUANTIZE_SCRATCH_FOLDER_H_

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>

#include "tests/support/temporary_folder.h"

namespace suites::quantize {

using ScratchFolder = test_support::TemporaryFolder;

inline std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path.string() + ": cannot be read");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace suites::quantize

#endif  // TESTS_SUITES_QUANTIZE_SCRATCH_FOLDER_H_
