#include "suites/quantize/weight_source.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <system_error>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/safetensors.h"
#include "suites/quantize/half.h"
#include "suites/quantize/inner_loops.h"

namespace suites::quantize {
namespace {

// Files that go into the output as they are.
constexpr const char* kCopiedFiles[] = {"tokenizer.json",
                                        "tokenizer_config.json",
                                        "generation_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "vocab.json",
                                        "merges.txt",
                                        "chat_template.jinja"};

class CheckpointWeights final : public WeightSource {
 public:
  explicit CheckpointWeights(const std::filesystem::path& folder)
      : config_(ReadModelConfig(folder)),
        json_(ReadJsonFile(folder / "config.json")),
        reader_(SafetensorsReader::Open(folder)) {
    if (!config_.quantization.method.empty()) {
      throw CheckpointError(folder.string() + ": is quantized already (" + config_.quantization.method +
                            "); give the full-precision checkpoint");
    }
    Check(folder);
    for (const char* name : kCopiedFiles) {
      std::error_code missing;
      if (std::filesystem::exists(folder / name, missing)) {
        files_[name] = ReadTextFile(folder / name, kJsonFileLimit);
      }
    }
    if (!files_.contains("tokenizer.json")) throw CheckpointError(folder.string() + ": tokenizer.json is missing");
  }

  const ModelConfig& config() const override { return config_; }
  const nlohmann::json& config_json() const override { return json_; }
  const std::map<std::string, std::string>& files() const override { return files_; }

  void Read(const TensorInfo& tensor, std::int64_t begin, std::int64_t end, float* out) const override {
    const StoredTensor& stored = reader_.Get(tensor.name);
    const std::int64_t count = (end - begin) * tensor.columns();
    const std::size_t width = stored.dtype == "F32" ? 4 : 2;
    const std::byte* from = stored.data.data() + begin * tensor.columns() * width;
    if (width == 4) {
      std::memcpy(out, from, count * 4);
      return;
    }
    const bool brain = stored.dtype == "BF16";
    for (std::int64_t i = 0; i < count; ++i) {
      std::uint16_t bits;
      std::memcpy(&bits, from + 2 * i, 2);
      out[i] = brain ? FloatFromBFloat16(bits) : FloatFromHalf(bits);
    }
  }

 private:
  void Check(const std::filesystem::path& folder) const {
    std::set<std::string> known;
    for (const TensorInfo& tensor : TensorsOf(config_)) {
      known.insert(tensor.name);
      const StoredTensor& stored = reader_.Get(tensor.name);
      if (stored.shape != tensor.shape) {
        throw CheckpointError(folder.string() + ": " + tensor.name + " has the shape " + ShapeText(stored.shape) +
                              ", config.json implies " + ShapeText(tensor.shape));
      }
      if (stored.dtype != "BF16" && stored.dtype != "F16" && stored.dtype != "F32") {
        throw CheckpointError(folder.string() + ": " + tensor.name + " is " + stored.dtype +
                              ", not BF16, F16 or F32: give the full-precision checkpoint");
      }
    }
    if (config_.tie_word_embeddings) known.insert("lm_head.weight");  // some tools write the tied copy
    for (const auto& [name, stored] : reader_.tensors()) {
      if (!known.contains(name)) {
        throw CheckpointError(folder.string() + ": " + Quoted(name) + " is no tensor of a Qwen3ForCausalLM");
      }
    }
  }

