// quantize_checkpoint as a program: exit codes, messages, what is left behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "tests/suites/quantize/scratch_folder.h"

namespace suites::quantize {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::MatchesRegex;

struct Result {
  int exit_code = -1;
  std::string out;  // stdout and stderr
};

Result RunProgram(const std::string& arguments, const std::string& before = "") {
  const std::string command = before + " " QUANTIZE_CHECKPOINT_PROGRAM " " + arguments + " 2>&1";
  Result result;
  std::FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return result;
  char buffer[4096];
  while (std::fgets(buffer, sizeof buffer, pipe) != nullptr) result.out += buffer;
  const int status = pclose(pipe);
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

std::set<std::string> FilesIn(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return names;
}

class QuantizeCheckpoint : public testing::Test {
 protected:
  void ExpectError(const std::string& arguments, const std::string& message, const std::string& before = "",
                   int exit_code = 1) {
    const Result result = RunProgram(arguments, before);
    EXPECT_EQ(result.exit_code, exit_code) << arguments;
    EXPECT_THAT(result.out, HasSubstr(message)) << arguments;
    EXPECT_THAT(result.out, MatchesRegex("quantize_checkpoint: [^\n]*\n")) << "one line";
  }
  ScratchFolder folder_;
  const std::string output_ = (folder_.path() / "out").string();
};

constexpr const char* kSmall = "--random --shape hidden=128,intermediate=256,layers=1,heads=2,head_dim=64,vocab=300";

TEST_F(QuantizeCheckpoint, WritesTheTinyModel) {
  const Result result = RunProgram("--model " TINY_QWEN3 " --format awq --output " + output_);
  EXPECT_EQ(result.exit_code, 0) << result.out;
  EXPECT_THAT(result.out, MatchesRegex(".*/out: awq, 68 tensors, 5\\.2 MB of weights, [0-9.]+ s "
                                       "\\(waiting for weights [0-9.]+ s, writing [0-9.]+ s\\)\n"));
  EXPECT_EQ(FilesIn(folder_.path()), (std::set<std::string>{"out"}));
  EXPECT_EQ(ReadAll(output_ + "/tokenizer.json"), ReadAll(TINY_QWEN3 "/tokenizer.json"));
}

// glibc picks other implementations of its functions for a CPU without these.
TEST_F(QuantizeCheckpoint, BytesDoNotDependOnWhatTheCpuOffers) {
  const std::string poorer = "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX2,-AVX,-FMA,-FMA4,-SSE4_2,-SSE4_1";
  for (const std::string format : {"awq", "gptq", "torchao", "openvino"}) {
    const std::string arguments = "--model " TINY_QWEN3 " --format " + format + " --output ";
    const Result rich = RunProgram(arguments + output_ + "-rich-" + format);
    if (rich.out.find("this build has no OpenVINO") != std::string::npos) continue;
    ASSERT_EQ(rich.exit_code, 0) << rich.out;
    const Result poor = RunProgram(arguments + output_ + "-poor-" + format + " --threads 3", poorer);
    ASSERT_EQ(poor.exit_code, 0) << poor.out;
    for (const std::string& name : FilesIn(output_ + "-rich-" + format)) {
      EXPECT_EQ(ReadAll(output_ + "-rich-" + format + "/" + name) == ReadAll(output_ + "-poor-" + format + "/" + name),
                true)
          << format << "/" << name;
    }
  }
}

TEST_F(QuantizeCheckpoint, OneLineForEachMistake) {
  const std::string out = " --output " + output_;
  ExpectError("--format awq" + out, "give --model FOLDER, or --random --shape SHAPE", "", 2);
  ExpectError("--model " TINY_QWEN3 " --format int3" + out, "--format: int3 not in {awq,gptq,torchao,openvino}", "", 2);
  ExpectError("--model /nowhere/model --format awq" + out, "/nowhere/model: no such folder");
  ExpectError("--random --shape qwen9 --format awq" + out, "--shape: 'qwen9' is not known", "", 2);
  ExpectError(std::string(kSmall) + " --format awq --group-size 7" + out, "--group-size: 7 not in {32,64,128}", "", 2);
  ExpectError(std::string(kSmall) + " --format awq --output /proc/out", "/proc/out: cannot make");
  fs::create_directory(folder_.path() / "empty-model");
  ExpectError("--model " + (folder_.path() / "empty-model").string() + " --format gptq" + out,
              "config.json is missing");
  EXPECT_FALSE(fs::exists(output_));
  EXPECT_NE(RunProgram("--model " TINY_QWEN3 " --random --format awq" + out).exit_code, 0);
  EXPECT_NE(RunProgram("--unknown-flag").exit_code, 0);
}

TEST_F(QuantizeCheckpoint, TruncatedCheckpoint) {
  const fs::path model = folder_.path() / "model";
  fs::create_directory(model);
  for (const auto& entry : fs::directory_iterator(TINY_QWEN3)) {
    fs::copy_file(entry.path(), model / entry.path().filename());
  }
  fs::permissions(model / "model.safetensors", fs::perms::owner_write, fs::perm_options::add);
  fs::resize_file(model / "model.safetensors", 5'000'000);
  ExpectError("--model " + model.string() + " --format awq --output " + output_, "model.safetensors");
  EXPECT_FALSE(fs::exists(output_));
}

// A disk that fills up while it writes, by a limit on the size of a file.
TEST_F(QuantizeCheckpoint, WritesThatFailLeaveNothing) {
  for (const std::string format : {"awq", "openvino"}) {
    const std::string arguments = "--model " TINY_QWEN3 " --format " + format + " --output " + output_;
    const Result probe = RunProgram(arguments + "-probe");
    if (probe.out.find("this build has no OpenVINO") != std::string::npos) continue;
    fs::remove_all(output_ + "-probe");
    for (const std::string blocks : {"2000", "10"}) {  // of 1024 bytes
      ExpectError(arguments, "File too large", "trap '' XFSZ; ulimit -f " + blocks + ";");
      EXPECT_TRUE(FilesIn(folder_.path()).empty()) << format;
    }
  }
}

TEST_F(QuantizeCheckpoint, HelpSaysWhatARandomModelLacks) {
  const Result result = RunProgram("--help");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("--prompt-ids"));
}

// Terminated in the middle: the folder does not appear, nothing is left.
TEST_F(QuantizeCheckpoint, TerminatedInTheMiddle) {
  const std::string large = "--random --shape qwen3-4b --format awq --threads 1 --output " + output_;
  const Result result = RunProgram(large, "timeout -s TERM 1");
  EXPECT_NE(result.exit_code, 0);
  EXPECT_TRUE(FilesIn(folder_.path()).empty());
}

// kill -9 leaves the temporary folder, which disturbs no later run.
TEST_F(QuantizeCheckpoint, KilledInTheMiddle) {
  const std::string large = "--random --shape qwen3-4b --format awq --threads 1 --output " + output_;
  EXPECT_NE(RunProgram(large, "timeout -s KILL 1").exit_code, 0);
  EXPECT_FALSE(fs::exists(output_));
  EXPECT_EQ(RunProgram(std::string(kSmall) + " --format awq --output " + output_).exit_code, 0);
  EXPECT_TRUE(fs::exists(output_ + "/config.json"));
}

}  // namespace
}  // namespace suites::quantize
