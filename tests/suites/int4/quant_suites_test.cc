// quant_suites as a program: what a person gets for good and for bad input.
// Runs are kept short (few repetitions of few tokens); what they must show is
// not the noise but the behaviour around it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/suites/int4/program.h"
#include "tests/suites/int4/temporary_folder.h"

namespace suites {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ContainsRegex;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::UnorderedElementsAre;

namespace fs = std::filesystem;

std::string ReadFile(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class QuantSuitesTest : public testing::Test {
 protected:
  // The user's caches must not decide what a test sees.
  ProgramResult Run(std::vector<std::string> arguments, ProgramOptions options = {}) {
    options.environment.emplace_back("HF_HUB_CACHE", (folder_.path() / "no_cache").string());
    options.environment.emplace_back("QUANT_MODELS_DIR", "");
    // Nor its GPU: quant_suites_gpu_test is about that.
    if (std::find(arguments.begin(), arguments.end(), "--device") == arguments.end()) {
      arguments.insert(arguments.begin(), {"--device", "cpu"});
    }
    return RunProgram(QUANT_SUITES_PROGRAM, arguments, options);
  }
  std::vector<std::string> Short(std::vector<std::string> more, int repetitions = 3) const {
    std::vector<std::string> arguments = {"--output-dir",    Output().string(),
                                          "--repetitions",   std::to_string(repetitions),
                                          "--warmups",       "1",
                                          "--max-tokens",    "4",
                                          "--prompt-length", "48"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  fs::path Output() const { return folder_.path() / "out"; }
  // Result files by variant; every file in the folder must be a whole one.
  std::map<std::string, json> Results() const {
    std::map<std::string, json> results;
    if (!fs::exists(Output())) return results;
    for (const auto& entry : fs::directory_iterator(Output())) {
      if (entry.path().extension() != ".json") {
        EXPECT_THAT(entry.path().filename().string(), testing::EndsWith(".jsonl")) << "left behind";
        continue;
      }
      const json result = json::parse(ReadFile(entry.path()), nullptr, false);
      EXPECT_TRUE(result.is_object()) << entry.path() << " is not whole";
      results[result.value("variant", "?")] = result;
    }
    return results;
  }
  // A copy of an embedded checkpoint, to be damaged.
  fs::path CopyOf(const std::string& format) const {
    const fs::path copy = folder_.path() / ("copy_" + format);
    fs::copy(fs::path(EMBEDDED_MODELS) / format, copy, fs::copy_options::recursive);
    return copy;
  }
  TemporaryFolder folder_;
};

// One line, the program's name first, and a non-zero exit.
void ExpectRefusal(const ProgramResult& result, const std::string& what) {
  EXPECT_NE(result.exit_code, 0);
  EXPECT_THAT(result.err, AllOf(testing::StartsWith("quant_suites: "), HasSubstr(what)));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

TEST_F(QuantSuitesTest, ListsTheSixVariantsAndWhereTheirModelsAre) {
  const ProgramResult result = Run({"--list-variants"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 7);
  for (const char* id : {"awq_marlin", "awq", "gptq_marlin", "gptq", "openvino", "pytorch_int4"}) {
    EXPECT_THAT(result.out, ContainsRegex("\n" + std::string(id) + " .*embedded"));
  }
}

TEST_F(QuantSuitesTest, AFilterRunsTheVariantsItNames) {
  const ProgramResult result = Run(Short({"--gtest_filter=*marlin*"}));
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  const auto results = Results();
  EXPECT_EQ(results.size(), 2u);
  EXPECT_TRUE(results.contains("awq_marlin") && results.contains("gptq_marlin"));
}

TEST_F(QuantSuitesTest, FilterAndVariantsIntersect) {
  const ProgramResult both = Run(Short({"--variants", "awq_marlin", "awq", "--gtest_filter=*marlin*"}));
  EXPECT_EQ(both.exit_code, 0) << both.out << both.err;
  EXPECT_EQ(Results().size(), 1u);
  ExpectRefusal(Run(Short({"--variants", "awq", "--gtest_filter=*marlin*"})), "no variant was run");
}

TEST_F(QuantSuitesTest, ASeventhVariantNeedsNoRebuild) {
  json table = json::parse(ReadFile(SUITES_SOURCE_DIR "/variants.json"));
  table["seventh"] = table["gptq_marlin"];
  const fs::path file = folder_.path() / "seven.json";
  std::ofstream(file) << table;
  const ProgramResult listed = Run({"--variants-file", file.string(), "--list-variants"});
  EXPECT_EQ(std::count(listed.out.begin(), listed.out.end(), '\n'), 8);
  const ProgramResult result = Run(Short({"--variants-file", file.string(), "--variants", "seventh"}));
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_TRUE(Results().contains("seventh"));
}

TEST_F(QuantSuitesTest, AVariantWithoutAnExpectationIsNotAPass) {
  json table = json::parse(ReadFile(SUITES_SOURCE_DIR "/variants.json"));
  json one;
  one["free"] = table["awq"];
  one["free"].erase("expected");
  const fs::path file = folder_.path() / "one.json";
  std::ofstream(file) << one;
  const ProgramResult result = Run(Short({"--variants-file", file.string()}));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out, HasSubstr("free"));
}

TEST_F(QuantSuitesTest, RefusesAnUnknownVariantFlagOrFile) {
  ExpectRefusal(Run({"--variants", "awq", "nosuch"}), "no variant 'nosuch'");
  ExpectRefusal(Run({"--model-dir", "nosuch=/tmp"}), "no variant 'nosuch'");
  ExpectRefusal(Run({"--frobnicate"}), "--frobnicate");
  ExpectRefusal(Run({"--determinism_frobnicate"}), "--determinism_frobnicate");
  ExpectRefusal(Run({"--variants-file", (folder_.path() / "none").string()}), "cannot be read");
  EXPECT_NE(Run({"--gtest_frobnicate"}).exit_code, 0);
  EXPECT_THAT(Results(), IsEmpty());
}

TEST_F(QuantSuitesTest, RefusesABadTableOfVariants) {
  const fs::path file = folder_.path() / "bad.json";
  const auto refuse = [&](const std::string& text, const std::string& what) {
    std::ofstream(file) << text;
    ExpectRefusal(Run({"--variants-file", file.string()}), what);
  };
  refuse("{", "not JSON");
  refuse(R"({"a": {"model_name": "m"}})", "'quantization' is missing");
  refuse(R"({"a": {"model_name": "m", "quantization": "q", "description": "d", "format": "awq", "kernel": "warp"}})",
         "no kernel 'warp'");
}

TEST_F(QuantSuitesTest, RefusesAnOutputFolderThatCannotBeWritten) {
  ExpectRefusal(Run({"--output-dir", "/dev/null/out"}), "/dev/null/out");
  ExpectRefusal(Run({"--output-dir", "/proc/out"}), "/proc/out");
}

TEST_F(QuantSuitesTest, ABadPromptIsTheVariantsError) {
  const ProgramResult missing = Run(Short({"--variants", "awq", "--prompt-file", (folder_.path() / "none").string()}));
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(Results().at("awq").value("error", ""), HasSubstr("none: cannot be read"));
  std::ofstream(folder_.path() / "ids.json") << "[1, \"two\"]";
  const ProgramResult ids = Run(Short({"--variants", "awq", "--prompt-ids", (folder_.path() / "ids.json").string()}));
  EXPECT_EQ(ids.exit_code, 1);
  EXPECT_THAT(ids.out, HasSubstr("ids.json: must be a non-empty JSON list"));
  std::ofstream(folder_.path() / "large.json") << "[1, 4096]";
  const ProgramResult large =
      Run(Short({"--variants", "awq", "--prompt-ids", (folder_.path() / "large.json").string()}));
  EXPECT_THAT(large.out, HasSubstr("4096"));
  EXPECT_EQ(large.exit_code, 1);
}

// Each damage fails its own variant in one line; the next variant still runs.
TEST_F(QuantSuitesTest, ADamagedCheckpointFailsItsVariantAndTheNextRuns) {
  const fs::path copy = CopyOf("awq");
  const fs::path weights = copy / "model.safetensors";
  const std::string whole = ReadFile(weights);
  std::uint64_t header_bytes = 0;
  std::copy_n(whole.begin(), 8, reinterpret_cast<char*>(&header_bytes));
  const std::string header = whole.substr(8, header_bytes);
  const std::string data = whole.substr(8 + header_bytes);
  const auto rebuilt = [&](const std::string& new_header) {
    const std::uint64_t size = new_header.size();
    return std::string(reinterpret_cast<const char*>(&size), 8) + new_header + data;
  };
  std::string huge = whole;
  const std::uint64_t claimed = 1ULL << 63;
  std::copy_n(reinterpret_cast<const char*>(&claimed), 8, huge.begin());
  json overlapping = json::parse(header);
  json misshaped = overlapping;
  const std::string name = "model.layers.0.mlp.down_proj.qweight";
  // One row more, so that it reaches into the tensor behind it.
  overlapping[name]["shape"][0] = overlapping[name]["shape"][0].get<int>() + 1;
  overlapping[name]["data_offsets"][1] =
      overlapping[name]["data_offsets"][1].get<int>() + 4 * overlapping[name]["shape"][1].get<int>();
  misshaped[name]["shape"] = {misshaped[name]["shape"][1], misshaped[name]["shape"][0]};

  const std::vector<std::tuple<std::string, std::string, std::string>> damages = {
      {"truncated", whole.substr(0, whole.size() / 2), "model.safetensors"},
      {"header of 2^63 bytes", huge, "9223372036854775808"},
      {"overlapping tensors", rebuilt(overlapping.dump()), "overlap"},
      {"wrong shape", rebuilt(misshaped.dump()), "model.layers.0.mlp.down_proj"},
  };
  for (const auto& [damage, content, what] : damages) {
    SCOPED_TRACE(damage);
    fs::remove_all(Output());
    std::ofstream(weights, std::ios::binary | std::ios::trunc) << content;
    const ProgramResult result = Run(Short({"--variants", "awq", "awq_marlin", "--model-dir", "awq=" + copy.string()}));
    EXPECT_EQ(result.exit_code, 1);
    auto results = Results();
    ASSERT_EQ(results.size(), 2u);
    EXPECT_EQ(results["awq"]["success"], false);
    const std::string error = results["awq"]["error"];
    EXPECT_THAT(error, AllOf(HasSubstr(what), Not(HasSubstr("\n"))));
    EXPECT_EQ(results["awq_marlin"]["success"], true);
  }
  // The control: the same copy, whole again.
  fs::remove_all(Output());
  std::ofstream(weights, std::ios::binary | std::ios::trunc) << whole;
  const ProgramResult control = Run(Short({"--variants", "awq", "--model-dir", "awq=" + copy.string()}));
  EXPECT_EQ(control.exit_code, 0) << control.out << control.err;
  EXPECT_EQ(Results().at("awq")["model_source"], "--model-dir");
}

TEST_F(QuantSuitesTest, AModelFolderWithoutAConfigIsNamed) {
  const ProgramResult result =
      Run(Short({"--variants", "awq", "gptq_marlin", "--model-dir", "awq=" + folder_.path().string()}));
  EXPECT_EQ(result.exit_code, 1);
  auto results = Results();
  EXPECT_THAT(results["awq"].value("error", ""), HasSubstr("config.json"));
  EXPECT_EQ(results["gptq_marlin"]["success"], true);
}

TEST_F(QuantSuitesTest, AFullDiskLeavesNothingHalfWritten) {
  const ProgramResult result = Run(Short({"--variants", "awq"}), {.file_size_limit = 4096});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out + result.err, HasSubstr(Output().string()));
  EXPECT_THAT(Results(), IsEmpty());
}

TEST_F(QuantSuitesTest, KilledInTheFourthVariantThreeWholeFilesRemain) {
  {
    std::vector<std::string> arguments = Short({"--variants", "all"});
    Program program(QUANT_SUITES_PROGRAM, arguments, {.environment = {{"HF_HUB_CACHE", "/nonexistent"}}});
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
    const auto files = [&] {
      std::error_code none;
      std::ptrdiff_t count = 0;
      for (fs::directory_iterator entry(Output(), none), end; !none && entry != end; entry.increment(none)) {
        count += entry->path().extension() == ".json";
      }
      return count;
    };
    while (program.Running() && files() < 3 && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    program.Kill();
    EXPECT_EQ(program.Wait().exit_code, 128 + 9);
  }
  // The kill may have come after the fourth file's rename; never in the middle.
  const std::size_t before = Results().size();
  EXPECT_GE(before, 3u);
  EXPECT_LT(before, 6u);
  const ProgramResult next = Run(Short({"--variants", "gptq_marlin"}));
  EXPECT_EQ(next.exit_code, 0) << next.out << next.err;
}

TEST_F(QuantSuitesTest, RepeatedRunsNeverOverwriteAFile) {
  const ProgramResult result = Run(Short({"--variants", "awq", "--gtest_repeat=3"}));
  EXPECT_EQ(result.exit_code, 0) << result.out;
  std::size_t files = 0;
  for (const auto& entry : fs::directory_iterator(Output())) files += entry.path().extension() == ".json";
  EXPECT_EQ(files, 3u);
}

TEST_F(QuantSuitesTest, AResultHoldsWhatItPromises) {
  const ProgramResult result = Run(Short({"--variants", "gptq_marlin", "--seed", "7"}, 4));
  ASSERT_EQ(result.exit_code, 0) << result.out << result.err;
  const json file = Results().at("gptq_marlin");
  EXPECT_EQ(file["model_source"], "embedded");
  EXPECT_THAT(file["model"].get<std::string>(), Not(HasSubstr("Qwen3-8B")));
  EXPECT_EQ(file["config"]["repetitions"], 4);
  EXPECT_EQ(file["config"]["seed"], 7);
  EXPECT_EQ(file["prompt_length"], 48);
  EXPECT_EQ(file["baseline"]["tokens"].size(), 4u);
  EXPECT_EQ(file["baseline"]["tokens"][0].size(), 4u);
  EXPECT_EQ(file["verdict"]["is_deterministic"], true);
  EXPECT_EQ(file["verdict"]["summary"], "BASELINE IS DETERMINISTIC");
  EXPECT_EQ(file["kernels"]["profiling_succeeded"], true);
  EXPECT_FALSE(file["kernels"]["marlin_kernels"].empty());
}

// In float32 no INT4 kernel runs, also not one whose sums meet in arrival order.
TEST_F(QuantSuitesTest, Float32RunsTheExactWeightsAndDumpsItsLogits) {
  const fs::path dump = folder_.path() / "logits";
  std::ofstream(folder_.path() / "forced.json") << "[5, 6, 7, 8]";
  const ProgramResult result = Run(Short({"--variants", "gptq", "--compute", "fp32", "--dump-logits", dump.string(),
                                          "--force-ids", (folder_.path() / "forced.json").string()}));
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  const json file = Results().at("gptq");
  EXPECT_EQ(file["verdict"]["is_deterministic"], true);
  EXPECT_EQ(file["baseline"]["tokens"][0], json({5, 6, 7, 8}));
  const std::string safetensors = ReadFile(dump / "gptq.safetensors");
  ASSERT_GT(safetensors.size(), 8u);
  std::uint64_t header_bytes = 0;
  std::copy_n(safetensors.begin(), 8, reinterpret_cast<char*>(&header_bytes));
  const json header = json::parse(safetensors.substr(8, header_bytes));
  EXPECT_EQ(header["prompt_logits"]["shape"], json({48, 4096}));
  EXPECT_EQ(header["step_logits"]["shape"], json({4, 4096}));
  EXPECT_EQ(safetensors.size(), 8 + header_bytes + (48 + 4) * 4096 * sizeof(float));
}

TEST_F(QuantSuitesTest, TheLibrarysFlagsSetRepetitionsAndSeed) {
  const std::vector<std::string> few = {"--output-dir",    Output().string(),
                                        "--variants",      "awq",
                                        "--warmups",       "0",
                                        "--max-tokens",    "2",
                                        "--prompt-length", "8"};
  const auto with = [&](std::vector<std::string> more, ProgramOptions options = {}) {
    fs::remove_all(Output());
    more.insert(more.begin(), few.begin(), few.end());
    const ProgramResult result = Run(more, options);
    EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
    return Results().at("awq");
  };
  EXPECT_EQ(with({})["config"]["repetitions"], 20);
  EXPECT_EQ(with({"--determinism_runs=7"})["baseline"]["tokens"].size(), 7u);
  EXPECT_EQ(with({}, {.environment = {{"DETERMINISM_RUNS", "6"}}})["config"]["repetitions"], 6);
  // 59 runs without a deviation exclude a rate of 5 %: 1 - 0.05^(1/59) = 0.0495.
  EXPECT_EQ(with({"--determinism_rate_below=0.05"})["config"]["repetitions"], 60);
  EXPECT_EQ(with({"--determinism_seed=9"})["config"]["seed"], 9);
  EXPECT_TRUE(with({"--determinism_perturb=false"})["power"]["perturbations"].empty());
  ExpectRefusal(Run(Short({"--determinism_runs=7"})), "--repetitions and --determinism_runs");
}

TEST_F(QuantSuitesTest, ADumpFolderThatCannotBeWrittenIsFoundAtOnce) {
  ExpectRefusal(Run(Short({"--variants", "awq", "--dump-logits", "/dev/null/logits"})), "--dump-logits");
}

TEST_F(QuantSuitesTest, EmbeddedIsTheEmbeddedModelWhateverElseIsFound) {
  const fs::path models = folder_.path() / "models";
  fs::create_directories(models / "awq");
  std::ofstream(models / "awq" / "config.json") << "{}";
  ProgramOptions options;
  options.environment.emplace_back("QUANT_MODELS_DIR", models.string());
  // Without the flag the broken one is taken, and said to be broken.
  EXPECT_EQ(RunProgram(QUANT_SUITES_PROGRAM, Short({"--variants", "awq"}), options).exit_code, 1);
  fs::remove_all(Output());
  EXPECT_EQ(RunProgram(QUANT_SUITES_PROGRAM, Short({"--variants", "awq", "--embedded"}), options).exit_code, 0);
  EXPECT_EQ(Results().at("awq")["model_source"], "embedded");
}

// The noisy variant in full: cause, evidence, what ends it, and the warning.
TEST_F(QuantSuitesTest, TheArrivalOrderVariantNamesItsCauseOnEvidence) {
  const ProgramResult result =
      Run({"--output-dir", Output().string(), "--variants", "gptq", "--repetitions", "12", "--warmups", "1"});
  ASSERT_EQ(result.exit_code, 0) << result.out << result.err;
  const json file = Results().at("gptq");
  EXPECT_EQ(file["verdict"]["is_deterministic"], false);
  EXPECT_THAT(file["verdict"]["root_cause"].get<std::string>(), testing::StartsWith("Order of accumulation in layer"));
  for (const char* key :
       {"first_operation", "replay_differs", "ordered_twin_exact", "within_rounding_bound", "switch_ends_it"}) {
    EXPECT_EQ(file["evidence"][key]["finding"], "shown") << key << ": " << file["evidence"][key];
  }
  EXPECT_GT(file["interventions"][0]["time_ratio"].get<double>(), 0.0);
  EXPECT_EQ(file["deterministic"]["outcome"], "bit_exact");
  ASSERT_EQ(file["warnings"].size(), 1u);
  EXPECT_EQ(file["warnings"][0], "ran the embedded model tiny_qwen3-gptq, not JunHowie/Qwen3-8B-GPTQ-Int4");
  EXPECT_EQ(file["kernels"]["expected_count"], file["kernels"]["expected_at_least"]);
}

TEST_F(QuantSuitesTest, StrictTurnsExpectedNoiseIntoAFailure) {
  std::vector<std::string> arguments = {"--variants",    "gptq", "--output-dir", Output().string(),
                                        "--repetitions", "10",   "--warmups",    "1"};
  const ProgramResult expected = Run(arguments);
  EXPECT_EQ(expected.exit_code, 0) << expected.out << expected.err;
  arguments.push_back("--determinism_strict");
  const ProgramResult strict = Run(arguments);
  EXPECT_EQ(strict.exit_code, 1);
  EXPECT_THAT(strict.out, HasSubstr("--determinism_strict allows no noise"));
}

}  // namespace
}  // namespace suites
