#include "suites/int4/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace suites {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

CommandLine Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "quant_suites");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data(), "default.json");
}

// What a refused command line prints: one line that names the thing.
std::string RefusalOf(std::vector<const char*> arguments) {
  testing::internal::CaptureStderr();
  const CommandLine parsed = Parse(std::move(arguments));
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(parsed.exit_code, 2);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1) << text;
  return text;
}

TEST(CommandLineTest, DefaultsAreThoseOfTheDesign) {
  const CommandLine parsed = Parse({});
  EXPECT_FALSE(parsed.exit_code);
  EXPECT_THAT(parsed.options.variants, IsEmpty());
  EXPECT_EQ(parsed.options.variants_file, "default.json");
  EXPECT_EQ(parsed.options.repetitions, 20);
  EXPECT_EQ(parsed.options.warmups, 3);
  EXPECT_EQ(parsed.options.max_tokens, 50);
  EXPECT_EQ(parsed.options.max_model_len, 8192);
  EXPECT_EQ(parsed.options.seed, 42u);
  EXPECT_EQ(parsed.options.device, "auto");
  EXPECT_EQ(parsed.options.provider, "auto");
}

TEST(CommandLineTest, TakesSeveralVariantsAndThenOtherFlags) {
  const CommandLine parsed = Parse({"--variants", "awq_marlin", "awq", "--output-dir", "out", "--repetitions=7"});
  EXPECT_FALSE(parsed.exit_code);
  EXPECT_THAT(parsed.options.variants, ElementsAre("awq_marlin", "awq"));
  EXPECT_EQ(parsed.options.output_dir, "out");
  EXPECT_EQ(parsed.options.repetitions, 7);
}

TEST(CommandLineTest, LeavesTheFlagsOfGoogleTestAndOfTheLibrary) {
  const CommandLine parsed = Parse({"--variants", "awq", "--gtest_filter=*x*", "--determinism_strict", "gptq"});
  EXPECT_FALSE(parsed.exit_code);
  EXPECT_THAT(parsed.rest, ElementsAre("quant_suites", "--gtest_filter=*x*", "--determinism_strict"));
  EXPECT_THAT(parsed.options.variants, ElementsAre("awq", "gptq"));
}

TEST(CommandLineTest, ModelDirsArePairs) {
  const CommandLine parsed = Parse({"--model-dir", "awq=/a/b", "--model-dir", "gptq=c=d"});
  EXPECT_FALSE(parsed.exit_code);
  EXPECT_EQ(parsed.options.model_dirs.at("awq"), "/a/b");
  EXPECT_EQ(parsed.options.model_dirs.at("gptq"), "c=d");
  EXPECT_THAT(RefusalOf({"--model-dir", "awq"}), HasSubstr("'awq' is not VARIANT=PATH"));
}

TEST(CommandLineTest, RefusesInOneLine) {
  EXPECT_THAT(RefusalOf({"--nosuchflag"}), HasSubstr("--nosuchflag"));
  EXPECT_THAT(RefusalOf({"--repetitions", "0"}), HasSubstr("--repetitions"));
  EXPECT_THAT(RefusalOf({"--repetitions", "many"}), HasSubstr("--repetitions"));
  EXPECT_THAT(RefusalOf({"--compute", "fp8"}), HasSubstr("--compute"));
  EXPECT_THAT(RefusalOf({"--provider", "tensorrt"}), HasSubstr("--provider"));
  EXPECT_THAT(RefusalOf({"--prompt", "a", "--prompt-file", "b"}),
              AllOf(HasSubstr("--prompt"), HasSubstr("--prompt-file")));
}

TEST(CommandLineTest, DevicesAreNamedAsTheDesignSays) {
  for (const char* device : {"auto", "cpu", "cuda", "cuda:0", "cuda:12"}) {
    EXPECT_FALSE(Parse({"--device", device}).exit_code) << device;
  }
  for (const char* device : {"gpu", "cuda:", "cuda:x", "cuda0", "cuda:-1", "CPU"}) {
    EXPECT_THAT(RefusalOf({"--device", device}), AllOf(HasSubstr(device), HasSubstr("cuda:N"))) << device;
  }
}

TEST(CommandLineTest, FlagsOfAGpuAreRefusedOnTheCpu) {
  EXPECT_THAT(RefusalOf({"--device", "cpu", "--eager"}), HasSubstr("--eager"));
  EXPECT_THAT(RefusalOf({"--device", "cpu", "--attention", "flash"}), HasSubstr("--attention"));
  EXPECT_FALSE(Parse({"--device", "cuda", "--eager", "--attention", "flash"}).exit_code);
}

TEST(CommandLineTest, BatchInvarianceIsOffUnlessAsked) {
  EXPECT_FALSE(Parse({}).options.batch_invariant);
  EXPECT_TRUE(Parse({"--batch-invariant"}).options.batch_invariant);
}

TEST(CommandLineTest, AnOpLibraryMustBeThere) {
  EXPECT_THAT(RefusalOf({"--op-library", "/no/such/library.so"}), HasSubstr("/no/such/library.so"));
  EXPECT_FALSE(Parse({"--op-library", "/proc/self/exe"}).exit_code);
}

TEST(CommandLineTest, HelpEndsWithZeroAndNamesEveryFlag) {
  testing::internal::CaptureStdout();
  const CommandLine parsed = Parse({"--help"});
  const std::string text = testing::internal::GetCapturedStdout();
  EXPECT_EQ(parsed.exit_code, 0);
  for (const char* flag :
       {"--list-variants", "--variants", "--variants-file", "--output-dir",  "--model-dir",
        "--device",        "--provider", "--op-library",    "--repetitions", "--max-tokens",
        "--max-model-len", "--prompt",   "--prompt-file",   "--prompt-ids",  "--prompt-length",
        "--seed",          "--compute",  "--force-ids",     "--dump-logits", "--gpu-memory-utilization"}) {
    EXPECT_THAT(text, HasSubstr(flag));
  }
}

}  // namespace
}  // namespace suites
