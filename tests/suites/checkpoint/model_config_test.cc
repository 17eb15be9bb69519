#include "suites/checkpoint/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/suites/checkpoint/scratch.h"

namespace suites {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::ErrorOf;
using testing_support::ReadJson;
using testing_support::ScratchFolder;
using testing_support::TestData;
using testing_support::WriteFile;

TEST(ModelConfigTest, ReadsTransformers4) {
  const ModelConfig config = ReadModelConfig(TestData() / "checkpoints/awq");
  EXPECT_EQ(config.vocab_size, 1024);
  EXPECT_EQ(config.hidden_size, 256);
  EXPECT_EQ(config.intermediate_size, 768);
  EXPECT_EQ(config.num_hidden_layers, 4);
  EXPECT_EQ(config.num_attention_heads, 8);
  EXPECT_EQ(config.num_key_value_heads, 4);
  EXPECT_EQ(config.head_dim, 32);
  EXPECT_EQ(config.max_position_embeddings, 8192);
  EXPECT_EQ(config.rms_norm_eps, 1e-6);
  EXPECT_EQ(config.rope_theta, 1e6);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.torch_dtype, "float16");
  EXPECT_EQ(config.eos_token_id, 1005);
  EXPECT_EQ(config.quantization.method, "awq");
  EXPECT_EQ(config.quantization.group_size, 128);
  EXPECT_FALSE(config.quantization.symmetric);
}

TEST(ModelConfigTest, ReadsTransformers5) {
  const ModelConfig config = ReadModelConfig(std::filesystem::path(TEST_DATA_DIR) / "../../suites/models/tiny_qwen3");
  EXPECT_EQ(config.rope_theta, 1e6);  // in rope_parameters
  EXPECT_EQ(config.torch_dtype, "bfloat16");
  EXPECT_TRUE(config.tie_word_embeddings);
  EXPECT_EQ(config.quantization.method, "");
}

TEST(ModelConfigTest, ReadsGptqAndTorchao) {
  const ModelConfig gptq = ReadModelConfig(TestData() / "checkpoints/gptq_desc_act");
  EXPECT_EQ(gptq.quantization.method, "gptq");
  EXPECT_TRUE(gptq.quantization.desc_act);
  EXPECT_TRUE(gptq.quantization.symmetric);
  EXPECT_TRUE(gptq.quantization.gptq_v1_zeros);
  const ModelConfig torchao = ReadModelConfig(TestData() / "checkpoints/torchao");
  EXPECT_EQ(torchao.quantization.method, "torchao");
  EXPECT_EQ(torchao.quantization.packing, "tile_packed_to_4d");
  EXPECT_EQ(torchao.quantization.group_size, 128);
}

// A config of `folder` after `edit`.
class EditedConfigTest : public testing::Test {
 protected:
  ModelConfig Read(const json& edit, const char* from = "awq") {
    Write(edit, from);
    return ReadModelConfig(folder_.path());
  }
  std::string Error(const json& edit, const char* from = "awq") {
    Write(edit, from);
    return ErrorOf(folder_.path() / "config.json", [&] { ReadModelConfig(folder_.path()); });
  }
  // RFC 7396: null removes a key.
  void Write(const json& edit, const char* from) {
    json config = ReadJson(TestData() / "checkpoints" / from / "config.json");
    config.merge_patch(edit);
    WriteFile(folder_.path() / "config.json", config.dump());
  }
  ScratchFolder folder_;
};

