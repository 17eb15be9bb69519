#include "suites/quantize/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "suites/checkpoint/model_config.h"
#include "suites/checkpoint/safetensors.h"
#include "suites/quantize/half.h"
#include "tests/suites/quantize/scratch_folder.h"
#define XXH_INLINE_ALL
#include "xxhash/xxhash.h"

namespace suites::quantize {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

constexpr const char* kShape =
    "hidden=256,intermediate=384,layers=2,heads=4,kv_heads=2,head_dim=64,vocab=300,tied=0,positions=512";

json ReadJson(const fs::path& path) { return json::parse(ReadAll(path)); }

std::set<std::string> FilesIn(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return names;
}

std::map<std::string, std::string> Contents(const fs::path& folder) {
  std::map<std::string, std::string> contents;
  for (const std::string& name : FilesIn(folder)) contents[name] = ReadAll(folder / name);
  return contents;
}

// XXH3-128 of a file, in hexadecimal.
std::string Digest(const fs::path& path) {
  const std::string bytes = ReadAll(path);
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

template <typename Call>
std::string ErrorOf(const Call& call) {
  try {
    call();
  } catch (const CheckpointError& error) {
    EXPECT_THAT(error.what(), testing::Not(HasSubstr("\n")));
    return error.what();
  }
  return "no error";
}

// A full-precision checkpoint of random weights, in one file or in two.
void WriteFullPrecision(const fs::path& folder, const std::string& dtype, bool sharded, const std::string& without = "",
                        const std::string& reshaped = "") {
  const auto source = RandomWeights(ParseShape(kShape), 5);
  fs::create_directories(folder);
  std::ofstream(folder / "config.json") << source->config_json().dump();
  for (const auto& [name, text] : source->files()) std::ofstream(folder / name) << text;
  std::vector<std::vector<std::byte>> data;
  std::vector<TensorToWrite> shards[2];
  json weight_map = json::object();
  for (const TensorInfo& tensor : TensorsOf(source->config())) {
    if (tensor.name == without) continue;
    std::vector<float> values(tensor.rows() * tensor.columns());
    source->Read(tensor, 0, tensor.rows(), values.data());
    std::vector<std::byte> bytes;
    for (float value : values) {
      const std::uint16_t half = dtype == "F16" ? HalfFromFloat(value) : BFloat16FromFloat(value);
      const auto* from =
          dtype == "F32" ? reinterpret_cast<const std::byte*>(&value) : reinterpret_cast<const std::byte*>(&half);
      bytes.insert(bytes.end(), from, from + (dtype == "F32" ? 4 : 2));
    }
    data.push_back(std::move(bytes));
    std::vector<std::int64_t> shape = tensor.shape;
    if (tensor.name == reshaped) shape = {shape[0] / 2, shape[1] * 2};
    const int shard = sharded && weight_map.size() % 2 == 1;
    shards[shard].push_back({tensor.name, dtype, shape, data.back()});
    weight_map[tensor.name] = "part-" + std::to_string(shard) + ".safetensors";
  }
  if (!sharded) {
    WriteSafetensors(folder / "model.safetensors", shards[0]);
    return;
  }
  for (int i = 0; i < 2; ++i) WriteSafetensors(folder / ("part-" + std::to_string(i) + ".safetensors"), shards[i]);
  std::ofstream(folder / "model.safetensors.index.json") << json{{"metadata", {}}, {"weight_map", weight_map}}.dump();
}

class EveryOutput : public testing::TestWithParam<OutputFormat> {
 protected:
  void SetUp() override {
#ifndef GTEST_DETERMINISM_HAVE_OPENVINO
    if (GetParam() == OutputFormat::kOpenVino) GTEST_SKIP() << "built without OpenVINO";
#endif
  }
  fs::path Make(const std::string& name, const WeightSource& source, QuantizeOptions options = {}) const {
    options.format = GetParam();
    Quantize(source, folder_.path() / name, options);
    return folder_.path() / name;
  }
  std::string WeightsFile() const {
    return GetParam() == OutputFormat::kOpenVino ? "openvino_model.bin" : "model.safetensors";
  }
  ScratchFolder folder_;
};

// The weights of a fixed random model. A change of these digests is a change of
// every quantized checkpoint: say so in CHANGELOG.md.
TEST_P(EveryOutput, BytesAreTheSameOnEveryMachineForAnyNumberOfThreads) {
  const std::map<OutputFormat, std::string> digests = {
      {OutputFormat::kAwq, "74ea620c6c88ebb862cb76680c7c1976"},
      {OutputFormat::kGptq, "a8f7b6471fb3f8944f58982c9e03045f"},
      {OutputFormat::kTorchao, "1b68f6921cfdb2d89201ef7eedc97434"},
      {OutputFormat::kOpenVino, "e757fe64dfc2fc4f0b58e7812a87f8c5"},
  };
  const auto source = RandomWeights(ParseShape(kShape), 42);
  const fs::path one = Make("one", *source, {.threads = 1});
  EXPECT_EQ(Digest(one / WeightsFile()), digests.at(GetParam()));
  for (const int threads : {2, 5}) {
    EXPECT_EQ(Contents(Make("threads" + std::to_string(threads), *source, {.threads = threads})), Contents(one));
  }
  // Control: another seed.
  EXPECT_NE(Digest(Make("other", *RandomWeights(ParseShape(kShape), 43)) / WeightsFile()), digests.at(GetParam()));
}

// One file or two, bf16 or fp32 of the same values: the same output.
TEST_P(EveryOutput, ShardedInputGivesTheSameBytes) {
  WriteFullPrecision(folder_.path() / "whole", "BF16", false);
  WriteFullPrecision(folder_.path() / "sharded", "BF16", true);
  WriteFullPrecision(folder_.path() / "float", "F32", false);
  const auto expected = Contents(Make("a", *OpenWeights(folder_.path() / "whole")));
  EXPECT_EQ(Contents(Make("b", *OpenWeights(folder_.path() / "sharded"))), expected);
  EXPECT_EQ(Contents(Make("c", *OpenWeights(folder_.path() / "float"))), expected);
  EXPECT_EQ(Contents(Make("d", *RandomWeights(ParseShape(kShape), 5))), expected);
}

TEST_P(EveryOutput, FolderHoldsWhatAReaderNeeds) {
  const fs::path output = Make("model", *RandomWeights(ParseShape(kShape), 1));
  std::set<std::string> expected = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"};
  if (GetParam() == OutputFormat::kOpenVino) {
    expected.insert({"openvino_model.xml", "openvino_model.bin", "openvino_config.json"});
  } else {
    expected.insert("model.safetensors");
  }
  if (GetParam() == OutputFormat::kGptq) expected.insert("quantize_config.json");
  EXPECT_EQ(FilesIn(output), expected);
  EXPECT_EQ(FilesIn(folder_.path()), (std::set<std::string>{"model"})) << "no temporary folder is left";

  const ModelConfig config = ReadModelConfig(output);
  EXPECT_EQ(config.hidden_size, 256);
  EXPECT_EQ(config.torch_dtype, GetParam() == OutputFormat::kTorchao ? "bfloat16" : "float16");
  EXPECT_EQ(config.quantization.method, GetParam() == OutputFormat::kOpenVino ? "" : std::string(NameOf(GetParam())));
  if (GetParam() == OutputFormat::kGptq) {
    EXPECT_TRUE(config.quantization.symmetric);
    EXPECT_FALSE(config.quantization.desc_act);
    EXPECT_TRUE(config.quantization.gptq_v1_zeros);
  }
  if (GetParam() == OutputFormat::kTorchao) {
    EXPECT_EQ(config.quantization.packing, "tile_packed_to_4d");
  }
}

// OpenVINO IR is one pair of files; openvino_ir_test.cc runs it.
class SafetensorsOutput : public EveryOutput {};

TEST_P(SafetensorsOutput, TensorsHaveTheNamesAndShapesOfTheFormat) {
  const fs::path output = Make("model", *RandomWeights(ParseShape(kShape), 1));
  const SafetensorsReader reader = SafetensorsReader::Open(output);
  const auto shape_of = [&](const std::string& name) {
    const StoredTensor& tensor = reader.Get(name);
    return tensor.dtype + " " + ShapeText(tensor.shape);
  };
  const std::string down = "model.layers.1.mlp.down_proj.";  // K 384, N 256
  switch (GetParam()) {
    case OutputFormat::kAwq:
      EXPECT_EQ(shape_of(down + "qweight"), "I32 [384, 32]");
      EXPECT_EQ(shape_of(down + "qzeros"), "I32 [3, 32]");
      EXPECT_EQ(shape_of(down + "scales"), "F16 [3, 256]");
      EXPECT_FALSE(reader.Contains(down + "g_idx"));
      break;
    case OutputFormat::kGptq:
      EXPECT_EQ(shape_of(down + "qweight"), "I32 [48, 256]");
      EXPECT_EQ(shape_of(down + "qzeros"), "I32 [3, 32]");
      EXPECT_EQ(shape_of(down + "scales"), "F16 [3, 256]");
      EXPECT_EQ(shape_of(down + "g_idx"), "I32 [384]");
      break;
    default:
      EXPECT_EQ(shape_of(down + "_weight_qdata"), "I32 [32, 8, 32, 4]");
      EXPECT_EQ(shape_of(down + "_weight_scale_and_zero"), "BF16 [8, 256, 2]");
      const auto entry = json::parse(reader.metadata().at(down + "weight"));
      EXPECT_EQ(entry.at("_type"), "Int4TilePackedTo4dTensor");
      EXPECT_EQ(entry.at("_data").at("shape"), json({256, 384}));
      EXPECT_EQ(entry.at("_data").at("block_size"), json({1, 128}));
      EXPECT_THAT(json::parse(reader.metadata().at("tensor_names")).get<std::vector<std::string>>(),
                  testing::IsSupersetOf({down + "weight", std::string("lm_head.weight")}));
  }
  EXPECT_FALSE(reader.Contains(down + "weight"));
  EXPECT_TRUE(reader.Contains("lm_head.weight"));
  EXPECT_EQ(reader.metadata().at("format"), "pt");
}

TEST_P(SafetensorsOutput, ShardsHoldTheSameTensors) {
  const auto source = RandomWeights(ParseShape(kShape), 1);
  const fs::path whole = Make("whole", *source), parts = Make("parts", *source, {.shard_bytes = 210'000});
  const json index = ReadJson(parts / "model.safetensors.index.json");
  std::set<std::string> shards;
  for (const auto& [name, file] : index.at("weight_map").items()) shards.insert(file.get<std::string>());
  EXPECT_GT(shards.size(), 2u);
  EXPECT_THAT(*shards.begin(), testing::MatchesRegex("model-00001-of-000[0-9]+\\.safetensors"));
  for (const std::string& shard : shards) {
    std::uint64_t bytes = 0;
    const SafetensorsReader reader = SafetensorsReader::Open(parts / shard);
    for (const auto& [name, tensor] : reader.tensors()) bytes += tensor.data.size();
    EXPECT_LE(bytes, 210'000u) << shard;
  }
  const SafetensorsReader a = SafetensorsReader::Open(whole), b = SafetensorsReader::Open(parts);
  ASSERT_EQ(a.tensors().size(), b.tensors().size());
  std::uint64_t total = 0;
  for (const auto& [name, tensor] : a.tensors()) {
    EXPECT_TRUE(std::ranges::equal(tensor.data, b.Get(name).data)) << name;
    total += tensor.data.size();
  }
  EXPECT_EQ(index.at("metadata").at("total_size"), total);
}

// An embedding beyond the 32 MiB that go through memory at a time: its pieces are
// those of the whole.
TEST_P(SafetensorsOutput, LargeEmbeddingsAreWrittenInPieces) {
  const auto source =
      RandomWeights(ParseShape("hidden=128,intermediate=128,layers=1,heads=1,vocab=140000,positions=64"), 3);
  const fs::path output = Make("model", *source, {.threads = 2});
  const TensorInfo embedding = TensorsOf(source->config()).front();
  const auto whole = Encode(GetParam(), *source, embedding, 128, 2);
  ASSERT_GT(whole[0].size(), std::size_t{32} << 20);
  const SafetensorsReader reader = SafetensorsReader::Open(output);
  EXPECT_TRUE(std::ranges::equal(reader.Get(embedding.name).data, whole[0]));
  EXPECT_FALSE(std::ranges::equal(reader.Get("lm_head.weight").data, whole[0])) << "control";
}

std::string NameOfFormat(const testing::TestParamInfo<OutputFormat>& info) { return std::string(NameOf(info.param)); }
INSTANTIATE_TEST_SUITE_P(Formats, EveryOutput,
                         testing::Values(OutputFormat::kAwq, OutputFormat::kGptq, OutputFormat::kTorchao,
                                         OutputFormat::kOpenVino),
                         NameOfFormat);
INSTANTIATE_TEST_SUITE_P(Formats, SafetensorsOutput,
                         testing::Values(OutputFormat::kAwq, OutputFormat::kGptq, OutputFormat::kTorchao),
                         NameOfFormat);

class Errors : public testing::Test {
 protected:
  ScratchFolder folder_;
  fs::path model_ = folder_.path() / "model";
};

TEST_F(Errors, SourcesThatAreNotQwen3) {
  WriteFullPrecision(model_, "F16", false);
  EXPECT_EQ(ErrorOf([&] { OpenWeights(model_); }), "no error");

  const json config = ReadJson(model_ / "config.json");
  json other = config;
  other["architectures"] = {"LlamaForCausalLM"};
  std::ofstream(model_ / "config.json") << other.dump();
  EXPECT_THAT(ErrorOf([&] { OpenWeights(model_); }), HasSubstr("LlamaForCausalLM"));
  std::ofstream(model_ / "config.json") << config.dump();
  fs::remove(model_ / "tokenizer.json");
  EXPECT_THAT(ErrorOf([&] { OpenWeights(model_); }), HasSubstr("tokenizer.json is missing"));

  const std::string down = "model.layers.1.mlp.down_proj.weight";
  WriteFullPrecision(model_, "F16", false, down);
  EXPECT_THAT(ErrorOf([&] { OpenWeights(model_); }), HasSubstr(down));
  WriteFullPrecision(model_, "F16", false, "", down);
  EXPECT_THAT(ErrorOf([&] { OpenWeights(model_); }),
              AllOf(HasSubstr(down), HasSubstr("[128, 768]"), HasSubstr("[256, 384]")));

  WriteFullPrecision(model_, "F16", false);
  json smaller = config;  // the second layer's tensors are now too many
  smaller["num_hidden_layers"] = 1;
  std::ofstream(model_ / "config.json") << smaller.dump();
  EXPECT_THAT(ErrorOf([&] { OpenWeights(model_); }), HasSubstr("is no tensor of a Qwen3ForCausalLM"));

  EXPECT_THAT(ErrorOf([&] { OpenWeights(folder_.path() / "nowhere"); }), HasSubstr("nowhere"));
}

TEST_F(Errors, SourcesThatAreQuantizedAlready) {
  Quantize(*RandomWeights(ParseShape(kShape), 1), model_, {});
  EXPECT_THAT(ErrorOf([&] { OpenWeights(model_); }), HasSubstr("is quantized already (awq)"));
}

TEST_F(Errors, OutputsThatExist) {
  const auto source = RandomWeights(ParseShape(kShape), 1);
  Quantize(*source, model_, {});
  const auto before = Contents(model_);
  EXPECT_THAT(ErrorOf([&] { Quantize(*source, model_, {}); }), HasSubstr("model: exists already; remove it"));
  EXPECT_EQ(Contents(model_), before);
  std::ofstream(model_ / "stale") << "x";
  Quantize(*source, model_, {.overwrite = true});
  EXPECT_EQ(Contents(model_), before) << "replaced as a whole";
  EXPECT_EQ(FilesIn(folder_.path()), (std::set<std::string>{"model"}));
  fs::create_directory(folder_.path() / "empty");
  EXPECT_EQ(ErrorOf([&] { Quantize(*source, folder_.path() / "empty/", {}); }), "no error");
}

TEST_F(Errors, OutputsThatCannotBeMade) {
  const auto source = RandomWeights(ParseShape(kShape), 1);
  std::ofstream(folder_.path() / "file") << "x";
  EXPECT_THAT(ErrorOf([&] { Quantize(*source, folder_.path() / "file" / "model", {}); }),
              AllOf(HasSubstr("file/model: cannot make"), HasSubstr("Not a directory")));
}

TEST_F(Errors, NoSpaceIsSaidBeforeTheStart) {
  // 5.6 TB of codes; nothing is computed.
  const auto source = RandomWeights(
      ParseShape("hidden=65536,intermediate=262144,layers=200,heads=512,kv_heads=512,head_dim=128,vocab=300"), 1);
  bool started = false;
  QuantizeOptions options;
  options.progress = [&](std::size_t, std::size_t, const std::string&) { started = true; };
  EXPECT_THAT(
      ErrorOf([&] { Quantize(*source, model_, options); }),
      testing::MatchesRegex(".*model: needs [0-9]+\\.[0-9][0-9] GB, only [0-9]+\\.[0-9][0-9] GB are free there"));
  EXPECT_FALSE(started);
  EXPECT_TRUE(FilesIn(folder_.path()).empty());
}

TEST_F(Errors, NothingIsLeftWhereItIsGivenUp) {
  for (auto format : {OutputFormat::kAwq, OutputFormat::kOpenVino}) {
    QuantizeOptions options{.format = format};
    options.progress = [](std::size_t done, std::size_t, const std::string&) {
      if (done == 5) throw std::runtime_error("interrupted");
    };
    EXPECT_THROW(Quantize(*RandomWeights(ParseShape(kShape), 1), model_, options), std::exception);
    EXPECT_TRUE(FilesIn(folder_.path()).empty());
  }
}

TEST_F(Errors, SizesThatDoNotFit) {
  EXPECT_THAT(ErrorOf([&] { Quantize(*RandomWeights(ParseShape(kShape), 1), model_, {.group_size = 48}); }),
              HasSubstr("group size 48 is not 32, 64 or 128"));
  const auto odd = RandomWeights(ParseShape("hidden=192,intermediate=256,layers=1,heads=2,vocab=300"), 1);
  EXPECT_THAT(ErrorOf([&] { Quantize(*odd, model_, {}); }), HasSubstr("q_proj.weight [256, 192]: its inputs"));
  EXPECT_EQ(ErrorOf([&] { Quantize(*odd, model_, {.group_size = 64}); }), "no error");
}

TEST(ParseShape, KnownModels) {
  const ModelConfig eight = ParseShape("qwen3-8b");
  EXPECT_EQ(eight.hidden_size, 4096);
  EXPECT_EQ(eight.intermediate_size, 12288);
  EXPECT_EQ(eight.num_hidden_layers, 36);
  EXPECT_FALSE(eight.tie_word_embeddings);
  std::uint64_t parameters = 0;
  for (const TensorInfo& tensor : TensorsOf(eight)) parameters += tensor.rows() * tensor.columns();
  EXPECT_EQ(parameters, 8'190'735'360u);  // as Qwen/Qwen3-8B has
  EXPECT_TRUE(ParseShape("qwen3-0.6b").tie_word_embeddings);
}

TEST(ParseShape, SaysWhatIsWrong) {
  EXPECT_THAT(ErrorOf([] { ParseShape("qwen3-9b"); }),
              AllOf(HasSubstr("'qwen3-9b' is not known"), HasSubstr("qwen3-8b")));
  EXPECT_THAT(ErrorOf([] { ParseShape("hidden=12x"); }), HasSubstr("'hidden' is not a whole number"));
  EXPECT_THAT(ErrorOf([] { ParseShape("hidden=0"); }), HasSubstr("'hidden' is not a positive"));
  EXPECT_THAT(ErrorOf([] { ParseShape("hidden=128,depth=3"); }), HasSubstr("'depth' is not known"));
  EXPECT_THAT(ErrorOf([] { ParseShape("hidden=128,layers=1,heads=1"); }), HasSubstr("lacks intermediate"));
  EXPECT_THAT(ErrorOf([] { ParseShape("hidden=128,intermediate=128,layers=1,heads=3,kv_heads=2"); }),
              HasSubstr("heads is not a multiple of kv_heads"));
  EXPECT_THAT(ErrorOf([] { ParseShape("hidden=128,intermediate=128,layers=1,heads=1,vocab=258"); }),
              HasSubstr("vocab is below 259"));
}

// Mean 0, deviation 0.02, another value for another place, name and seed.
TEST(RandomWeights, AreNormalAndIndependentOfHowTheyAreRead) {
  const auto source = RandomWeights(ParseShape(kShape), 1);
  const std::vector<TensorInfo> tensors = TensorsOf(source->config());
  const TensorInfo& embedding = tensors[0];
  std::vector<float> values(embedding.rows() * embedding.columns());
  source->Read(embedding, 0, embedding.rows(), values.data());
  double sum = 0, squares = 0;
  for (float value : values) {
    sum += value;
    squares += double{value} * value;
  }
  const double count = static_cast<double>(values.size());
  // Five standard errors of each.
  EXPECT_NEAR(sum / count, 0, 5 * 0.02 / std::sqrt(count));
  EXPECT_NEAR(std::sqrt(squares / count), 0.02, 5 * 0.02 / std::sqrt(2 * count));
  EXPECT_GT(std::set<float>(values.begin(), values.end()).size(), 1000u);

  std::vector<float> row(embedding.columns());
  source->Read(embedding, 7, 8, row.data());
  EXPECT_TRUE(std::ranges::equal(row, std::span(values).subspan(7 * row.size(), row.size())));
  std::vector<float> other(embedding.columns());
  source->Read({"model.norm2.weight", embedding.shape, false}, 7, 8, other.data());
  EXPECT_NE(row, other);
  RandomWeights(ParseShape(kShape), 2)->Read(embedding, 7, 8, other.data());
  EXPECT_NE(row, other);
}

}  // namespace
}  // namespace suites::quantize
