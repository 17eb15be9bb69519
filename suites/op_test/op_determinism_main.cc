// op_determinism: any operator of any torch op library, tested as JSON describes it.
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "gtest_determinism/configuration.h"
#include "gtest_determinism/init.h"
#include "kernels/providers/op_library.h"
#include "kernels/torch_cuda.h"
#include "suites/op_test/description.h"
#include "suites/op_test/op_tests.h"
#include "suites/startup/arguments.h"

namespace {

constexpr char kFooter[] =
    "Every --gtest_ and --determinism_ flag works too; --gtest_list_tests names the tests.\n"
    "\n"
    "Op libraries that are not named are looked for when an operator is not torch's own:\n"
    "$QUANT_OP_LIBRARIES (files, separated by colons), else the package vllm in $VIRTUAL_ENV\n"
    "or in the environment of the python3 on $PATH.\n"
    "\n"
    "Exit code: 0 when every test met its expectation, 1 when one did not, 2 when the command\n"
    "line, a description or an op library cannot be used.";

int Refuse(const std::string& message) {
  std::cerr << "op_determinism: " << message << '\n';
  return gtest_determinism::kExitUsage;
}

bool IsKnown(const suites::op_test::OpTest& test) {
  try {
    kernels::FindOperator(test.op, test.overload);
    return true;
  } catch (const std::invalid_argument&) {
    return false;
  }
}

int Run(int argc, char** argv) {
  std::vector<char*> rest = {argv[0]};
  std::vector<std::string> own;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.starts_with("--gtest_") || argument.starts_with("--determinism_")) {
      rest.push_back(argv[i]);
    } else {
      own.push_back(argument);
    }
  }
  CLI::App app("Tests torch operators for bit-exactness over repetitions, as JSON files describe them.",
               "op_determinism");
  app.footer(kFooter);
  std::vector<std::filesystem::path> libraries, descriptions;
  std::string device = "auto";
  app.add_option("--op-library", libraries, "Torch op library (.so) to open; may be repeated")
      ->type_name("FILE")
      ->allow_extra_args(false);
  app.add_option("--description", descriptions, "What to test, docs/op_descriptions.md; may be repeated")
      ->type_name("FILE")
      ->required()
      ->allow_extra_args(false);
  app.add_option("--device", device, "auto (as described), cpu or cuda[:N] (default: auto)")->type_name("DEVICE");
  if (const auto exit_code = suites::ParseArguments(app, own)) return *exit_code;

  std::vector<suites::op_test::OpTest> tests;
  std::vector<std::string> device_of;  // where each test's device is said: "F.json: device", "--device"
  std::map<std::string, std::string> file_of;
  for (const std::filesystem::path& file : descriptions) {
    for (suites::op_test::OpTest& test : suites::op_test::ReadDescription(file)) {
      const auto [known, added] = file_of.emplace(test.suite, file.string());
      if (!added && known->second != file.string()) {
        return Refuse(file.string() + ": name: " + known->second + " has the name " + test.suite + " too");
      }
      device_of.push_back(device == "auto" ? file.string() + ": device" : "--device");
      if (device != "auto") test.device = device;
      tests.push_back(std::move(test));
    }
  }

  int rest_count = static_cast<int>(rest.size());
  rest.push_back(nullptr);
  testing::InitGoogleTest(&rest_count, rest.data());
  gtest_determinism::InitDeterminism(&rest_count, rest.data());
  if (rest_count > 1) return Refuse(std::string("unknown flag ") + rest[1] + "; see --help");
  suites::op_test::RegisterOpTests(tests);
  if (GTEST_FLAG_GET(list_tests)) return RUN_ALL_TESTS();

  for (std::size_t i = 0; i < tests.size(); ++i) {
    if (tests[i].device == "cpu") continue;
    try {
      kernels::CudaDeviceIndex(tests[i].device);
    } catch (const std::invalid_argument& error) {
      return Refuse(device_of[i] + ": " + error.what());
    }
  }
  for (const kernels::OpLibrary& library : kernels::OpenOpLibraries(libraries)) {
    std::cout << kernels::Describe(library) << ": " << library.operators.size() << " operators\n";
  }
  for (const suites::op_test::OpTest& test : tests) {
    if (IsKnown(test)) continue;
    kernels::OpenOpLibraries(kernels::FindOpLibraries());
    kernels::FindOperator(test.op, test.overload);
  }
  return gtest_determinism::RunAllTests();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run(argc, argv);
  } catch (const std::exception& error) {
    return Refuse(error.what());
  }
}