TEST_F(EditedConfigTest, TakesTheSpellingsOfOtherWriters) {
  EXPECT_EQ(Read(json::object()).quantization.method, "awq");  // the control
  EXPECT_EQ(Read({{"eos_token_id", {7, 8}}}).eos_token_id, 7);
  EXPECT_EQ(Read({{"eos_token_id", nullptr}}).eos_token_id, -1);
  EXPECT_EQ(Read({{"torch_dtype", "torch.bfloat16"}}).torch_dtype, "bfloat16");
  EXPECT_EQ(Read({{"torch_dtype", nullptr}}).torch_dtype, "");
  EXPECT_EQ(Read({{"head_dim", nullptr}}).head_dim, 128);
  EXPECT_EQ(Read({{"num_key_value_heads", nullptr}}).num_key_value_heads, 8);
  EXPECT_EQ(
      Read({{"rope_theta", nullptr}, {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}}}}).rope_theta,
      5e5);
  EXPECT_EQ(
      Read({{"quantization_config", {{"modules_to_not_convert", {"lm_head"}}}}}).quantization.modules_to_not_convert,
      std::vector<std::string>{"lm_head"});
  EXPECT_EQ(Read({{"quantization_config", {{"version", "GEMM"}}}}).quantization.method, "awq");
  EXPECT_EQ(Read({{"eos_token_id", json::array()}}).eos_token_id, -1);
  EXPECT_EQ(Read({{"torch_dtype", nullptr}, {"dtype", "bfloat16"}}).torch_dtype, "bfloat16");
  EXPECT_EQ(Read({{"sliding_window", nullptr}, {"attention_bias", false}, {"rope_scaling", nullptr}}).rope_theta, 1e6);
  EXPECT_EQ(Read({{"rope_scaling", {{"type", "default"}}}}).rope_theta, 1e6);
  EXPECT_EQ(Read({{"partial_rotary_factor", 1.0}}).rope_theta, 1e6);
  EXPECT_FALSE(Read({{"tie_word_embeddings", nullptr}}).tie_word_embeddings);
  EXPECT_EQ(Read({{"rms_norm_eps", nullptr}}).rms_norm_eps, 1e-6);
}

// Of rope_parameters and rope_scaling, both count; what is in neither is at the top.
TEST_F(EditedConfigTest, RefusesARotationThatIsNotTheWholeOne) {
  EXPECT_THAT(Error({{"partial_rotary_factor", 0.5}}), HasSubstr("partial_rotary_factor is not built"));
  const json whole = {{"rope_type", "default"}, {"rope_theta", 5e5}};
  EXPECT_EQ(Read({{"rope_parameters", whole}}).rope_theta, 5e5);
  json part = whole;
  part["partial_rotary_factor"] = 0.25;
  EXPECT_THAT(Error({{"rope_parameters", part}}), HasSubstr("rope_parameters: partial_rotary_factor is not built"));
  EXPECT_THAT(Error({{"rope_parameters", {{"full_attention", whole}}}}), HasSubstr("'full_attention' of its own"));
  EXPECT_THAT(Error({{"rope_scaling", whole}, {"rope_parameters", {{"rope_type", "yarn"}, {"factor", 4.0}}}}),
              HasSubstr("rope_parameters: rope_type 'yarn'"));
}

TEST_F(EditedConfigTest, TakesGptqVersions) {
  const auto gptq = [&](const json& edit) {
    return Read({{"quantization_config", edit}}, "gptq_desc_act").quantization;
  };
  EXPECT_FALSE(gptq({{"checkpoint_format", "gptq_v2"}}).gptq_v1_zeros);
  EXPECT_FALSE(gptq({{"checkpoint_format", nullptr}, {"format", "gptq_v2"}}).gptq_v1_zeros);
  EXPECT_TRUE(gptq({{"checkpoint_format", nullptr}}).gptq_v1_zeros);
  EXPECT_EQ(gptq({{"group_size", -1}}).group_size, -1);
  EXPECT_FALSE(gptq({{"sym", false}}).symmetric);
  EXPECT_FALSE(gptq({{"dynamic", json::object()}}).group_size_by_layer);
  EXPECT_TRUE(gptq({{"dynamic", {{"+:.*down.*", {{"group_size", 64}}}}}}).group_size_by_layer);
  EXPECT_FALSE(gptq({{"checkpoint_format", "GPTQ_V2"}}).gptq_v1_zeros);
  EXPECT_FALSE(
      gptq({{"sym", false}, {"lm_head", true}, {"modules_in_block_to_quantize", {{"mlp.down_proj"}}}}).symmetric);
  EXPECT_TRUE(gptq({{"sym", nullptr}}).symmetric);
  EXPECT_EQ(gptq({{"bits", nullptr}}).bits, 4);  // the shapes of the tensors tell
  // AutoGPTQ takes whole columns where it is not said, AutoAWQ 128: the scales tell.
  EXPECT_TRUE(gptq({{"group_size", nullptr}}).group_size_by_layer);
  EXPECT_FALSE(gptq({{"group_size", 128}}).group_size_by_layer);
  // GPTQModel 5 and later name things twice.
  EXPECT_FALSE(gptq({{"method", "gptq"}, {"format", "gptq_v2"}, {"checkpoint_format", "gptq_v2"}}).gptq_v1_zeros);
}

