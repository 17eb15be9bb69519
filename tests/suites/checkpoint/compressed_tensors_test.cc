// llm-compressor's files as GPTQ words, and what is refused of them and of shards.
#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "suites/checkpoint/checkpoint.h"
#include "suites/checkpoint/finite.h"
#include "suites/checkpoint/tensor_view.h"
#include "tests/suites/checkpoint/scratch.h"

namespace suites {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::EditHeader;
using testing_support::EditJson;
using testing_support::ErrorOf;
using testing_support::ReadFile;
using testing_support::ScratchFolder;
using testing_support::TestData;
using testing_support::WriteFile;

constexpr char kDown[] = "model.layers.0.mlp.down_proj";

// A copy of one of tests/data/checkpoints, to edit.
class EditedFolderTest : public testing::Test {
 protected:
  void Copy(const std::string& from) {
    std::filesystem::remove_all(path_);
    std::filesystem::copy(TestData() / "checkpoints" / from, path_, std::filesystem::copy_options::recursive);
    for (const auto& file : std::filesystem::recursive_directory_iterator(path_)) {
      std::filesystem::permissions(file, std::filesystem::perms::owner_write, std::filesystem::perm_options::add);
    }
  }
  std::string Error() {
    return ErrorOf(path_, [&] { OpenCheckpoint(path_); });
  }
  // Of loading every tensor.
  std::string LoadError() {
    return ErrorOf(path_, [&] {
      const auto checkpoint = OpenCheckpoint(path_);
      checkpoint->Dense("model.norm.weight");
      checkpoint->Quantized(kDown);
    });
  }
  // Overwrites the first element of a tensor of model.safetensors.
  void Poke(const std::string& name, const std::string& bytes) {
    const auto file = path_ / "model.safetensors";
    std::string whole = ReadFile(file);
    std::uint64_t header = 0;
    std::memcpy(&header, whole.data(), 8);
    const json entry = json::parse(whole.substr(8, header)).at(name);
    whole.replace(8 + header + entry["data_offsets"][0].get<std::size_t>(), bytes.size(), bytes);
    WriteFile(file, whole);
  }
  void Config(const std::function<void(json*)>& edit) { EditJson(path_ / "config.json", edit); }
  ScratchFolder folder_;
  std::filesystem::path path_ = folder_.path() / "model";
};

// By the formula of the format itself, from the stored tensors.
TEST(CompressedTensorsTest, WeightsAreThoseOfTheFormula) {
  for (const char* name : {"ct_symmetric", "ct_actorder", "ct_channel"}) {
    SCOPED_TRACE(name);
    const auto folder = TestData() / "checkpoints" / name;
    const auto checkpoint = OpenCheckpoint(folder);
    ASSERT_TRUE(checkpoint->IsQuantized(kDown));
    const kernels::QuantizedLinear linear = checkpoint->Quantized(kDown);
    EXPECT_EQ(linear.format, kernels::Format::kGptq);
    EXPECT_FALSE(linear.gptq_v1_zeros);
    EXPECT_EQ(linear.scales.scalar_type(), at::kHalf);
    const at::Tensor weights = kernels::Dequantize(linear);

    const SafetensorsReader file = SafetensorsReader::Open(folder);
    const auto tensor = [&](const std::string& suffix) {
      return TensorView(suffix, file.Get(kDown + suffix)).contiguous();
    };
    const at::Tensor packed = tensor(".weight_packed");
    const at::Tensor scale = tensor(".weight_scale").to(at::kFloat);
    const bool asymmetric = file.Contains(std::string(kDown) + ".weight_zero_point");
    EXPECT_EQ(asymmetric, std::string(name) != "ct_symmetric");
    const bool ordered = file.Contains(std::string(kDown) + ".weight_g_idx");
    EXPECT_EQ(ordered, std::string(name) == "ct_actorder");
    const std::int64_t groups = scale.size(1);
    for (std::int64_t n = 0; n < linear.n; ++n) {
      for (std::int64_t k = 0; k < linear.k; ++k) {
        const auto nibble = [](const at::Tensor& words, std::int64_t row, std::int64_t column, std::int64_t i) {
          const auto word = static_cast<std::uint32_t>(words[row][column].item<std::int32_t>());
          return static_cast<int>((word >> (4 * i)) & 15);
        };
        if ((n * 31 + k * 7) % 61 != 0) continue;  // a sample: item() is slow
        const std::int64_t g = ordered ? tensor(".weight_g_idx")[k].item<std::int32_t>() : k / (linear.k / groups);
        const int q = nibble(packed, n, k / 8, k % 8) - 8;
        const int z = asymmetric ? nibble(tensor(".weight_zero_point"), n / 8, g, n % 8) - 8 : 0;
        EXPECT_EQ(weights[k][n].item<float>(), static_cast<float>(q - z) * scale[n][g].item<float>()) << n << ", " << k;
      }
    }
  }
}

TEST_F(EditedFolderTest, WhatIsNotW4A16IsRefused) {
  struct Case {
    const char* message;
    std::function<void(json*)> edit;  // of quantization_config
  };
  const auto weights = [](json* q) -> json& { return (*q)["config_groups"]["group_0"]["weights"]; };
  for (const Case& c :
       {Case{"format 'marlin-24' is not read", [](json* q) { (*q)["format"] = "marlin-24"; }},
        Case{"'num_bits' is 8, only 4", [&](json* q) { weights(q)["num_bits"] = 8; }},
        Case{"type 'float' is not read", [&](json* q) { weights(q)["type"] = "float"; }},
        Case{"strategy 'block' is not read", [&](json* q) { weights(q)["strategy"] = "block"; }},
        Case{"input_activations are quantized",
             [](json* q) {
               (*q)["config_groups"]["group_0"]["input_activations"] = {{"num_bits", 8}};
             }},
        Case{"kv_cache_scheme is not built",
             [](json* q) {
               (*q)["kv_cache_scheme"] = {{"num_bits", 8}};
             }},
        Case{"transform_config is not built",
             [](json* q) {
               (*q)["transform_config"] = {{"config_groups", {{"a", 1}}}};
             }},
        Case{"quantization_status 'initialized'", [](json* q) { (*q)["quantization_status"] = "initialized"; }},
        Case{"no config_groups", [](json* q) { q->erase("config_groups"); }},
        Case{"has no weight_zero_point", [&](json* q) { weights(q)["symmetric"] = false; }}}) {
    Copy("ct_symmetric");
    ASSERT_EQ(Error(), "");
    Config([&](json* config) { c.edit(&(*config)["quantization_config"]); });
    EXPECT_THAT(Error(), HasSubstr(c.message));
  }
  Copy("ct_symmetric");
  Poke(std::string(kDown) + ".weight_shape", std::string("\x07\0\0\0\0\0\0\0", 8));
  EXPECT_THAT(Error(), HasSubstr("weight_shape': says [7, "));
}

TEST_F(EditedFolderTest, WeightsThatAreNotNumbersAreNamed) {
  Copy("ct_symmetric");
  ASSERT_EQ(LoadError(), "");
  Poke("model.norm.weight", "\xc0\x7f");  // a NaN in bfloat16
  EXPECT_THAT(LoadError(), HasSubstr("'model.norm.weight': element 0 is NaN or infinite"));
  Copy("ct_symmetric");
  Poke(std::string(kDown) + ".weight_scale", std::string("\x80\x7f", 2));  // infinity
  EXPECT_THAT(LoadError(), HasSubstr("down_proj scales': element 0 is NaN or infinite"));
  Copy("gptq_v2_desc_act");
  Poke(std::string(kDown) + ".scales", std::string("\x01\x7c", 2));  // a NaN in float16
  EXPECT_THAT(LoadError(), HasSubstr("down_proj scales': element 0 is NaN or infinite"));
}

// float16 holds 8 bits down to 2^-17: below, a kernel would multiply by another number.
TEST_F(EditedFolderTest, ScalesThatFloat16CannotHoldStayAsTheyAre) {
  Copy("ct_symmetric");
  Poke(std::string(kDown) + ".weight_scale", std::string("\x01\x30", 2));  // 2^-31 and a bit
  const kernels::QuantizedLinear linear = OpenCheckpoint(path_)->Quantized(kDown);
  EXPECT_EQ(linear.scales.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(kernels::Dequantize(linear).defined());
  try {
    kernels::MakeInt4Matmul({.family = "gptq"}, linear);
    ADD_FAILURE() << "made";
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), HasSubstr("float16, which the kernels multiply by, cannot hold all exactly"));
  }
}

