#include "suites/checkpoint/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <vector>

#include "suites/checkpoint/qwen3_tensors.h"
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
constexpr char kQuery[] = "model.layers.0.self_attn.q_proj";

std::string BytesOf(const at::Tensor& tensor) {
  return {static_cast<const char*>(tensor.const_data_ptr()), static_cast<std::size_t>(tensor.nbytes())};
}

std::string StoredBytes(const StoredTensor& stored) {
  return {reinterpret_cast<const char*>(stored.data.data()), stored.data.size()};
}

TEST(CheckpointTest, OpensFullPrecisionWithTiedEmbeddings) {
  const auto folder = TestData() / "../../suites/models/tiny_qwen3";
  const auto checkpoint = OpenCheckpoint(folder);
  EXPECT_EQ(checkpoint->config().num_hidden_layers, 6);
  EXPECT_EQ(checkpoint->folder(), folder);
  EXPECT_FALSE(checkpoint->IsQuantized(kDown));
  const at::Tensor down = checkpoint->Dense(std::string(kDown) + ".weight");
  EXPECT_EQ(down.scalar_type(), at::kBFloat16);
  EXPECT_EQ(down.sizes(), (at::IntArrayRef{256, 1024}));
  const SafetensorsReader file = SafetensorsReader::Open(folder);
  EXPECT_EQ(BytesOf(down), StoredBytes(file.Get(std::string(kDown) + ".weight")));
  const at::Tensor head = checkpoint->Dense("lm_head.weight");
  EXPECT_EQ(head.const_data_ptr(), checkpoint->Dense("model.embed_tokens.weight").const_data_ptr());
  EXPECT_FALSE(checkpoint->IsQuantized("lm_head"));
  EXPECT_THAT(ErrorOf(folder, [&] { checkpoint->Quantized(kDown); }), HasSubstr("is not stored quantized"));
  EXPECT_THAT(ErrorOf(folder, [&] { checkpoint->Dense("model.rotary.weight"); }), HasSubstr("is not a tensor of this"));
}

TEST(CheckpointTest, TensorsOutliveTheCheckpoint) {
  at::Tensor norm;
  {
    const auto checkpoint = OpenCheckpoint(TestData() / "checkpoints/awq");
    norm = checkpoint->Dense("model.norm.weight");
  }
  EXPECT_EQ(BytesOf(norm),
            StoredBytes(SafetensorsReader::Open(TestData() / "checkpoints/awq").Get("model.norm.weight")));
}

TEST(CheckpointTest, OpensAwq) {
  const auto checkpoint = OpenCheckpoint(TestData() / "checkpoints/awq");
  ASSERT_TRUE(checkpoint->IsQuantized(kDown));
  const kernels::QuantizedLinear down = checkpoint->Quantized(kDown);
  EXPECT_EQ(down.name, kDown);
  EXPECT_EQ(down.format, kernels::Format::kAwq);
  EXPECT_EQ(down.k, 768);
  EXPECT_EQ(down.n, 256);
  EXPECT_EQ(down.group_size, 128);
  EXPECT_EQ(down.qweight.sizes(), (at::IntArrayRef{768, 32}));
  EXPECT_EQ(down.qzeros.sizes(), (at::IntArrayRef{6, 32}));
  EXPECT_EQ(down.scales.sizes(), (at::IntArrayRef{6, 256}));
  EXPECT_EQ(down.scales.scalar_type(), at::kHalf);
  EXPECT_FALSE(down.g_idx.defined());
  EXPECT_FALSE(checkpoint->IsQuantized("lm_head"));
  EXPECT_EQ(checkpoint->Dense("lm_head.weight").sizes(), (at::IntArrayRef{1024, 256}));
  EXPECT_THROW(checkpoint->Dense(std::string(kDown) + ".weight"), CheckpointError);
}

TEST(CheckpointTest, OpensGptq) {
  const auto checkpoint = OpenCheckpoint(TestData() / "checkpoints/gptq_desc_act");
  const kernels::QuantizedLinear down = checkpoint->Quantized(kDown);
  EXPECT_EQ(down.format, kernels::Format::kGptq);
  EXPECT_TRUE(down.gptq_v1_zeros);
  EXPECT_EQ(down.qweight.sizes(), (at::IntArrayRef{96, 256}));
  EXPECT_EQ(down.g_idx.sizes(), (at::IntArrayRef{768}));
  // desc_act: not in order.
  const auto* index = down.g_idx.const_data_ptr<std::int32_t>();
  bool in_order = true;
  for (int i = 0; i < 768; ++i) in_order = in_order && index[i] == i / 128;
  EXPECT_FALSE(in_order);
}

