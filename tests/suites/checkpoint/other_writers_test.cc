// What other versions of the tools wrote, made from the files of the versions at hand.
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/int4_matmul.h"
#include "suites/checkpoint/checkpoint.h"
#include "tests/suites/checkpoint/scratch.h"

namespace suites {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing_support::EditJson;
using testing_support::ErrorOf;
using testing_support::ScratchFolder;
using testing_support::TestData;
using testing_support::WriteFile;

struct Stored {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string bytes;

  template <class T>
  T* As() {
    return reinterpret_cast<T*>(bytes.data());
  }
};
using Tensors = std::map<std::string, Stored>;

class OtherWriters : public testing::Test {
 protected:
  // The tensors of a checkpoint of the tests, to be changed and written.
  void Take(const std::string& name) {
    from_ = TestData() / "checkpoints" / name;
    std::filesystem::copy_file(from_ / "config.json", folder_.path() / "config.json",
                               std::filesystem::copy_options::overwrite_existing);
    tensors_.clear();
    const SafetensorsReader reader = SafetensorsReader::Open(from_);
    for (const auto& [tensor, stored] : reader.tensors()) {
      const auto* const data = reinterpret_cast<const char*>(stored.data.data());
      tensors_[tensor] = {stored.dtype, stored.shape, std::string(data, stored.data.size())};
    }
  }
  void Write(const std::string& file = "model.safetensors") {
    std::vector<TensorToWrite> list;
    for (const auto& [name, stored] : tensors_) {
      list.push_back({name, stored.dtype, stored.shape, std::as_bytes(std::span(stored.bytes))});
    }
    WriteSafetensors(folder_.path() / file, list);
  }
  std::unique_ptr<Checkpoint> Open() {
    Write();
    return OpenCheckpoint(folder_.path());
  }
  std::string Error() {
    Write();
    return ErrorOf(folder_.path(), [&] { OpenCheckpoint(folder_.path()); });
  }
  void EditConfig(const std::function<void(json*)>& edit) { EditJson(folder_.path() / "config.json", edit); }