TEST(FiniteTest, FindsTheFirstInEveryDtype) {
  for (const at::ScalarType type : {at::kHalf, at::kBFloat16, at::kFloat}) {
    for (const std::int64_t at : {std::int64_t{0}, std::int64_t{4095}, std::int64_t{4096}, std::int64_t{9999}}) {
      at::Tensor tensor = at::full({100, 100}, -65504.0, at::kFloat).to(type);
      EXPECT_EQ(FirstNotFinite(tensor), std::nullopt);
      tensor.view(-1)[at] = -std::numeric_limits<float>::infinity();
      EXPECT_EQ(FirstNotFinite(tensor), at);
      tensor.view(-1)[at] = std::numeric_limits<float>::quiet_NaN();
      EXPECT_EQ(FirstNotFinite(tensor), at);
    }
  }
}

// AutoGPTQ: a name of its own, its settings beside config.json.
TEST_F(EditedFolderTest, AutoGptqNamesItsFileAfterItsSettings) {
  Copy("gptq_asymmetric");
  const auto named = path_ / "gptq_model-4bit-32g.safetensors";
  std::filesystem::rename(path_ / "model.safetensors", named);
  Config([&](json* config) {
    WriteFile(path_ / "quantize_config.json", json{{"bits", 4},
                                                   {"group_size", 32},
                                                   {"damp_percent", 0.01},
                                                   {"desc_act", false},
                                                   {"static_groups", false},
                                                   {"sym", false},
                                                   {"true_sequential", true},
                                                   {"model_name_or_path", nullptr},
                                                   {"model_file_base_name", "gptq_model-4bit-32g"},
                                                   {"is_marlin_format", false},
                                                   {"quant_method", "gptq"}}
                                                  .dump());
    config->erase("quantization_config");
  });
  EXPECT_EQ(Error(), "");
  EXPECT_TRUE(OpenCheckpoint(path_)->Quantized(kDown).gptq_v1_zeros);
  std::filesystem::copy_file(named, path_ / "another.safetensors");
  EXPECT_THAT(Error(), HasSubstr("no weights"));  // which of the two?
}