TEST(CheckpointTest, OpensTorchaoPickles) {
  const auto checkpoint = OpenCheckpoint(TestData() / "checkpoints/torchao");
  const kernels::QuantizedLinear down = checkpoint->Quantized(kDown);
  EXPECT_EQ(down.format, kernels::Format::kTorchaoTilePacked);
  EXPECT_EQ(down.k, 640);  // padded to 1024
  EXPECT_EQ(down.n, 256);
  EXPECT_EQ(down.group_size, 128);
  EXPECT_EQ(down.qweight.sizes(), (at::IntArrayRef{32, 8, 32, 4}));
  EXPECT_EQ(down.scales.sizes(), (at::IntArrayRef{8, 256, 2}));
  EXPECT_EQ(checkpoint->Dense("lm_head.weight").sizes(), (at::IntArrayRef{1024, 256}));
}

TEST(CheckpointTest, NamesTheWeightsThatAreMissing) {
  const ScratchFolder folder;
  std::filesystem::copy_file(TestData() / "checkpoints/awq/config.json", folder.path() / "config.json");
  EXPECT_THAT(ErrorOf(folder.path(), [&] { OpenCheckpoint(folder.path()); }), HasSubstr("no weights"));
}

// A folder with the small files of `from` and a copy of its weights to edit.
class EditedCheckpointTest : public testing::Test {
 protected:
  void Copy(const std::string& from) {
    for (const char* name : {"config.json", "model.safetensors"}) {
      std::filesystem::copy_file(TestData() / "checkpoints" / from / name, folder_.path() / name,
                                 std::filesystem::copy_options::overwrite_existing);
    }
  }
  std::string Error() {
    return ErrorOf(folder_.path(), [&] { OpenCheckpoint(folder_.path()); });
  }
  void Edit(const std::function<void(json*)>& edit) { EditHeader(weights_, edit); }
  ScratchFolder folder_;
  std::filesystem::path weights_ = folder_.path() / "model.safetensors";
};

TEST_F(EditedCheckpointTest, AnUntouchedCopyIsAccepted) {
  for (const char* from : {"awq", "gptq_desc_act"}) {
    Copy(from);
    Edit([](json*) {});
    EXPECT_EQ(Error(), "") << from;
  }
}

TEST_F(EditedCheckpointTest, AMissingTensorIsNamed) {
  for (const char* name : {"model.norm.weight", "lm_head.weight", "model.layers.3.self_attn.k_norm.weight",
                           "model.layers.2.mlp.up_proj.scales", "model.layers.1.self_attn.o_proj.qzeros"}) {
    Copy("awq");
    Edit([&](json* header) {
      (*header)["unused"] = (*header)[name];  // the bytes must belong to something
      header->erase(name);
    });
    EXPECT_THAT(Error(), HasSubstr("no tensor '" + std::string(name))) << name;
  }
}

TEST_F(EditedCheckpointTest, AWrongShapeIsNamed) {
  struct Case {
    const char* name;
    json shape;
    const char* message;
  };
  for (const Case& c : {Case{"model.norm.weight", {16, 16}, "has shape [16, 16], [256] follows from config.json"},
                        Case{"model.embed_tokens.weight", {256, 1024}, "[1024, 256] follows"},
                        Case{"model.layers.0.mlp.down_proj.qweight", {96, 256}, "[768, 32] follows"},
                        Case{"model.layers.0.mlp.down_proj.qzeros", {32, 6}, "[6, 32] follows"},
                        Case{"model.layers.0.mlp.down_proj.scales", {1536}, "[6, 256] follows"}}) {
    Copy("awq");
    Edit([&](json* header) { (*header)[c.name]["shape"] = c.shape; });
    EXPECT_THAT(Error(), HasSubstr(c.message)) << c.name;
    EXPECT_THAT(Error(), HasSubstr(c.name)) << c.name;
  }
}

