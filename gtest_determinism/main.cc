// main() of test programs that need none of their own.
#include <gtest/gtest.h>

#include <cstdio>
#include <string_view>

#include "gtest_determinism/init.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  gtest_determinism::InitDeterminism(&argc, argv);
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--help" || argument == "-h" || argument == "-?" || argument == "/?") break;
    // gtest answers an unknown --gtest_ flag with its help and exit code 0.
    std::fprintf(stderr, "error: unknown argument %s; --help lists what is known\n", argv[i]);
    return gtest_determinism::kExitUsage;
  }
  return gtest_determinism::RunAllTests();
}