TEST_F(EditedConfigTest, TakesAwqOfGptqModel) {
  EXPECT_EQ(Read({{"quantization_config", {{"version", nullptr}, {"format", "gemm"}}}}).quantization.method, "awq");
  EXPECT_THAT(Error({{"quantization_config", {{"version", nullptr}, {"format", "gemv_fast"}}}}),
              HasSubstr("AWQ version 'gemv_fast'"));
  EXPECT_THAT(Error({{"quantization_config", {{"version", nullptr}, {"checkpoint_format", "marlin"}}}}),
              HasSubstr("AWQ version 'marlin'"));
  EXPECT_EQ(Read({{"quantization_config", {{"version", nullptr}, {"checkpoint_format", "gemm"}}}}).quantization.method,
            "awq");
}

TEST_F(EditedConfigTest, TakesCompressedTensors) {
  const auto read = [&](const json& weights) {
    json config = ReadJson(TestData() / "checkpoints/awq/config.json");
    config["quantization_config"] = {{"quant_method", "compressed-tensors"},
                                     {"format", "pack-quantized"},
                                     {"config_groups", {{"group_0", {{"weights", weights}}}}}};
    WriteFile(folder_.path() / "config.json", config.dump());
    return ReadModelConfig(folder_.path()).quantization;
  };
  const json group = {{"num_bits", 4}, {"strategy", "group"}, {"group_size", 64}, {"actorder", "group"}};
  EXPECT_EQ(read(group).group_size, 64);
  EXPECT_TRUE(read(group).desc_act);
  EXPECT_TRUE(read(group).symmetric);
  const json channel = {{"num_bits", 4}, {"strategy", "channel"}, {"group_size", nullptr}, {"symmetric", false}};
  EXPECT_EQ(read(channel).group_size, -1);
  EXPECT_FALSE(read(channel).symmetric);
  for (const char* order : {"static", "weight"}) {
    json ordered = group;
    ordered["actorder"] = order;
    EXPECT_FALSE(read(ordered).desc_act) << order;
  }
  json dynamic = group;
  dynamic["actorder"] = "dynamic";
  EXPECT_TRUE(read(dynamic).desc_act);
}

TEST_F(EditedConfigTest, TakesWhatCompressedTensorsSaysBeside) {
  const auto error = [&](const json& edit) {
    json config = ReadJson(TestData() / "checkpoints/ct_symmetric/config.json");
    config["quantization_config"].merge_patch(edit);
    WriteFile(folder_.path() / "config.json", config.dump());
    return ErrorOf(folder_.path() / "config.json", [&] { ReadModelConfig(folder_.path()); });
  };
  EXPECT_EQ(error(json::object()), "");
  EXPECT_EQ(error({{"ignore", {"lm_head", "re:.*mlp.gate$"}}}), "");
  EXPECT_EQ(error({{"transform_config", json::object()}, {"sparsity_config", json::object()}}), "");
  EXPECT_EQ(error({{"transform_config", {{"config_groups", json::object()}}}}), "");
  EXPECT_EQ(error({{"sparsity_config", {{"format", "dense"}, {"targets", json::array()}}}}), "");
  EXPECT_EQ(error({{"quantization_status", "frozen"}}), "");
  EXPECT_THAT(error({{"transform_config", {{"config_groups", {{"u", json::object()}}}}}}),
              HasSubstr("transform_config is not built"));
  EXPECT_THAT(error({{"kv_cache_scheme", {{"num_bits", 8}}}}), HasSubstr("kv_cache_scheme is not built"));
  EXPECT_THAT(error({{"quantization_status", "calibration"}}), HasSubstr("'calibration'"));
}