  ScratchFolder folder_;
  std::filesystem::path from_;
  Tensors tensors_;
};

// compressed-tensors up to 0.8.1: a zero point is a value of its own, I8 [N, K/G].
TEST_F(OtherWriters, ZeroPointsThatAreNotPackedAreThePackedOnes) {
  const std::string module = "model.layers.0.mlp.down_proj", name = module + ".weight_zero_point";
  for (const char* from : {"ct_asymmetric", "ct_channel"}) {
    Take(from);
    const kernels::QuantizedLinear packed = OpenCheckpoint(from_)->Quantized(module);
    Stored& zeros = tensors_.at(name);
    ASSERT_EQ(zeros.dtype, "I32");
    const std::int64_t n = packed.n, groups = packed.k / packed.group_size;
    Stored unpacked{"I8", {n, groups}, std::string(static_cast<std::size_t>(n * groups), '\0')};
    for (std::int64_t column = 0; column < n; ++column) {
      for (std::int64_t group = 0; group < groups; ++group) {
        const std::uint32_t word = zeros.As<std::uint32_t>()[column / 8 * groups + group];
        unpacked.bytes[static_cast<std::size_t>(column * groups + group)] =
            static_cast<char>(static_cast<int>(word >> (4 * (column % 8)) & 15u) - 8);
      }
    }
    zeros = unpacked;
    EXPECT_TRUE(at::equal(Open()->Quantized(module).qzeros, packed.qzeros)) << from;
    EXPECT_TRUE(at::equal(kernels::Dequantize(Open()->Quantized(module)), kernels::Dequantize(packed)));
    zeros.bytes[9] = static_cast<char>(zeros.bytes[9] == 0 ? 1 : 0);
    EXPECT_FALSE(at::equal(Open()->Quantized(module).qzeros, packed.qzeros)) << from;
    zeros.bytes[9] = 8;
    EXPECT_THAT(Error(), HasSubstr("weight_zero_point': holds 8, which 4 bits do not")) << from;
    zeros = {"I8", {groups, n}, unpacked.bytes};
    if (groups > 1) {
      EXPECT_THAT(Error(), HasSubstr("follows from config.json")) << from;
    }
  }
}

// An order that was never filled in is none: compressed-tensors, forward.py, "-1 in g_idx".
TEST_F(OtherWriters, AnUnsetGroupIndexIsNone) {
  const std::string module = "model.layers.0.mlp.down_proj", name = module + ".weight_g_idx";
  Take("ct_actorder");
  EXPECT_TRUE(Open()->Quantized(module).g_idx.defined());  // the control
  auto* const index = tensors_.at(name).As<std::int32_t>();
  for (std::int64_t i = 0; i < tensors_.at(name).shape[0]; ++i) index[i] = -1;
  EXPECT_FALSE(Open()->Quantized(module).g_idx.defined());
  EXPECT_TRUE(Open()->Quantized("model.layers.0.mlp.up_proj").g_idx.defined());
  index[0] = -2;
  for (std::int64_t i = 1; i < tensors_.at(name).shape[0]; ++i) index[i] = 0;
  const auto checkpoint = Open();
  EXPECT_THAT(ErrorOf(folder_.path(), [&] { checkpoint->Quantized(module); }), HasSubstr("is in group -2"));
}

TEST_F(OtherWriters, CompressedTensorsOfOneSymmetricGroupAndOneAsymmetric) {
  Take("ct_asymmetric");
  const std::string module = "model.layers.0.mlp.down_proj";
  tensors_.erase(module + ".weight_zero_point");
  EXPECT_THAT(Error(), HasSubstr("has no weight_zero_point, but config.json says asymmetric"));
  EditConfig([](json* config) {
    json& groups = (*config)["quantization_config"]["config_groups"];
    groups["group_1"] = groups["group_0"];
    groups["group_1"]["weights"]["symmetric"] = true;
  });
  EXPECT_EQ(Error(), "");
}

// Weights that a version left simulated ("frozen"), or in 8 bits, are not those that are computed with.
TEST_F(OtherWriters, ALayerWithScalesButWithoutCodesIsRefused) {
  Take("ct_symmetric");
  EditConfig([](json* config) { (*config)["quantization_config"]["quantization_status"] = "frozen"; });
  EXPECT_EQ(Error(), "");  // the control: packed weights, whatever an early version called them
  const std::string module = "model.layers.0.mlp.down_proj";
  const auto [n, k] =
      std::pair{tensors_.at("model.norm.weight").shape[0], tensors_.at(module + ".weight_packed").shape[1] * 8};
  tensors_.erase(module + ".weight_packed");
  tensors_[module + ".weight"] = {"BF16", {n, k}, std::string(static_cast<std::size_t>(2 * n * k), '\0')};
  EXPECT_THAT(Error(), HasSubstr("weight_scale': belongs to a quantized layer, but the layer has no 4-bit weights"));
  tensors_.erase(module + ".weight_scale");
  EXPECT_EQ(Error(), "");  // a layer that was left out of it
}

TEST_F(OtherWriters, AQuantizationThatNoLayerShowsIsRefused) {
  Take("awq");
  for (auto it = tensors_.begin(); it != tensors_.end();) {
    const std::string& name = it->first;
    const bool part = name.ends_with(".qweight") || name.ends_with(".qzeros") || name.ends_with(".scales");
    it = part ? tensors_.erase(it) : std::next(it);
  }
  const std::int64_t hidden = 256, mlp = 768, query = 256, key = 128;
  for (int layer = 0; layer < 4; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    for (const auto& [name, n, k] :
         std::vector<std::tuple<const char*, std::int64_t, std::int64_t>>{{"self_attn.q_proj", query, hidden},
                                                                          {"self_attn.k_proj", key, hidden},
                                                                          {"self_attn.v_proj", key, hidden},
                                                                          {"self_attn.o_proj", hidden, query},
                                                                          {"mlp.gate_proj", mlp, hidden},
                                                                          {"mlp.up_proj", mlp, hidden},
                                                                          {"mlp.down_proj", hidden, mlp}}) {
      tensors_[prefix + name + ".weight"] = {"F16", {n, k}, std::string(static_cast<std::size_t>(2 * n * k), '\0')};
    }
  }
  EXPECT_THAT(Error(), HasSubstr("config.json says awq, but no layer is stored quantized"));
  EditConfig([](json* config) { config->erase("quantization_config"); });
  EXPECT_EQ(Error(), "");
}

TEST_F(OtherWriters, AGroupSizeThatIsNotSaidIsThatOfTheScales) {
  for (const char* from : {"awq_group64", "gptq_asymmetric", "awq_columns", "gptq_770_v2_symmetric"}) {
    Take(from);
    const std::string module = "model.layers.0.mlp.down_proj";
    const std::int64_t group = Open()->Quantized(module).group_size;
    EditConfig([](json* config) { (*config)["quantization_config"].erase("group_size"); });
    EXPECT_EQ(Open()->Quantized(module).group_size, group) << from;
    EditConfig([](json* config) { (*config)["quantization_config"]["group_size"] = 16; });
    EXPECT_THAT(Error(), HasSubstr("follows from config.json")) << from;
  }
}

TEST_F(OtherWriters, ATiedHeadThatIsStoredTooMustBeTheEmbedding) {
  Take("ct_symmetric");
  EditConfig([](json* config) { (*config)["tie_word_embeddings"] = true; });
  Stored& head = tensors_["lm_head.weight"];
  head = tensors_.at("model.embed_tokens.weight");
  EXPECT_EQ(Error(), "");
  head.bytes.back() = static_cast<char>(head.bytes.back() ^ 1);
  EXPECT_THAT(Error(), HasSubstr("'lm_head.weight': is not the embedding, to which config.json ties it"));
  EditConfig([](json* config) { (*config)["tie_word_embeddings"] = false; });
  EXPECT_EQ(Error(), "");
  EditConfig([](json* config) { (*config)["tie_word_embeddings"] = true; });
  tensors_.erase("lm_head.weight");
  EXPECT_EQ(Error(), "");
  tensors_["lm_head.qweight"] = {"I32", {1}, "abcd"};
  EXPECT_THAT(Error(), HasSubstr("'lm_head.qweight': is there, but config.json ties lm_head to the embedding"));
}

TEST_F(OtherWriters, AnUntiedHeadThatIsMissingIsNamed) {
  Take("ct_symmetric");
  EditConfig([](json* config) { (*config)["tie_word_embeddings"] = false; });
  tensors_.erase("lm_head.weight");
  EXPECT_THAT(Error(), HasSubstr("no tensor 'lm_head.weight'"));
}

// As transformers: a whole file before an index, which may be left of an earlier upload.
TEST_F(OtherWriters, AWholeFileComesBeforeAnIndex) {
  Take("awq");
  const json index = {{"weight_map", {{"model.norm.weight", "model-00001-of-00002.safetensors"}}}};
  WriteFile(folder_.path() / "model.safetensors.index.json", index.dump());
  EXPECT_EQ(Error(), "");
  std::filesystem::remove(folder_.path() / "model.safetensors");
  EXPECT_THAT(ErrorOf(folder_.path(), [&] { OpenCheckpoint(folder_.path()); }),
              HasSubstr("model-00001-of-00002.safetensors' is missing"));
}

TEST_F(OtherWriters, FilesOfAnyNameAreTakenWhereThereIsOne) {
  Take("gptq_asymmetric");
  Write("gptq_model-4bit-32g.safetensors");
  EXPECT_TRUE(OpenCheckpoint(folder_.path())->IsQuantized("model.layers.0.mlp.down_proj"));
  Write("another.safetensors");
  EXPECT_THAT(ErrorOf(folder_.path(), [&] { OpenCheckpoint(folder_.path()); }), HasSubstr("no weights"));
}

// A layer of other bits, by a rule of "dynamic", is named as such.
TEST_F(OtherWriters, ALayerOfEightBitsIsNamed) {
  Take("gptq_770_v2_symmetric");
  const std::string module = "model.layers.0.mlp.down_proj";
  Stored& words = tensors_.at(module + ".qweight");
  words.shape[0] *= 2;
  words.bytes += std::string(words.bytes);
  EXPECT_THAT(Error(), HasSubstr("down_proj': has 8 bits, as a rule of \"dynamic\" in config.json may say"));
}

// The head of GPTQModel 7.7 has 8 bits: (code - zero point) scale, zero points from whole words.
TEST_F(OtherWriters, AHeadOfEightBitsIsDequantized) {
  Take("gptq_770_head");
  const std::unique_ptr<Checkpoint> checkpoint = Open();
  EXPECT_TRUE(checkpoint->IsQuantized("lm_head"));
  const at::Tensor head = checkpoint->Head(at::kFloat);
  const std::int64_t n = head.size(0), k = head.size(1);
  ASSERT_EQ(tensors_.at("lm_head.qweight").shape, (std::vector<std::int64_t>{k / 4, n}));
  const auto* const words = tensors_.at("lm_head.qweight").As<std::uint32_t>();
  const auto* const zeros = tensors_.at("lm_head.qzeros").As<std::uint32_t>();
  const auto* const groups = tensors_.at("lm_head.g_idx").As<std::int32_t>();
  const auto* const halves = tensors_.at("lm_head.scales").As<at::Half>();
  std::int64_t different = 0;
  for (std::int64_t row = 0; row < k; ++row) {
    for (std::int64_t column = 0; column < n; ++column) {
      const int code = static_cast<int>(words[row / 4 * n + column] >> (8 * (row % 4)) & 255u);
      const std::uint32_t word = zeros[groups[row] * (n / 4) + column / 4] + 0x01010101u;
      const int zero = static_cast<int>(word >> (8 * (column % 4)) & 255u);
      const float expected = static_cast<float>(code - zero) * static_cast<float>(halves[groups[row] * n + column]);
      different += head.const_data_ptr<float>()[column * k + row] != expected;
    }
  }
  EXPECT_EQ(different, 0);
  EXPECT_TRUE(at::equal(checkpoint->Head(at::kHalf), head.to(at::kHalf)));
  tensors_.at("lm_head.qweight").bytes[0] ^= 1;
  EXPECT_FALSE(at::equal(Open()->Head(at::kFloat), head));
  tensors_.at("lm_head.g_idx").As<std::int32_t>()[3] = 99;
  const std::unique_ptr<Checkpoint> damaged = Open();
  EXPECT_THAT(ErrorOf(folder_.path(), [&] { damaged->Head(at::kFloat); }), HasSubstr("row 3 is in group 99"));
  tensors_.at("lm_head.qzeros").shape = {n / 4, k / 32};
  EXPECT_THAT(Error(), HasSubstr("'lm_head.qzeros': has shape"));
}

// Four bits. Pieces of 2,048 columns, the last one shorter.
class QuantizedHead : public Checkpoint {
 public:
  explicit QuantizedHead(kernels::QuantizedLinear head) : head_(std::move(head)) {}
  const ModelConfig& config() const override { return config_; }
  const std::filesystem::path& folder() const override { return folder_; }
  at::Tensor Dense(const std::string& name) const override { throw CheckpointError(name); }
  bool IsQuantized(const std::string& module) const override { return module == "lm_head"; }
  kernels::QuantizedLinear Quantized(const std::string&) const override { return head_; }

