// Golden files: the whole text of a writer, kept in tests/golden/reporters.
#ifndef TESTS_REPORTERS_GOLDEN_H_
#define TESTS_REPORTERS_GOLDEN_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace reporters {

inline std::string ReadAll(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
}

// With GOLDEN_UPDATE=1 in the environment the file is written instead, and the
// test fails, so that a run that updates never counts as one that checked.
inline testing::AssertionResult MatchesGolden(const std::string& text, const std::string& name) {
  const std::string path = std::string(TESTS_GOLDEN_DIR) + "/" + name;
  const char* update = std::getenv("GOLDEN_UPDATE");
  if (update != nullptr && *update == '1') {
    std::ofstream(path, std::ios::binary) << text;
    return testing::AssertionFailure() << "wrote " << path << "; look at it and run again without GOLDEN_UPDATE";
  }
  const std::string golden = ReadAll(path);
  if (golden == text && !golden.empty()) return testing::AssertionSuccess();
  std::istringstream a(golden), b(text);
  std::string expected, actual;
  for (int line = 1; a.good() || b.good(); ++line) {
    if (!std::getline(a, expected)) expected = "(end)";
    if (!std::getline(b, actual)) actual = "(end)";
    if (expected != actual) {
      return testing::AssertionFailure() << path << ", line " << line << "\n  golden: " << expected
                                         << "\n  actual: " << actual << "\nGOLDEN_UPDATE=1 writes it anew";
    }
  }
  return testing::AssertionFailure() << path << " is missing or empty; GOLDEN_UPDATE=1 writes it";
}

}  // namespace reporters

#endif  // TESTS_REPORTERS_GOLDEN_H_