constexpr char kIndex[] = "model.safetensors.index.json";
constexpr char kShard[] = "model-00001-of-00002.safetensors";

TEST_F(EditedFolderTest, ShardsThatAreMissingCutOrElsewhere) {
  Copy("awq_group32_shards");
  ASSERT_EQ(Error(), "");
  const auto name_shard = [&](const std::string& name) {
    EditJson(path_ / kIndex, [&](json* index) {
      for (auto& file : (*index)["weight_map"]) {
        if (file == kShard) file = name;
      }
    });
  };
  name_shard("../secret.safetensors");
  EXPECT_THAT(Error(), HasSubstr("'../secret.safetensors' of tensor"));
  EXPECT_THAT(Error(), HasSubstr("is not the name of a file in the same folder"));
  Copy("awq_group32_shards");
  name_shard((folder_.path() / "secret.safetensors").string());
  EXPECT_THAT(Error(), HasSubstr("is not the name of a file in the same folder"));

  Copy("awq_group32_shards");
  const std::string whole = ReadFile(path_ / kShard);
  WriteFile(path_ / kShard, whole.substr(0, whole.size() / 2));
  EXPECT_THAT(Error(), HasSubstr("it was cut short or is damaged"));
  std::filesystem::remove(path_ / kShard);
  EXPECT_THAT(Error(), HasSubstr("shard '" + std::string(kShard) + "' is missing; download it again"));

  // A link out of the folder, one inside it, and one as the hub's cache has it.
  WriteFile(folder_.path() / "outside", whole);
  std::filesystem::create_symlink(folder_.path() / "outside", path_ / kShard);
  EXPECT_THAT(Error(), HasSubstr("is a link that leads out of the folder"));
  std::filesystem::remove(path_ / kShard);
  WriteFile(path_ / "inside", whole);
  std::filesystem::create_symlink("inside", path_ / kShard);
  EXPECT_EQ(Error(), "");

  const auto model = folder_.path() / "models--org--name";
  const auto snapshot = model / "snapshots" / "0123";
  std::filesystem::create_directories(model / "snapshots");
  std::filesystem::create_directories(model / "blobs");
  std::filesystem::rename(path_, snapshot);
  std::filesystem::remove(snapshot / kShard);
  std::filesystem::rename(snapshot / "inside", model / "blobs" / "abcd");
  std::filesystem::create_symlink("../../blobs/abcd", snapshot / kShard);
  EXPECT_EQ(ErrorOf(snapshot, [&] { OpenCheckpoint(snapshot); }), "");
  std::filesystem::remove(snapshot / kShard);
  std::filesystem::create_symlink("../../../outside", snapshot / kShard);
  EXPECT_THAT(ErrorOf(snapshot, [&] { OpenCheckpoint(snapshot); }), HasSubstr("leads out of the folder"));
}

}  // namespace
}  // namespace suites