TEST_F(EditedConfigTest, TakesTorchaoVersions) {
  const auto with = [&](const json& type) {
    json config = ReadJson(TestData() / "checkpoints/torchao/config.json");
    config["quantization_config"]["quant_type"] = type;
    WriteFile(folder_.path() / "config.json", config.dump());
    return ReadModelConfig(folder_.path()).quantization;
  };
  EXPECT_EQ(with("int4_weight_only").packing, "tile_packed_to_4d");
  const json plain = {{"_type", "Int4WeightOnlyConfig"},
                      {"_version", 2},
                      {"_data", {{"group_size", 64}, {"int4_packing_format", "plain"}}}};
  EXPECT_EQ(with({{"default", plain}}).packing, "plain");
  EXPECT_EQ(with({{"default", plain}}).group_size, 64);
  const json by_name = {{"_type", "ModuleFqnToConfig"}, {"_data", {{"module_fqn_to_config", {{"_default", plain}}}}}};
  EXPECT_EQ(with({{"default", by_name}}).packing, "plain");
  const json preshuffled = {{"_type", "Int4WeightOnlyConfig"}, {"_data", {{"int4_packing_format", "preshuffled"}}}};
  EXPECT_THAT(ErrorOf(folder_.path(),
                      [&] {
                        with({{"default", preshuffled}});
                      }),
              HasSubstr("'\"preshuffled\"' is not read"));
  EXPECT_THAT(ErrorOf(folder_.path(),
                      [&] {
                        with({{"default", {{"_type", "Float8WeightOnlyConfig"}}}});
                      }),
              HasSubstr("is not Int4WeightOnlyConfig"));
}

TEST_F(EditedConfigTest, ReadsTheFileBesideWhereConfigSaysNothing) {
  Write({{"quantization_config", nullptr}}, "gptq_desc_act");
  EXPECT_EQ(ReadModelConfig(folder_.path()).quantization.method, "");
  WriteFile(folder_.path() / "quantize_config.json", R"({"bits":4,"group_size":64,"desc_act":false,"sym":false})");
  EXPECT_EQ(ReadModelConfig(folder_.path()).quantization.method, "gptq");
  EXPECT_EQ(ReadModelConfig(folder_.path()).quantization.group_size, 64);
  std::filesystem::remove(folder_.path() / "quantize_config.json");
  WriteFile(folder_.path() / "quant_config.json",
            R"({"zero_point":true,"q_group_size":64,"w_bit":4,"version":"GEMM"})");
  EXPECT_EQ(ReadModelConfig(folder_.path()).quantization.method, "awq");
  EXPECT_EQ(ReadModelConfig(folder_.path()).quantization.group_size, 64);
  // AutoGPTQ reads AWQ's settings from its own file.
  std::filesystem::rename(folder_.path() / "quant_config.json", folder_.path() / "quantize_config.json");
  EXPECT_EQ(ReadModelConfig(folder_.path()).quantization.method, "awq");
  // config.json counts where both say something, as for transformers.
  Write(json::object(), "gptq_desc_act");
  EXPECT_EQ(ReadModelConfig(folder_.path()).quantization.method, "gptq");
}

TEST_F(EditedConfigTest, RefusesOtherModels) {
  EXPECT_EQ(Error(json::object()), "");  // the control
  EXPECT_THAT(Error({{"architectures", {"LlamaForCausalLM"}}}), HasSubstr("LlamaForCausalLM"));
  EXPECT_THAT(Error({{"architectures", nullptr}, {"model_type", "qwen2"}}),
              HasSubstr("'qwen2' is not Qwen3ForCausalLM"));
  EXPECT_THAT(Error({{"hidden_act", "gelu"}}), HasSubstr("hidden_act 'gelu'"));
  EXPECT_THAT(Error({{"attention_bias", true}}), HasSubstr("attention_bias"));
  EXPECT_THAT(Error({{"use_sliding_window", true}}), HasSubstr("use_sliding_window"));
  EXPECT_THAT(Error({{"layer_types", {"sliding_attention"}}}), HasSubstr("layer_types"));
  EXPECT_THAT(Error({{"rope_scaling", {{"rope_type", "yarn"}, {"factor", 4.0}}}}), HasSubstr("rope_type 'yarn'"));
  EXPECT_THAT(Error({{"rope_theta", nullptr}}), HasSubstr("no 'rope_theta'"));
}