  ModelConfig config_;
  nlohmann::json json_;
  SafetensorsReader reader_;
  std::map<std::string, std::string> files_;
};

// FNV-1a, 64 bits.
std::uint64_t HashOf(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (unsigned char c : text) hash = (hash ^ c) * 0x100000001b3;
  return hash;
}

nlohmann::json ConfigJson(const ModelConfig& shape) {
  return {{"architectures", {"Qwen3ForCausalLM"}},
          {"attention_bias", false},
          {"attention_dropout", 0.0},
          {"dtype", "bfloat16"},
          {"eos_token_id", shape.eos_token_id},
          {"head_dim", shape.head_dim},
          {"hidden_act", "silu"},
          {"hidden_size", shape.hidden_size},
          {"initializer_range", 0.02},
          {"intermediate_size", shape.intermediate_size},
          {"max_position_embeddings", shape.max_position_embeddings},
          {"model_type", "qwen3"},
          {"num_attention_heads", shape.num_attention_heads},
          {"num_hidden_layers", shape.num_hidden_layers},
          {"num_key_value_heads", shape.num_key_value_heads},
          {"rms_norm_eps", shape.rms_norm_eps},
          {"rope_scaling", nullptr},
          {"rope_theta", shape.rope_theta},
          {"tie_word_embeddings", shape.tie_word_embeddings},
          {"use_cache", true},
          {"use_sliding_window", false},
          {"vocab_size", shape.vocab_size}};
}

std::string Utf8(unsigned code) {  // below U+0800
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

// The character that a byte-level BPE writes for a byte: itself where it is a
// printable Latin-1 character, else one from U+0100 on, in order (openai/gpt-2,
// encoder.py, bytes_to_unicode).
std::vector<std::string> ByteCharacters() {
  std::vector<std::string> characters;
  unsigned next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    characters.push_back(Utf8(itself ? byte : next++));
  }
  return characters;
}

constexpr std::int64_t kByteTokens = 256;
constexpr const char* kSpecialTokens[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
constexpr std::int64_t kSmallestVocab = kByteTokens + 3;

std::string TokenizerJson(std::int64_t vocab_size) {
  nlohmann::json vocab = nlohmann::json::object();
  std::int64_t id = 0;
  for (const std::string& character : ByteCharacters()) vocab[character] = id++;
  nlohmann::json added = nlohmann::json::array();
  for (const char* token : kSpecialTokens) {
    added.push_back({{"id", id++},
                     {"content", token},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  // Reached by no text, so that every id that the model can pick has a text.
  for (; id < vocab_size; ++id) vocab["unused" + std::to_string(id)] = id;
  const char* qwen2 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  const nlohmann::json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", false}, {"use_regex", false}};
  const nlohmann::json split = {
      {"type", "Split"}, {"pattern", {{"Regex", qwen2}}}, {"behavior", "Isolated"}, {"invert", false}};
  const nlohmann::json tokenizer = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer", {{"type", "NFC"}}},
      {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", nlohmann::json::array({split, byte_level})}}},
      {"post_processor", nullptr},
      {"decoder", byte_level},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"ignore_merges", false},
        {"vocab", vocab},
        {"merges", nlohmann::json::array()}}}};
  return tokenizer.dump(0) + "\n";
}

class RandomSource final : public WeightSource {
 public:
  RandomSource(ModelConfig shape, std::uint64_t seed) : config_(std::move(shape)), seed_(seed) {
    config_.eos_token_id = kByteTokens + 2;
    config_.torch_dtype = "bfloat16";
    json_ = ConfigJson(config_);
    files_["tokenizer.json"] = TokenizerJson(config_.vocab_size);
    files_["tokenizer_config.json"] =
        nlohmann::json{{"tokenizer_class", "PreTrainedTokenizerFast"}, {"eos_token", kSpecialTokens[2]}}.dump(2) + "\n";
    files_["generation_config.json"] =
        nlohmann::json{{"eos_token_id", config_.eos_token_id}, {"do_sample", false}}.dump(2) + "\n";
  }

  const ModelConfig& config() const override { return config_; }
  const nlohmann::json& config_json() const override { return json_; }
  const std::map<std::string, std::string>& files() const override { return files_; }

  void Read(const TensorInfo& tensor, std::int64_t begin, std::int64_t end, float* out) const override {
    if (tensor.shape.size() == 1) {
      std::fill_n(out, end - begin, 1.0f);
      return;
    }
    const std::uint64_t key = internal::Mix(internal::Mix(seed_ + 1) ^ HashOf(tensor.name));
    const auto first = static_cast<std::uint64_t>(begin * tensor.columns());
    const auto count = static_cast<std::uint64_t>((end - begin) * tensor.columns());
    internal::BestLoops().random_weights(key + first, count, out);
  }

 private:
  ModelConfig config_;
  std::uint64_t seed_;
  nlohmann::json json_;
  std::map<std::string, std::string> files_;
};

struct KnownShape {
  const char* name;
  std::int64_t hidden, intermediate, layers, heads, kv_heads;
  bool tied;
};

// The config.json files of Qwen/Qwen3-*; all have head_dim 128, a vocabulary of
// 151936 and 40960 positions.
constexpr KnownShape kKnownShapes[] = {
    {"qwen3-0.6b", 1024, 3072, 28, 16, 8, true},  {"qwen3-1.7b", 2048, 6144, 28, 16, 8, true},
    {"qwen3-4b", 2560, 9728, 36, 32, 8, true},    {"qwen3-8b", 4096, 12288, 36, 32, 8, false},
    {"qwen3-14b", 5120, 17408, 40, 40, 8, false}, {"qwen3-32b", 5120, 25600, 64, 64, 8, false},
};

[[noreturn]] void FailShape(const std::string& reason) {
  std::string names;
  for (const KnownShape& shape : kKnownShapes) names += std::string(shape.name) + ", ";
  throw CheckpointError(reason + "; give one of " + names +
                        "or sizes such as hidden=256,intermediate=1024,layers=2,heads=4,kv_heads=2,head_dim=64,"
                        "vocab=512,tied=1,positions=4096");
}

std::int64_t ParseSize(const std::string& key, const std::string& value) {
  std::int64_t size = 0;
  for (char c : value) {
    if (c < '0' || c > '9' || size > 100'000'000) FailShape(Quoted(key) + " is not a whole number of that kind");
    size = size * 10 + (c - '0');
  }
  if (value.empty() || (size == 0 && key != "tied")) FailShape(Quoted(key) + " is not a positive whole number");
  return size;
}

}  // namespace

std::vector<TensorInfo> TensorsOf(const ModelConfig& config) {
  const std::int64_t hidden = config.hidden_size, mlp = config.intermediate_size;
  const std::int64_t query = config.num_attention_heads * config.head_dim;
  const std::int64_t key = config.num_key_value_heads * config.head_dim;
  std::vector<TensorInfo> tensors = {{"model.embed_tokens.weight", {config.vocab_size, hidden}}};
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    tensors.push_back({layer + "input_layernorm.weight", {hidden}});
    tensors.push_back({layer + "self_attn.q_proj.weight", {query, hidden}, true});
    tensors.push_back({layer + "self_attn.k_proj.weight", {key, hidden}, true});
    tensors.push_back({layer + "self_attn.v_proj.weight", {key, hidden}, true});
    tensors.push_back({layer + "self_attn.q_norm.weight", {config.head_dim}});
    tensors.push_back({layer + "self_attn.k_norm.weight", {config.head_dim}});
    tensors.push_back({layer + "self_attn.o_proj.weight", {hidden, query}, true});
    tensors.push_back({layer + "post_attention_layernorm.weight", {hidden}});
    tensors.push_back({layer + "mlp.gate_proj.weight", {mlp, hidden}, true});
    tensors.push_back({layer + "mlp.up_proj.weight", {mlp, hidden}, true});
    tensors.push_back({layer + "mlp.down_proj.weight", {hidden, mlp}, true});
  }
  tensors.push_back({"model.norm.weight", {hidden}});
  if (!config.tie_word_embeddings) tensors.push_back({"lm_head.weight", {config.vocab_size, hidden}});
  return tensors;
}

std::unique_ptr<WeightSource> OpenWeights(const std::filesystem::path& folder) {
  return std::make_unique<CheckpointWeights>(folder);
}

ModelConfig ParseShape(const std::string& text) {
  ModelConfig config;
  config.head_dim = 128;
  config.vocab_size = 151936;
  config.max_position_embeddings = 40960;
  for (const KnownShape& shape : kKnownShapes) {
    if (text != shape.name) continue;
    config.hidden_size = shape.hidden;
    config.intermediate_size = shape.intermediate;
    config.num_hidden_layers = shape.layers;
    config.num_attention_heads = shape.heads;
    config.num_key_value_heads = shape.kv_heads;
    config.tie_word_embeddings = shape.tied;
    return config;
  }
  const std::map<std::string, std::int64_t*> sizes = {{"hidden", &config.hidden_size},
                                                      {"intermediate", &config.intermediate_size},
                                                      {"layers", &config.num_hidden_layers},
                                                      {"heads", &config.num_attention_heads},
                                                      {"kv_heads", &config.num_key_value_heads},
                                                      {"head_dim", &config.head_dim},
                                                      {"vocab", &config.vocab_size},
                                                      {"positions", &config.max_position_embeddings}};
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string part = text.substr(at, end - at);
    at = end + 1;
    const std::size_t equals = part.find('=');
    if (equals == std::string::npos) FailShape(Quoted(text) + " is not known");
    const std::string key = part.substr(0, equals);
    const std::int64_t value = ParseSize(key, part.substr(equals + 1));
    if (key == "tied") {
      config.tie_word_embeddings = value != 0;
    } else if (const auto size = sizes.find(key); size != sizes.end()) {
      *size->second = value;
    } else {
      FailShape(Quoted(key) + " is not known");
    }
  }
  for (const char* key : {"hidden", "intermediate", "layers", "heads"}) {
    if (*sizes.at(key) == 0) FailShape(std::string("lacks ") + key);
  }
  if (config.num_key_value_heads == 0) config.num_key_value_heads = config.num_attention_heads;
  if (config.num_attention_heads % config.num_key_value_heads != 0) FailShape("heads is not a multiple of kv_heads");
  if (config.head_dim % 2 != 0) FailShape("head_dim is odd, RoPE needs pairs");
  if (config.vocab_size < kSmallestVocab) {
    FailShape("vocab is below " + std::to_string(kSmallestVocab) + ", which the tokenizer of bytes needs");
  }
  return config;
}

std::unique_ptr<WeightSource> RandomWeights(const ModelConfig& shape, std::uint64_t seed) {
  return std::make_unique<RandomSource>(shape, seed);
}

}  // namespace suites::quantize