TEST_F(EditedCheckpointTest, AWrongDtypeIsNamed) {
  Copy("awq");
  Edit([](json* header) { (*header)["model.norm.weight"]["dtype"] = "I16"; });
  EXPECT_THAT(Error(), HasSubstr("has dtype I16 instead of F16 or BF16 or F32"));
  Copy("awq");
  Edit([](json* header) { (*header)["model.layers.0.mlp.down_proj.qweight"]["dtype"] = "F32"; });
  EXPECT_THAT(Error(), HasSubstr("has dtype F32 instead of I32"));
}

TEST_F(EditedCheckpointTest, AConfigThatDoesNotFitTheWeightsIsRefused) {
  const auto config = folder_.path() / "config.json";
  Copy("awq");
  EditJson(config, [](json* c) { (*c)["num_hidden_layers"] = 5; });
  EXPECT_THAT(Error(), HasSubstr("no tensor 'model.layers.4."));
  Copy("awq");
  EditJson(config, [](json* c) { (*c)["quantization_config"]["group_size"] = 64; });
  EXPECT_THAT(Error(), HasSubstr("follows from config.json"));
  Copy("awq");
  EditJson(config, [](json* c) { (*c)["quantization_config"]["group_size"] = 100; });
  EXPECT_THAT(Error(), HasSubstr("do not go with group_size 100"));
  Copy("awq");
  EditJson(config, [](json* c) { (*c).erase("quantization_config"); });
  EXPECT_THAT(Error(), HasSubstr("is stored quantized, but config.json has no quantization_config"));
  Copy("awq");  // AWQ weights read as GPTQ
  EditJson(config, [](json* c) { (*c)["quantization_config"] = {{"quant_method", "gptq"}, {"bits", 4}}; });
  EXPECT_THAT(Error(), HasSubstr("follows from config.json"));
}

TEST_F(EditedCheckpointTest, AGroupThatDoesNotExistIsRefused) {
  Copy("gptq_desc_act");
  const auto stored = SafetensorsReader::Open(weights_).Get(std::string(kDown) + ".g_idx");
  const auto offset = ReadFile(weights_).find(StoredBytes(stored));
  ASSERT_NE(offset, std::string::npos);
  for (const std::int32_t group : {6, -1, 1 << 30}) {
    std::string bytes = ReadFile(TestData() / "checkpoints/gptq_desc_act/model.safetensors");
    std::memcpy(bytes.data() + offset + 4 * 5, &group, 4);
    WriteFile(weights_, bytes);
    const auto checkpoint = OpenCheckpoint(folder_.path());
    EXPECT_THAT(ErrorOf(folder_.path(), [&] { checkpoint->Quantized(kDown); }),
                HasSubstr("row 5 is in group " + std::to_string(group)));
    EXPECT_EQ(checkpoint->Quantized(kQuery).k, 256);  // another layer is untouched
  }
}

TEST_F(EditedCheckpointTest, DescActNeedsTheIndex) {
  Copy("gptq_desc_act");
  Edit([](json* header) {
    const std::string name = std::string(kDown) + ".g_idx";
    (*header)["unused"] = (*header)[name];
    header->erase(name);
  });
  EXPECT_THAT(Error(), HasSubstr("desc_act without g_idx"));
  EditJson(folder_.path() / "config.json", [](json* c) { (*c)["quantization_config"]["desc_act"] = false; });
  EXPECT_EQ(Error(), "");
  EXPECT_FALSE(OpenCheckpoint(folder_.path())->Quantized(kDown).g_idx.defined());
}

// A checkpoint of any layout, all zeros, of the smallest shapes that need padding.
class MadeCheckpointTest : public testing::Test {
 protected:
  static constexpr int kHidden = 128;
  static constexpr int kIntermediate = 1152;  // tile-packed: padded to 2048