TEST_F(EditedConfigTest, RefusesSenselessFields) {
  for (const char* key : {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                          "max_position_embeddings"}) {
    EXPECT_THAT(Error({{key, nullptr}}), HasSubstr(std::string("no '") + key)) << key;
    for (const json& value : {json(0), json(-1), json(1.5), json("256"), json(std::int64_t{1} << 40), json(1e300)}) {
      EXPECT_THAT(Error({{key, value}}), HasSubstr("not a whole number")) << key << value;
    }
  }
  EXPECT_THAT(Error({{"num_key_value_heads", 3}}), HasSubstr("not a multiple"));
  EXPECT_THAT(Error({{"head_dim", 33}}), HasSubstr("odd"));
  EXPECT_THAT(Error({{"rms_norm_eps", 0}}), HasSubstr("not a positive number"));
  EXPECT_THAT(Error({{"rope_theta", "1e6"}}), HasSubstr("not a positive number"));
  EXPECT_THAT(Error({{"torch_dtype", "int8"}}), HasSubstr("'int8'"));
  EXPECT_THAT(Error({{"tie_word_embeddings", "no"}}), HasSubstr("not true or false"));
}

TEST_F(EditedConfigTest, RefusesOtherQuantizations) {
  const auto error = [&](const json& edit) { return Error({{"quantization_config", edit}}); };
  EXPECT_THAT(error({{"quant_method", "fp8"}}), HasSubstr("quant_method 'fp8'"));
  EXPECT_THAT(error({{"quant_method", nullptr}}), HasSubstr("no 'quant_method'"));
  EXPECT_THAT(error({{"bits", 8}}), HasSubstr("'bits' is '8'"));
  EXPECT_THAT(error({{"version", "gemv"}}), HasSubstr("AWQ version 'gemv'"));
  EXPECT_THAT(error({{"group_size", 0}}), HasSubstr("group_size is '0'"));
  EXPECT_THAT(error({{"modules_to_not_convert", "lm_head"}}), HasSubstr("not a list"));
  EXPECT_THAT(Error({{"quantization_config", {{"checkpoint_format", "marlin"}}}}, "gptq_desc_act"),
              HasSubstr("'marlin'"));
  EXPECT_THAT(Error({{"quantization_config", {{"pack_dtype", "int8"}}}}, "gptq_desc_act"), HasSubstr("'int8'"));
}

TEST_F(EditedConfigTest, SizesAloneAskForNothingElse) {
  Write({{"rope_scaling", {{"rope_type", "yarn"}}}, {"quantization_config", {{"quant_method", "fp8"}}}}, "awq");
  EXPECT_EQ(ReadModelSizes(folder_.path()).vocab_size, 1024);
  EXPECT_EQ(ReadModelSizes(folder_.path()).max_position_embeddings, 8192);
  Write({{"architectures", {"LlamaForCausalLM"}}}, "awq");
  EXPECT_THAT(ErrorOf(folder_.path(), [&] { ReadModelSizes(folder_.path()); }), HasSubstr("LlamaForCausalLM"));
}

TEST(ModelConfigErrorsTest, NamesWhatIsMissing) {
  const ScratchFolder folder;
  WriteFile(folder.path() / "config.json", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
  EXPECT_THAT(ErrorOf(folder.path(), [&] { ReadModelConfig(folder.path()); }), HasSubstr("is a Git LFS pointer"));
  std::filesystem::remove(folder.path() / "config.json");
  EXPECT_THAT(ErrorOf(folder.path(), [&] { ReadModelConfig(folder.path()); }), HasSubstr("config.json is missing"));
  EXPECT_THAT(ErrorOf(folder.path(), [&] { ReadModelConfig(folder.path() / "none"); }), HasSubstr("no such folder"));
  for (const char* text : {"", "{", "[]", "nonsense", "{\"a\":1}x"}) {
    WriteFile(folder.path() / "config.json", text);
    EXPECT_NE(ErrorOf(folder.path() / "config.json", [&] { ReadModelConfig(folder.path()); }), "") << text;
  }
  std::filesystem::remove(folder.path() / "config.json");
  std::filesystem::create_directory(folder.path() / "config.json");
  EXPECT_THAT(ErrorOf(folder.path(), [&] { ReadModelConfig(folder.path()); }), HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace suites
