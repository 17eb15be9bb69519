#include "gtest_determinism/init.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "gtest_determinism/configuration.h"

namespace gtest_determinism {
namespace {

bool help_asked = false;

bool Sharded() {
  const char* shards = std::getenv("GTEST_TOTAL_SHARDS");
  return shards != nullptr && std::atoi(shards) > 1;
}

}  // namespace

void InitDeterminism(int* argc, char** argv) {
  try {
    SetConfiguration(ParseConfiguration(argc, argv));
  } catch (const std::invalid_argument& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    std::exit(kExitUsage);
  }
  for (int i = 1; i < *argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--") break;
    if (argument == "--help" || argument == "-h" || argument == "-?" || argument == "/?") help_asked = true;
  }
  if (help_asked) {
    const std::string_view help = ConfigurationHelp();
    std::printf("\n%.*s", static_cast<int>(help.size()), help.data());
  }
}

int RunAllTests() {
  const int code = RUN_ALL_TESTS();
  if (code != 0 || help_asked || GTEST_FLAG_GET(list_tests) || Sharded()) return code;
  if (testing::UnitTest::GetInstance()->test_to_run_count() > 0) return code;
  std::fprintf(stderr, "error: no test was selected: --gtest_filter=%s matches none that is enabled\n",
               GTEST_FLAG_GET(filter).c_str());
  return 1;
}

}  // namespace gtest_determinism
