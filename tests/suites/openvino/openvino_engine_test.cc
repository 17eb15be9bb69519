#include "suites/openvino/openvino_engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "suites/checkpoint/model_config.h"
#include "suites/checkpoint/safetensors.h"
#include "tests/support/temporary_folder.h"

namespace suites {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;

const fs::path kCheckpoint = fs::path(TEST_DATA_DIR) / "checkpoints" / "openvino";
constexpr int kMatmuls = 4 * 7 + 1;  // of the checkpoint: 4 layers and lm_head

nlohmann::json Prompts() {
  std::ifstream file(kCheckpoint / "reference" / "reference.json");
  return nlohmann::json::parse(file).at("prompts");
}

std::vector<std::int64_t> PromptIds(const std::string& prompt) {
  return Prompts().at(prompt).at("prompt_ids").get<std::vector<std::int64_t>>();
}

std::vector<float> Floats(std::span<const std::byte> bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}
std::vector<float> FloatsOf(const LogitRows& rows) {
  return Floats({static_cast<const std::byte*>(rows.storage.get()), rows.bytes()});
}

// The largest difference; infinity where the sizes differ.
float Distance(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return std::numeric_limits<float>::infinity();
  float largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

std::map<std::string, std::string> SettingsOf(const OpenVinoEngine& engine) {
  const auto settings = engine.Settings();
  return {settings.begin(), settings.end()};
}

std::string ErrorOfLoad(const fs::path& folder) {
  try {
    OpenVinoEngine::Load(folder, {});
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "no error";
}

// A copy of the checkpoint that a test may damage.
class DamagedCheckpoint : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"config.json", "openvino_model.xml", "openvino_model.bin"}) {
      fs::copy_file(kCheckpoint / name, folder_ / name);
    }
    fs::permissions(folder_ / "openvino_model.bin", fs::perms::owner_write, fs::perm_options::add);
  }

  std::string Read(const char* name) const {
    std::ifstream file(folder_ / name, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }
  void Write(const char* name, const std::string& text) const {
    fs::remove(folder_ / name);
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  void Replace(const char* name, const std::string& from, const std::string& to) const {
    std::string text = Read(name);
    const std::size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    for (std::size_t i = at; i != std::string::npos; i = text.find(from, i + to.size())) {
      text.replace(i, from.size(), to);
    }
    Write(name, text);
  }

  const test_support::TemporaryFolder scratch_;
  const fs::path folder_ = scratch_.path();
};

// IR of optimum-intel from 2025 and 2026, symmetric and not, groups and whole columns.
class ForeignCheckpoint : public testing::TestWithParam<const char*> {
 protected:
  fs::path folder() const { return kCheckpoint.parent_path() / GetParam(); }
  nlohmann::json Prompts() const {
    std::ifstream file(folder() / "reference" / "reference.json");
    return nlohmann::json::parse(file).at("prompts");
  }
};
INSTANTIATE_TEST_SUITE_P(OpenVino, ForeignCheckpoint,
                         testing::Values("openvino", "openvino_2025_asymmetric", "openvino_2025_symmetric",
                                         "openvino_2026_symmetric", "openvino_2026_columns"),
                         [](const auto& info) { return std::string(info.param); });

// The references are transformers in float32 over the dequantized weights, and for one the
// runtime itself at f32.
TEST_P(ForeignCheckpoint, TeacherForcedLogitsOfTheShortPrompt) {
  const auto engine = OpenVinoEngine::Load(folder(), {.exact_f32 = true});
  EXPECT_EQ(engine->vocab_size(), 1024);
  EXPECT_EQ(engine->max_positions(), 8192);
  const auto p7 = Prompts().at("p7");
  const auto ids = p7.at("prompt_ids").get<std::vector<std::int64_t>>();
  const GenerationOptions options{.max_tokens = 20,
                                  .all_prompt_logits = true,
                                  .forced_ids = p7.at("generated_ids").get<std::vector<std::int64_t>>()};
  const Generation generation = engine->Generate(ids, options);
  std::vector<std::int64_t> other_prompt = ids;
  other_prompt[3] ^= 1;
  const Generation other = engine->Generate(other_prompt, options);
  for (const char* file : {"reference_logits.safetensors", "openvino_reference_logits.safetensors"}) {
    if (!fs::exists(folder() / "reference" / file)) continue;
    const auto reference = SafetensorsReader::Open(folder() / "reference" / file);
    const std::vector<float> prompt = Floats(reference.Get("p7.prompt_logits").data);
    const std::vector<float> steps = Floats(reference.Get("p7.step_logits").data);
    const float of_prompt = Distance(FloatsOf(generation.prompt_logits), prompt);
    const float of_steps = Distance(FloatsOf(generation.step_logits), steps);
    std::printf("%s p7, %s: largest difference %.3g (prompt), %.3g (20 steps)\n", GetParam(), file, of_prompt,
                of_steps);
    EXPECT_LE(of_prompt, 1e-4) << file;
    EXPECT_LE(of_steps, 1e-4) << file;
    // Control: one token of the prompt changed.
    EXPECT_GT(Distance(FloatsOf(other.prompt_logits), prompt), 1e-2) << file;
    EXPECT_GT(Distance(FloatsOf(other.step_logits), steps), 1e-2) << file;
  }
}

TEST_P(ForeignCheckpoint, GreedyIdsTopTenAndPromptNllOfEveryPrompt) {
  const auto engine = OpenVinoEngine::Load(folder(), {.exact_f32 = true});
  const nlohmann::json prompts = Prompts();
  int all_robust = 0;
  for (const auto& [name, prompt] : prompts.items()) {
    const auto ids = prompt.at("prompt_ids").get<std::vector<std::int64_t>>();
    const auto expected = prompt.at("generated_ids").get<std::vector<std::int64_t>>();
    const Generation greedy = engine->Generate(ids, {.max_tokens = 20});
    ASSERT_EQ(greedy.tokens.size(), 20u);
    const int robust = prompt.at("robust_prefix_len_fp32");
    all_robust += robust;
    for (int step = 0; step < robust; ++step) {
      EXPECT_EQ(greedy.tokens[step], expected[step]) << name << " step " << step;
      EXPECT_EQ(greedy.logprobs[step], greedy.top10[step][0].second);
    }
    const Generation forced =
        engine->Generate(ids, {.max_tokens = 20, .all_prompt_logits = true, .forced_ids = expected});
    for (int step = 0; step < 20; ++step) {
      ASSERT_EQ(forced.top10[step].size(), 10u);
      for (int i = 0; i < 10; ++i) {
        EXPECT_NEAR(forced.top10[step][i].second, prompt.at("top10_logprobs")[step][i].get<float>(), 1e-4)
            << name << " step " << step << " rank " << i;
      }
    }
    double nll = 0;
    for (std::size_t i = 1; i < ids.size(); ++i) {
      nll -= ChooseToken(forced.prompt_logits.Row(static_cast<std::int64_t>(i) - 1), ids[i]).logprob;
    }
    EXPECT_NEAR(nll / static_cast<double>(ids.size() - 1), prompt.at("prompt_mean_nll").get<double>(), 1e-4) << name;
  }
  EXPECT_GT(all_robust, 30);
}

// A constant of the IR: where its bytes lie in openvino_model.bin.
struct Constant {
  std::string name, type;
  std::size_t offset = 0, size = 0;
};

std::vector<Constant> ConstantsOf(const fs::path& folder) {
  std::ifstream file(folder / "openvino_model.xml", std::ios::binary);
  std::vector<Constant> constants;
  const auto attribute = [](const std::string& line, const std::string& name) {
    const std::size_t at = line.find(" " + name + "=\"");
    if (at == std::string::npos) return std::string();
    const std::size_t begin = at + name.size() + 3;
    return line.substr(begin, line.find('"', begin) - begin);
  };
  std::string layer, data;
  while (std::getline(file, layer)) {
    if (layer.find(" type=\"Const\"") == std::string::npos || !std::getline(file, data)) continue;
    constants.push_back({attribute(layer, "name"), attribute(data, "element_type"),
                         std::stoul(attribute(data, "offset")), std::stoul(attribute(data, "size"))});
  }
  return constants;
}

double RelativeRms(const std::vector<float>& actual, const std::vector<float>& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, whole = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    difference += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    whole += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(difference / whole);
}

// What the runtime chooses by itself is not float32. How far that may take the logits:
//
// - x of a matmul is rounded to 8 bits in groups of g: steps of max / 127, and max is at most
//   sqrt(g) rms. Errors are uniform within a step: relative rms at most sqrt(g) / (127 sqrt(12)).
// - Keys and values are rounded to 8 bits by token and head of d elements: steps of (max - min) / 255,
//   at most sqrt(2 d) rms / 255.
// - bf16 rounds to u = 2^-8: what a matmul takes and gives, and what is made of it on the way to the
//   next one (four times at most), and the residual stream, twice a layer and at both ends.
//
// An error of x, random with respect to W, is as large in x W, relative to it: all but those of the
// residual stream are errors of the results of matmuls. What such errors do to the logits is measured,
// in float32: every scale of the checkpoint moves up or down by 16 units in its last place, hence every
// result of a matmul by a known share. Errors are taken as independent and small.
class OwnPrecision : public ForeignCheckpoint {
 protected:
  void SetUp() override {
    for (const char* name : {"config.json", "openvino_model.xml", "openvino_model.bin"}) {
      fs::copy_file(folder() / name, copy_ / name);
    }
    fs::permissions(copy_ / "openvino_model.bin", fs::perms::owner_write, fs::perm_options::add);
  }

  // change(constant, its bytes) on every constant of the copy.
  template <class Change>
  void Rewrite(const Change& change) const {
    std::fstream file(copy_ / "openvino_model.bin", std::ios::binary | std::ios::in | std::ios::out);
    for (const Constant& constant : ConstantsOf(copy_)) {
      std::vector<std::uint8_t> bytes(constant.size);
      file.seekg(static_cast<std::streamoff>(constant.offset));
      file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
      change(constant, bytes);
      file.seekp(static_cast<std::streamoff>(constant.offset));
      file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    }
    ASSERT_TRUE(file.flush().good());
  }
  std::vector<float> StepLogits(OpenVinoEngine& engine) const {
    const auto p7 = Prompts().at("p7");
    return FloatsOf(
        engine.Generate(p7.at("prompt_ids"), {.max_tokens = 20, .forced_ids = p7.at("generated_ids")}).step_logits);
  }

  const test_support::TemporaryFolder scratch_;
  const fs::path copy_ = scratch_.path();
};
INSTANTIATE_TEST_SUITE_P(OpenVino, OwnPrecision,
                         testing::Values("openvino", "openvino_2025_asymmetric", "openvino_2025_symmetric",
                                         "openvino_2026_symmetric", "openvino_2026_columns"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(OwnPrecision, StaysAsNearAsItsRoundingsSay) {
  const std::vector<float> exact = StepLogits(*OpenVinoEngine::Load(folder(), {.exact_f32 = true}));
  const auto engine = OpenVinoEngine::Load(folder(), {});
  const std::vector<float> own = StepLogits(*engine);
  const double difference = RelativeRms(own, exact);

  // How the logits answer to errors of the matmuls' results.
  double moved = 0;
  std::size_t scales = 0;
  std::uint32_t state = 1;
  Rewrite([&](const Constant& constant, std::vector<std::uint8_t>& bytes) {
    if (constant.type != "f16" || !constant.name.ends_with("/scale")) return;
    for (std::size_t i = 0; i < bytes.size(); i += 2) {
      std::uint16_t bits;
      std::memcpy(&bits, &bytes[i], sizeof bits);
      moved += std::pow(16.0 / (1024 + bits % 1024), 2);
      ++scales;
      state = state * 1664525U + 1013904223U;
      bits = static_cast<std::uint16_t>(bits + ((state >> 16) % 2 == 0 ? 16 : -16));
      std::memcpy(&bytes[i], &bits, sizeof bits);
    }
  });
  ASSERT_GT(scales, 0u);
  const double share = std::sqrt(moved / static_cast<double>(scales));
  const double response = RelativeRms(StepLogits(*OpenVinoEngine::Load(copy_, {.exact_f32 = true})), exact) / share;

  const ModelConfig config = ReadModelConfig(folder());
  const auto settings = SettingsOf(*engine);
  const double group = std::min(std::stod(settings.at("DYNAMIC_QUANTIZATION_GROUP_SIZE")),
                                static_cast<double>(config.intermediate_size));
  const double of_x = std::sqrt(group / 12) / 127;
  const double of_cache = std::sqrt(2.0 * static_cast<double>(config.head_dim) / 12) / 255;
  const double u = 0x1p-8;
  const double of_matmuls = of_x * of_x + of_cache * of_cache + 4 * u * u;
  const double of_stream = (2.0 * static_cast<double>(config.num_hidden_layers) + 2) * u * u;
  const double bound = std::sqrt(response * response * of_matmuls + of_stream);
  std::printf("%s p7 at %s, KV cache %s, x in groups of %g: largest difference %.3g, relative rms %.3g, bound %.3g\n",
              GetParam(), settings.at("INFERENCE_PRECISION_HINT").c_str(), settings.at("KV_CACHE_PRECISION").c_str(),
              group, Distance(own, exact), difference, bound);
  EXPECT_LE(difference, bound);

  // Control: the codes of one matmul of one layer reversed.
  fs::copy_file(folder() / "openvino_model.bin", copy_ / "openvino_model.bin", fs::copy_options::overwrite_existing);
  fs::permissions(copy_ / "openvino_model.bin", fs::perms::owner_write, fs::perm_options::add);
  for (const char* projection : {"q_proj", "v_proj", "down_proj"}) {
    int flipped = 0;
    const auto flip = [&](const Constant& constant, std::vector<std::uint8_t>& bytes) {
      if ((constant.type != "u4" && constant.type != "i4") || constant.name.ends_with("/zero_point") ||
          constant.name.find("layers.1.") == std::string::npos || constant.name.find(projection) == std::string::npos) {
        return;
      }
      ++flipped;
      for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(~byte);
    };
    Rewrite(flip);
    ASSERT_EQ(flipped, 1) << projection;
    const double wrong = RelativeRms(StepLogits(*OpenVinoEngine::Load(copy_, {})), exact);
    Rewrite(flip);
    EXPECT_GT(wrong, bound) << projection;
  }
}

// One token after the other over the cache against all at once.
TEST(OpenVinoEngine, DecodeAgreesWithPrefill) {
  const auto engine = OpenVinoEngine::Load(kCheckpoint, {.exact_f32 = true});
  const std::vector<std::int64_t> ids = PromptIds("p64");
  const Generation whole = engine->Generate(ids, {.max_tokens = 0, .all_prompt_logits = true});
  EXPECT_TRUE(whole.tokens.empty());
  const std::vector<std::int64_t> head(ids.begin(), ids.begin() + 10);
  const std::vector<std::int64_t> tail(ids.begin() + 10, ids.end());
  const Generation stepped = engine->Generate(head, {.max_tokens = static_cast<int>(tail.size()), .forced_ids = tail});
  EXPECT_EQ(stepped.tokens, tail);
  for (std::int64_t step = 0; step < stepped.step_logits.rows; ++step) {
    EXPECT_LE(Distance(stepped.step_logits.Row(step), whole.prompt_logits.Row(9 + step)), 1e-4) << step;
  }
}

// The state of one generation must not reach the next.
TEST(OpenVinoEngine, GenerationsDoNotTouchEachOther) {
  const auto engine = OpenVinoEngine::Load(kCheckpoint, {.deterministic = true});
  const Generation first = engine->Generate(PromptIds("p7"), {.max_tokens = 8});
  const Generation between = engine->Generate(PromptIds("p64"), {.max_tokens = 8});
  const Generation again = engine->Generate(PromptIds("p7"), {.max_tokens = 8});
  EXPECT_TRUE(first.step_logits.SameBits(again.step_logits));
  EXPECT_EQ(first.tokens, again.tokens);
  EXPECT_FALSE(first.step_logits.SameBits(between.step_logits));
}

TEST(OpenVinoEngine, SettingsAreReadBackFromTheCompiledModel) {
  const auto deterministic = OpenVinoEngine::Load(kCheckpoint, {.deterministic = true, .threads = 1});
  const auto settings = SettingsOf(*deterministic);
  EXPECT_EQ(settings.at("INFERENCE_PRECISION_HINT"), "f32");
  EXPECT_EQ(settings.at("KV_CACHE_PRECISION"), "f32");
  EXPECT_EQ(settings.at("DYNAMIC_QUANTIZATION_GROUP_SIZE"), "0");
  EXPECT_EQ(settings.at("NUM_STREAMS"), "1");
  EXPECT_EQ(settings.at("INFERENCE_NUM_THREADS"), "1");
  // Control: the runtime's own choice is another.
  const auto own_choice = OpenVinoEngine::Load(kCheckpoint, {});
  EXPECT_NE(SettingsOf(*own_choice).at("DYNAMIC_QUANTIZATION_GROUP_SIZE"), "0");
}

TEST(OpenVinoEngine, NamedSettingsReachTheRuntime) {
  const auto engine = OpenVinoEngine::Load(
      kCheckpoint, {.threads = 2, .streams = 2, .inference_precision = "f32", .kv_cache_precision = "f16"});
  const auto settings = SettingsOf(*engine);
  EXPECT_EQ(settings.at("INFERENCE_NUM_THREADS"), "2");
  EXPECT_EQ(settings.at("NUM_STREAMS"), "2");
  EXPECT_EQ(settings.at("INFERENCE_PRECISION_HINT"), "f32");
  EXPECT_EQ(settings.at("KV_CACHE_PRECISION"), "f16");
  EXPECT_EQ(engine->Generate(PromptIds("p7"), {.max_tokens = 3}).tokens.size(), 3u);
}

// Deterministic mode is one stream, fixed threads, f32, whatever else was asked for.
TEST(OpenVinoEngine, DeterministicModeOverridesNamedSettings) {
  const auto engine = OpenVinoEngine::Load(
      kCheckpoint,
      {.deterministic = true, .threads = 1, .streams = 2, .inference_precision = "bf16", .kv_cache_precision = "u8"});
  const auto settings = SettingsOf(*engine);
  EXPECT_EQ(settings.at("NUM_STREAMS"), "1");
  EXPECT_EQ(settings.at("INFERENCE_NUM_THREADS"), "1");
  EXPECT_EQ(settings.at("INFERENCE_PRECISION_HINT"), "f32");
  EXPECT_EQ(settings.at("KV_CACHE_PRECISION"), "f32");
  const auto fixed = OpenVinoEngine::Load(kCheckpoint, {.deterministic = true});
  EXPECT_NE(SettingsOf(*fixed).at("INFERENCE_NUM_THREADS"), "0");
}

TEST(OpenVinoEngine, ProfileCountsTheCompressedMatmuls) {
  const auto engine = OpenVinoEngine::Load(kCheckpoint, {.profile = true});
  engine->Generate(PromptIds("p7"), {.max_tokens = 5});
  const reporters::KernelProfile profile = engine->TakeProfile();
  EXPECT_EQ(profile.status, reporters::ProfileStatus::kOk);
  EXPECT_EQ(profile.expected_kernel, "FullyConnectedCompressed");
  EXPECT_EQ(profile.expected_count, 5 * kMatmuls);  // one prefill, four steps
  std::int64_t matmuls = 0;
  for (const reporters::KernelEntry& kernel : profile.kernels) {
    EXPECT_EQ(kernel.device, "cpu");
    EXPECT_GT(kernel.count, 0);
    EXPECT_GE(kernel.time_us, 0);
    if (kernel.name.starts_with("FullyConnectedCompressed")) {
      EXPECT_EQ(kernel.kind, reporters::KernelKind::kGemm);
      matmuls += kernel.count;
    }
    if (kernel.name.starts_with("RMS")) {
      EXPECT_EQ(kernel.kind, reporters::KernelKind::kOther);
    }
  }
  EXPECT_EQ(matmuls, profile.expected_count);
  EXPECT_TRUE(
      std::ranges::is_sorted(profile.kernels, [](const auto& a, const auto& b) { return a.time_us > b.time_us; }));

  EXPECT_EQ(engine->TakeProfile().status, reporters::ProfileStatus::kEmpty) << "nothing ran since";
}

TEST(OpenVinoEngine, ProfileWasNotAskedFor) {
  const auto engine = OpenVinoEngine::Load(kCheckpoint, {});
  engine->Generate(PromptIds("p7"), {.max_tokens = 1});
  const reporters::KernelProfile profile = engine->TakeProfile();
  EXPECT_EQ(profile.status, reporters::ProfileStatus::kNotRequested);
  EXPECT_TRUE(profile.kernels.empty());
}

TEST(OpenVinoEngine, RefusesIdsAndLengths) {
  const auto engine = OpenVinoEngine::Load(kCheckpoint, {});
  const auto error_of = [&](std::vector<std::int64_t> prompt, GenerationOptions options) -> std::string {
    try {
      engine->Generate(prompt, options);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(error_of({}, {.max_tokens = 1}), "the prompt holds no token");
  EXPECT_EQ(error_of({1, 1024}, {.max_tokens = 1}), "token id 1024 is outside the vocabulary of 1024");
  EXPECT_EQ(error_of({-1}, {.max_tokens = 1}), "token id -1 is outside the vocabulary of 1024");
  EXPECT_EQ(error_of({1}, {.max_tokens = 2, .forced_ids = {4096}}), "token id 4096 is outside the vocabulary of 1024");
  EXPECT_EQ(error_of({1, 2}, {.max_tokens = 8191}), "prompt and new tokens need 8193 positions, the model has 8192");
  EXPECT_EQ(error_of({1, 1023}, {.max_tokens = 1}), "no error");
}

TEST_F(DamagedCheckpoint, TheCopyIsGood) { EXPECT_EQ(ErrorOfLoad(folder_), "no error"); }

TEST_F(DamagedCheckpoint, MissingFiles) {
  EXPECT_THAT(ErrorOfLoad(folder_ / "nowhere"), HasSubstr("nowhere"));
  fs::remove(folder_ / "openvino_model.bin");
  EXPECT_THAT(ErrorOfLoad(folder_), HasSubstr("openvino_model.bin: no such file"));
}

TEST_F(DamagedCheckpoint, NotXml) {
  Write("openvino_model.xml", "this is no model");
  EXPECT_THAT(ErrorOfLoad(folder_), AllOf(HasSubstr("openvino_model.xml: OpenVINO: "), testing::Not(HasSubstr("\n"))));
}

TEST_F(DamagedCheckpoint, TruncatedWeights) {
  fs::resize_file(folder_ / "openvino_model.bin", 100'000);
  EXPECT_THAT(ErrorOfLoad(folder_), AllOf(HasSubstr("openvino_model.xml: OpenVINO: "), testing::Not(HasSubstr("\n"))));
}

TEST_F(DamagedCheckpoint, AnotherVocabularyInConfig) {
  Replace("config.json", "\"vocab_size\": 1024", "\"vocab_size\": 1025");
  EXPECT_THAT(ErrorOfLoad(folder_), HasSubstr("logits of 1024 ids, config.json says 1025"));
}

constexpr char kLfsPointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4512345678\n";

TEST_F(DamagedCheckpoint, GitLfsPointers) {
  for (const char* name : {"openvino_model.xml", "openvino_model.bin", "config.json"}) {
    const std::string good = Read(name);
    Write(name, kLfsPointer);
    EXPECT_THAT(ErrorOfLoad(folder_), AllOf(HasSubstr(name), HasSubstr(": is a Git LFS pointer, not the file itself")));
    Write(name, good);
    EXPECT_EQ(ErrorOfLoad(folder_), "no error");
  }
}

// The IR computes; what its config.json says of the computation and of quantization is not read.
TEST_F(DamagedCheckpoint, FeaturesInConfigAreTheRuntimesMatter) {
  Replace("config.json", "\"vocab_size\"",
          "\"quantization_config\": {\"quant_method\": \"openvino\", \"bits\": 8}, \"rope_scaling\": {\"rope_type\": "
          "\"yarn\"}, \"vocab_size\"");
  Replace("config.json", "\"use_sliding_window\": false", "\"use_sliding_window\": true");
  EXPECT_EQ(ErrorOfLoad(folder_), "no error");
  Replace("config.json", "Qwen3ForCausalLM", "LlamaForCausalLM");
  EXPECT_THAT(ErrorOfLoad(folder_), HasSubstr("LlamaForCausalLM"));
}

TEST_F(DamagedCheckpoint, OtherNames) {
  Replace("openvino_model.xml", "names=\"logits\"", "names=\"scores\"");
  EXPECT_THAT(ErrorOfLoad(folder_), HasSubstr("has no output logits"));
}

TEST_F(DamagedCheckpoint, AnInputThatNobodyFills) {
  Replace("openvino_model.xml", "names=\"beam_idx\"", "names=\"past_length\"");
  EXPECT_THAT(ErrorOfLoad(folder_), HasSubstr("unknown input past_length"));
}

TEST(OpenVinoEngine, RuntimeVersionIsThatOfTheLibrary) {
  EXPECT_THAT(OpenVinoEngine::RuntimeVersion(), testing::MatchesRegex("20[0-9][0-9]\\.[0-9]+\\..*"));
}

}  // namespace
}  // namespace suites
