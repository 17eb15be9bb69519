// quant_suites on checkpoints that are damaged, hostile or of another kind: one line in the
// result file that names the thing, exit 1, and nothing else.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/suites/int4/program.h"
#include "tests/suites/int4/temporary_folder.h"
#include "tests/suites/model/reference.h"

namespace suites {
namespace {

using nlohmann::json;
using testing::HasSubstr;
namespace fs = std::filesystem;

std::string Read(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void Write(const fs::path& file, const std::string& text) {
  fs::remove(file);
  std::ofstream(file, std::ios::binary) << text;
}
// The first `from` of a file by `to`, of the same length where it lies in a binary file.
void Replace(const fs::path& file, const std::string& from, const std::string& to) {
  std::string text = Read(file);
  const std::size_t at = text.find(from);
  ASSERT_NE(at, std::string::npos) << from;
  Write(file, text.replace(at, from.size(), to));
}

constexpr char kShard[] = "model-00001-of-00002.safetensors";
constexpr char kIndex[] = "model.safetensors.index.json";

struct Damage {
  const char* name;
  const char* checkpoint;
  std::function<void(const fs::path& folder)> damage;
  const char* message;  // a part of it
  friend void PrintTo(const Damage& damage, std::ostream* os) { *os << damage.name; }
};

void NameShard(const fs::path& folder, const std::string& name) {
  json index = json::parse(Read(folder / kIndex));
  for (auto& file : index["weight_map"]) {
    if (file == kShard) file = name;
  }
  Write(folder / kIndex, index.dump());
}

std::vector<Damage> Damages() {
  const char* const awq = "awq_group32_shards";
  return {
      {"Nothing", awq, [](const fs::path&) {}, ""},
      {"ShardMissing", awq, [](const fs::path& f) { fs::remove(f / kShard); },
       "model.safetensors.index.json: shard 'model-00001-of-00002.safetensors' is missing"},
      {"IndexWithDots", awq, [](const fs::path& f) { NameShard(f, "../outside.safetensors"); },
       "'../outside.safetensors' of tensor"},
      {"IndexWithAnAbsolutePath", awq, [](const fs::path& f) { NameShard(f, "/etc/passwd"); },
       "'/etc/passwd' of tensor"},
      {"LinkOutOfTheFolder", awq,
       [](const fs::path& f) {
         fs::rename(f / kShard, f.parent_path() / "outside");
         fs::create_symlink(f.parent_path() / "outside", f / kShard);
       },
       "is a link that leads out of the folder"},
      {"DtypeThatIsNotRead", "gptq_asymmetric",
       [](const fs::path& f) { Replace(f / "model.safetensors", "\"dtype\":\"I32\"", "\"dtype\":\"F32\""); },
       "has dtype F32 instead of I32"},
      {"AnotherArchitecture", awq,
       [](const fs::path& f) { Replace(f / "config.json", "Qwen3ForCausalLM", "LlamaForCausalLM"); },
       "LlamaForCausalLM"},
      {"TokenizerOfAnotherModel", awq,
       [](const fs::path& f) {
         json tokenizer = json::parse(Read(f / "tokenizer.json"));
         tokenizer["added_tokens"].push_back({{"id", 5000},
                                              {"content", "<more>"},
                                              {"single_word", false},
                                              {"lstrip", false},
                                              {"rstrip", false},
                                              {"normalized", false},
                                              {"special", true}});
         Write(f / "tokenizer.json", tokenizer.dump());
       },
       "tokenizer.json: does not fit the model: its ids go up to 5000, the embedding has 1024 rows"},
      {"StrangeGlobal", "torchao",
       [](const fs::path& f) { Replace(f / "pytorch_model.bin", "ctorch\ndevice\n", "cposix\nsystem\n"); }, "posix"},
      {"CutInTheMiddle", "gptq_asymmetric",
       [](const fs::path& f) { fs::resize_file(f / "model.safetensors", fs::file_size(f / "model.safetensors") / 2); },
       "model.safetensors: "},
      {"CutPickle", "torchao",
       [](const fs::path& f) { fs::resize_file(f / "pytorch_model.bin", fs::file_size(f / "pytorch_model.bin") / 2); },
       "pytorch_model.bin: "},
      {"WeightsThatAreNaN", "gptq_asymmetric",
       [](const fs::path& f) {
         // The last bytes of the file are those of a dense tensor or of scales.
         std::string bytes = Read(f / "model.safetensors");
         std::uint64_t length = 0;
         std::memcpy(&length, bytes.data(), 8);
         const json header = json::parse(bytes.substr(8, length));
         const std::size_t at = 8 + length + header.at("model.norm.weight").at("data_offsets")[0].get<std::size_t>();
         bytes[at] = bytes[at + 1] = '\x7f';
         Write(f / "model.safetensors", bytes);
       },
       "'model.norm.weight': element 0 is NaN"},
  };
}

class DamagedCheckpointTest : public testing::TestWithParam<Damage> {};
INSTANTIATE_TEST_SUITE_P(Damages, DamagedCheckpointTest, testing::ValuesIn(Damages()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(DamagedCheckpointTest, IsOneLineThatNamesIt) {
  const TemporaryFolder scratch;
  const fs::path folder = scratch.path() / "model";
  fs::create_directory(folder);
  for (const auto& file : fs::directory_iterator(TestCheckpoint(GetParam().checkpoint))) {
    if (file.is_regular_file()) fs::copy_file(file.path(), folder / file.path().filename());
  }
  if (!fs::exists(folder / "tokenizer.json")) {
    fs::copy_file(TestCheckpoint("gptq_desc_act") / "tokenizer.json", folder / "tokenizer.json");
  }
  for (const auto& file : fs::directory_iterator(folder)) {
    fs::permissions(file.path(), fs::perms::owner_write, fs::perm_options::add);
  }
  ASSERT_NO_FATAL_FAILURE(GetParam().damage(folder));
  const bool torchao = GetParam().checkpoint == std::string("torchao");
  const bool gptq = GetParam().checkpoint == std::string("gptq_asymmetric");
  Write(scratch.path() / "variants.json", json{{"it",
                                                {{"model_name", "m"},
                                                 {"quantization", nullptr},
                                                 {"description", "d"},
                                                 {"format", torchao ? "torchao"
                                                            : gptq  ? "gptq"
                                                                    : "awq"},
                                                 {"kernel", torchao ? "tinygemm" : "marlin"}}}}
                                              .dump());
  const ProgramResult program =
      RunProgram(QUANT_SUITES_PROGRAM,
                 {"--variants-file", (scratch.path() / "variants.json").string(), "--model-dir",
                  "it=" + folder.string(), "--prompt", "A text", "--output-dir", (scratch.path() / "out").string(),
                  "--repetitions", "2", "--warmups", "0", "--max-tokens", "2", "--device", "cpu"});
  EXPECT_EQ(program.exit_code, 1) << program.out << program.err;  // also without an expectation
  json result;
  for (const auto& entry : fs::directory_iterator(scratch.path() / "out")) {
    if (entry.path().extension() == ".json") result = json::parse(Read(entry.path()), nullptr, false);
  }
  ASSERT_TRUE(result.is_object()) << program.out << program.err;
  const std::string error = result.value("error", json()).is_string() ? result["error"].get<std::string>() : "";
  if (GetParam().message[0] == '\0') {
    EXPECT_EQ(error, "") << "control";
    EXPECT_EQ(result.at("success"), true);
    return;
  }
  EXPECT_EQ(result.at("success"), false);
  EXPECT_THAT(error, HasSubstr(GetParam().message));
  EXPECT_EQ(error.find('\n'), std::string::npos);
  EXPECT_LT(error.size(), 600u);
  std::printf("%s: %s\n", GetParam().name,
              error.substr(error.find("model/") == std::string::npos ? 0 : error.find("model/")).c_str());
}

}  // namespace
}  // namespace suites