  MadeCheckpointTest() {
    config_ = {{"architectures", {"Qwen3ForCausalLM"}},
               {"vocab_size", 64},
               {"hidden_size", kHidden},
               {"intermediate_size", kIntermediate},
               {"num_hidden_layers", 1},
               {"num_attention_heads", 2},
               {"num_key_value_heads", 1},
               {"head_dim", 20},
               {"max_position_embeddings", 128},
               {"rope_theta", 1e6},
               {"tie_word_embeddings", true},
               {"dtype", "bfloat16"}};
    WriteConfig();
    const Qwen3Tensors tensors = TensorsOf(ReadModelConfig(folder_.path()));
    for (const auto& [name, shape] : tensors.dense) Add(name, "BF16", shape);
    linear_ = tensors.linear;
  }
  void WriteConfig() { WriteFile(folder_.path() / "config.json", config_.dump()); }
  void Add(const std::string& name, const std::string& dtype, const std::vector<std::int64_t>& shape) {
    tensors_[name] = {dtype, shape};
  }
  void Write() {
    std::vector<TensorHeader> headers;
    std::size_t bytes = 0;
    for (const auto& [name, tensor] : tensors_) {
      headers.push_back({name, tensor.first, tensor.second});
      std::size_t size = static_cast<std::size_t>(BitsOfDtype(tensor.first)) / 8;
      for (const auto extent : tensor.second) size *= static_cast<std::size_t>(extent);
      bytes += size;
    }
    SafetensorsWriter writer(folder_.path() / "model.safetensors", headers, metadata_);
    writer.Append(std::vector<std::byte>(bytes));
    writer.Finish();
  }
  void AddTorchao(bool tile_packed) {
    const json type = {{"default", {{"_type", "Int4WeightOnlyConfig"}, {"_data", {{"group_size", 32}}}}}};
    config_["quantization_config"] = {{"quant_method", "torchao"}, {"quant_type", type}};
    WriteConfig();
    json names = json::array();
    for (const auto& [module, shape] : linear_) {
      if (tile_packed) {
        const std::int64_t k = (shape.k + 1023) / 1024 * 1024;
        const std::int64_t n = (shape.n + 7) / 8 * 8;
        Add(module + "._weight_qdata", "I32", {n / 8, k / 128, 32, 4});
        Add(module + "._weight_scale_and_zero", "BF16", {k / 32, n, 2});
      } else {
        Add(module + "._weight_qdata", "I8", {shape.n, shape.k / 2});
        Add(module + "._weight_scale", "BF16", {shape.k / 32, shape.n});
        Add(module + "._weight_zero_point", "BF16", {shape.k / 32, shape.n});
      }
      metadata_[module + ".weight"] = json{{"_type", tile_packed ? "Int4TilePackedTo4dTensor" : "Int4Tensor"},
                                           {"_data", {{"block_size", {1, 32}}, {"shape", {shape.n, shape.k}}}}}
                                          .dump();
      names.push_back(module + ".weight");
    }
    names.push_back("lm_head.weight");  // tied and not in the file: torchao writes so
    metadata_["tensor_names"] = names.dump();
  }
  std::string Error() {
    Write();
    return ErrorOf(folder_.path(), [&] { OpenCheckpoint(folder_.path()); });
  }

  ScratchFolder folder_;
  json config_;
  std::map<std::string, std::pair<std::string, std::vector<std::int64_t>>> tensors_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, LinearShape> linear_;
};

TEST_F(MadeCheckpointTest, OpensTorchaoTilePacked) {
  AddTorchao(true);
  Write();
  const kernels::QuantizedLinear down = OpenCheckpoint(folder_.path())->Quantized(kDown);
  EXPECT_EQ(down.format, kernels::Format::kTorchaoTilePacked);
  EXPECT_EQ(down.k, kIntermediate);
  EXPECT_EQ(down.group_size, 32);
  EXPECT_EQ(down.qweight.sizes(), (at::IntArrayRef{16, 16, 32, 4}));
  EXPECT_EQ(down.scales.sizes(), (at::IntArrayRef{64, 128, 2}));
  EXPECT_EQ(OpenCheckpoint(folder_.path())->Quantized("model.layers.0.self_attn.k_proj").n, 20);
}

TEST_F(MadeCheckpointTest, OpensTorchaoPlain) {
  AddTorchao(false);
  Write();
  const kernels::QuantizedLinear down = OpenCheckpoint(folder_.path())->Quantized(kDown);
  EXPECT_EQ(down.format, kernels::Format::kTorchaoPlain);
  EXPECT_EQ(down.qweight.sizes(), (at::IntArrayRef{kHidden, kIntermediate / 2}));
  EXPECT_EQ(down.scales.sizes(), (at::IntArrayRef{36, kHidden}));
  EXPECT_EQ(down.qzeros.sizes(), (at::IntArrayRef{36, kHidden}));
}