 private:
  kernels::QuantizedLinear head_;
  ModelConfig config_;
  std::filesystem::path folder_;
};

at::Tensor Words(std::vector<std::int64_t> shape) {
  return at::randint(-(1LL << 31), 1LL << 31, shape, at::kLong).to(at::kInt);
}

TEST(HeadWeightsTest, AreTheDequantizedOnesInEveryFormat) {
  using kernels::Format;
  const std::int64_t k = 1024, group = 64, n = 5000;
  for (const Format format : {Format::kAwq, Format::kGptq, Format::kTorchaoTilePacked, Format::kTorchaoPlain}) {
    kernels::QuantizedLinear head;
    head.name = "lm_head";
    head.format = format;
    head.k = k;
    head.n = n;
    head.group_size = group;
    const bool words = format == Format::kAwq || format == Format::kGptq;
    const at::ScalarType type = words ? at::kHalf : at::kBFloat16;
    head.scales = at::rand({k / group, n}).to(type);
    if (format == Format::kAwq) head.qweight = Words({k, n / 8});
    if (format == Format::kGptq) head.qweight = Words({k / 8, n});
    if (words) head.qzeros = Words({k / group, n / 8});
    if (format == Format::kGptq)
      head.g_idx = at::arange(k, at::kInt).mul(7).remainder(k).floor_divide(group).to(at::kInt);
    if (format == Format::kTorchaoTilePacked) {
      head.qweight = Words({n / 8, k / 128, 32, 4});
      head.scales = at::rand({k / group, n, 2}).to(type);
    }
    if (format == Format::kTorchaoPlain) {
      head.qweight = at::randint(-128, 128, {n, k / 2}, at::kLong).to(at::kChar);
      head.qzeros = at::rand({k / group, n}).to(type);
    }
    const at::Tensor expected = kernels::Dequantize(head).t();
    const QuantizedHead checkpoint(head);
    EXPECT_TRUE(at::equal(checkpoint.Head(at::kFloat), expected)) << kernels::NameOf(format);
    EXPECT_TRUE(at::equal(checkpoint.Head(at::kHalf), expected.to(at::kHalf))) << kernels::NameOf(format);
    head.qweight = head.qweight.clone();
    head.qweight.view({-1})[-1].bitwise_not_();
    EXPECT_FALSE(at::equal(QuantizedHead(head).Head(at::kFloat), expected)) << kernels::NameOf(format);
  }
}

}  // namespace
}  // namespace suites
