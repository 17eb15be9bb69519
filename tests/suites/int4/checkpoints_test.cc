// quant_suites as a program on every checkpoint that another tool wrote: its dumped logits,
// teacher-forced, against the references in float32.
#include "tests/suites/model/checkpoints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/suites/int4/program.h"
#include "tests/suites/int4/temporary_folder.h"

namespace suites {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

struct Case {
  std::string checkpoint, format, kernel;
  double bound;
  friend void PrintTo(const Case& c, std::ostream* os) { *os << c.checkpoint; }
};
std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const auto& [name, format] : ReferenceCheckpoints()) {
    cases.push_back({name, format, format == std::string("torchao") ? "tinygemm" : format, 1e-3});
  }
#if defined(HAVE_OPENVINO)
  for (const char* name : {"openvino", "openvino_2025_asymmetric", "openvino_2025_symmetric", "openvino_2026_symmetric",
                           "openvino_2026_columns"}) {
    cases.push_back({name, "openvino", "openvino", 1e-4});
  }
#endif
  return cases;
}

class QuantSuitesOnCheckpoints : public testing::TestWithParam<Case> {
 protected:
  void Write(const char* name, const json& content) const { std::ofstream(folder_.path() / name) << content; }
  fs::path Path(const char* name) const { return folder_.path() / name; }

  // The dumped logits of p7, prompt and steps.
  void Run(const std::string& compute, std::vector<float>& prompt, std::vector<float>& steps, json& result) {
    const ReferencePrompt p7 = ReadReference(GetParam().checkpoint, "p7");
    Write("prompt.json", p7.prompt_ids);
    Write("forced.json", p7.generated_ids);
    Write("variants.json", {{"it",
                             {{"model_name", GetParam().checkpoint},
                              {"quantization", nullptr},
                              {"description", "a checkpoint of the tests"},
                              {"format", GetParam().format},
                              {"kernel", GetParam().kernel}}}});
    const fs::path out = Path(("out_" + compute).c_str()), dump = Path(("dump_" + compute).c_str());
    const ProgramResult program =
        RunProgram(QUANT_SUITES_PROGRAM, {"--variants-file", Path("variants.json").string(),
                                          "--model-dir",     "it=" + TestCheckpoint(GetParam().checkpoint).string(),
                                          "--prompt-ids",    Path("prompt.json").string(),
                                          "--force-ids",     Path("forced.json").string(),
                                          "--compute",       compute,
                                          "--dump-logits",   dump.string(),
                                          "--output-dir",    out.string(),
                                          "--repetitions",   "2",
                                          "--warmups",       "0",
                                          "--max-tokens",    "20",
                                          "--device",        "cpu"});
    for (const auto& entry : fs::directory_iterator(out)) {
      if (entry.path().extension() == ".json") result = json::parse(std::ifstream(entry.path()), nullptr, false);
    }
    ASSERT_TRUE(result.is_object()) << program.out << program.err;
    ASSERT_TRUE(fs::exists(dump / "it.safetensors")) << program.out << program.err;
    const auto reader = SafetensorsReader::Open(dump / "it.safetensors");
    prompt = Floats(reader.Get("prompt_logits"));
    steps = Floats(reader.Get("step_logits"));
  }

 private:
  static std::vector<float> Floats(const StoredTensor& stored) {
    EXPECT_EQ(stored.dtype, "F32");
    std::vector<float> values(stored.data.size() / sizeof(float));
    std::memcpy(values.data(), stored.data.data(), stored.data.size());
    return values;
  }

  TemporaryFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(Checkpoints, QuantSuitesOnCheckpoints, testing::ValuesIn(Cases()),
                         [](const auto& info) { return info.param.checkpoint; });

TEST_P(QuantSuitesOnCheckpoints, DumpedLogitsAreTheReferences) {
  const std::string name = GetParam().checkpoint;
  const std::vector<float> prompt = ReadReferenceLogits(name, "p7.prompt_logits");
  const std::vector<float> steps = ReadReferenceLogits(name, "p7.step_logits");
  std::vector<float> of_prompt, of_steps, own_prompt, own_steps;
  json exact, own;
  ASSERT_NO_FATAL_FAILURE(Run("fp32", of_prompt, of_steps, exact));
  EXPECT_EQ(exact.at("success"), true);
  EXPECT_LE(LargestDifference(of_prompt, prompt), GetParam().bound);
  EXPECT_LE(LargestDifference(of_steps, steps), GetParam().bound);
  // Beside it, and as the control: what the kernel's own 16 bits make of it.
  ASSERT_NO_FATAL_FAILURE(Run("auto", own_prompt, own_steps, own));
  EXPECT_GT(LargestDifference(own_steps, steps), GetParam().bound);
  std::printf("| %s | %.2g | %.2g | %s by %s: %.2g |\n", name.c_str(), LargestDifference(of_prompt, prompt),
              LargestDifference(of_steps, steps), own.at("compute").get<std::string>().c_str(),
              GetParam().kernel.c_str(), LargestDifference(own_steps, steps));
}

#if defined(HAVE_OPENVINO)
// Precisions, streams and threads: asked for in the table, stated in the verdict.
TEST(QuantSuitesOpenVino, SettingsOfTheTableAreStatedInTheVerdict) {
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "variants.json")
      << R"({"it": {"model_name": "m", "quantization": null, "description": "d", "format": "openvino",
                    "kernel": "openvino", "expected": {"cpu/openvino": "bit_exact"},
                    "settings": {"threads": 1, "streams": 1, "inference_precision": "f32", "kv_cache_precision": "u8"}}})";
  std::ofstream(folder.path() / "prompt.json") << "[1, 2, 3]";
  const ProgramResult program = RunProgram(
      QUANT_SUITES_PROGRAM, {"--variants-file", (folder.path() / "variants.json").string(), "--model-dir",
                             "it=" + TestCheckpoint("openvino").string(), "--prompt-ids",
                             (folder.path() / "prompt.json").string(), "--output-dir", (folder.path() / "out").string(),
                             "--repetitions", "2", "--warmups", "0", "--max-tokens", "4", "--device", "cpu"});
  json result;
  for (const auto& entry : fs::directory_iterator(folder.path() / "out")) {
    if (entry.path().extension() == ".json") result = json::parse(std::ifstream(entry.path()), nullptr, false);
  }
  ASSERT_TRUE(result.is_object()) << program.out << program.err;
  const std::string text = result.dump();
  EXPECT_THAT(text, testing::HasSubstr("The runtime's settings: inference precision f32, KV cache u8"));
  EXPECT_THAT(text, testing::HasSubstr("streams 1, threads 1"));
  EXPECT_THAT(text, testing::HasSubstr("in deterministic mode: inference precision f32, KV cache f32"));
}
#endif

}  // namespace
}  // namespace suites