TEST_F(MadeCheckpointTest, RefusesTorchaoThatDoesNotFit) {
  AddTorchao(true);
  const auto clean = tensors_;
  const auto clean_metadata = metadata_;
  EXPECT_EQ(Error(), "");
  Add(std::string(kDown) + "._weight_act_pre_scale", "BF16", {kIntermediate});
  EXPECT_THAT(Error(), HasSubstr("activation pre-scale"));
  tensors_ = clean;
  Add(std::string(kDown) + "._weight_qdata", "I32", {16, 9, 32, 4});  // without the padding
  EXPECT_THAT(Error(), HasSubstr("[16, 16, 32, 4] follows"));
  tensors_ = clean;
  Add(std::string(kDown) + "._weight_scale_and_zero", "BF16", {60, kHidden, 2});
  EXPECT_THAT(Error(), HasSubstr("whose groups do not divide K = 2048"));
  tensors_ = clean;
  metadata_[std::string(kDown) + ".weight"] = R"({"_type":"Float8Tensor","_data":{}})";
  EXPECT_THAT(Error(), HasSubstr("Float8Tensor"));
  metadata_[std::string(kDown) + ".weight"] = R"({"_type":"Int4TilePackedTo4dTensor","_data":{"shape":[128,1024]}})";
  EXPECT_THAT(Error(), HasSubstr("has shape '[128,1024]' in __metadata__"));
  metadata_ = clean_metadata;
  EXPECT_EQ(Error(), "");
}

TEST_F(MadeCheckpointTest, ABiasMustBeZero) {
  for (const auto& [module, shape] : linear_) Add(module + ".weight", "BF16", {shape.n, shape.k});
  Add(std::string(kDown) + ".bias", "BF16", {kHidden});
  EXPECT_EQ(Error(), "");
  std::string bytes = ReadFile(folder_.path() / "model.safetensors");
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  const auto offsets = json::parse(bytes.substr(8, header))[std::string(kDown) + ".bias"]["data_offsets"];
  bytes[8 + header + offsets[1].get<std::size_t>() - 1] = 1;
  WriteFile(folder_.path() / "model.safetensors", bytes);
  EXPECT_THAT(ErrorOf(folder_.path(), [&] { OpenCheckpoint(folder_.path()); }), HasSubstr("is not zero"));
}

TEST_F(MadeCheckpointTest, ReadsShardedWeights) {
  for (const auto& [module, shape] : linear_) Add(module + ".weight", "BF16", {shape.n, shape.k});
  Write();
  std::filesystem::rename(folder_.path() / "model.safetensors", folder_.path() / "model-00001-of-00001.safetensors");
  json map;
  for (const auto& [name, tensor] : tensors_) map[name] = "model-00001-of-00001.safetensors";
  WriteFile(folder_.path() / "model.safetensors.index.json", json{{"weight_map", map}}.dump());
  EXPECT_FALSE(OpenCheckpoint(folder_.path())->IsQuantized(kDown));
}

TEST(TensorViewTest, SharesAlignedBytesAndCopiesOthers) {
  const auto buffer = std::make_shared<std::vector<std::int32_t>>(std::vector<std::int32_t>{1, 2, 3});
  StoredTensor stored;
  stored.dtype = "I32";
  stored.shape = {2};
  stored.owner = buffer;
  const auto bytes = std::as_bytes(std::span(*buffer));
  stored.data = bytes.first(8);
  EXPECT_EQ(TensorView("a", stored).const_data_ptr(), buffer->data());
  stored.data = bytes.subspan(1, 8);
  const at::Tensor copy = TensorView("a", stored);
  EXPECT_NE(copy.const_data_ptr(), static_cast<const void*>(bytes.data() + 1));
  EXPECT_EQ(BytesOf(copy), StoredBytes(stored));
  stored.dtype = "F8_E4M3";
  EXPECT_THROW(TensorView("a", stored), CheckpointError);
}

TEST(TensorViewTest, KeepsTheOwnerAlive) {
  auto buffer = std::make_shared<std::vector<std::int32_t>>(std::vector<std::int32_t>{1, 2});
  const std::weak_ptr<std::vector<std::int32_t>> watch = buffer;
  StoredTensor stored;
  stored.dtype = "I32";
  stored.shape = {2};
  stored.data = std::as_bytes(std::span(*buffer));
  stored.owner = std::move(buffer);
  at::Tensor view = TensorView("a", stored);
  stored = {};
  EXPECT_FALSE(watch.expired());
  view.reset();
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace suites
