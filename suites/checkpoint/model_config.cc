#include "suites/checkpoint/model_config.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/safetensors.h"

namespace suites {
namespace {

using Json = nlohmann::json;

// A JSON object with typed access; errors name the file and the key.
class Fields {
 public:
  Fields(std::string file, const Json& object) : file_(std::move(file)), object_(object) {
    if (!object_.is_object()) Fail("is not a JSON object");
  }

  [[noreturn]] void Fail(const std::string& reason) const { throw CheckpointError(file_ + ": " + reason); }
  const std::string& file() const { return file_; }

  // Null counts as absent: transformers writes unset fields so.
  const Json* Find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  std::int64_t Size(const char* key, std::int64_t largest) const {
    const Json* value = Find(key);
    if (value == nullptr) Fail("no " + Quoted(key));
    if (!value->is_number_integer() || *value < 1 || *value > largest) {
      Fail(Quoted(key) + " is " + Shown(*value) + ", not a whole number from 1 to " + std::to_string(largest));
    }
    return value->get<std::int64_t>();
  }
  double Positive(const char* key) const {
    const Json* value = Find(key);
    if (value == nullptr) Fail("no " + Quoted(key));
    if (!value->is_number() || !(value->get<double>() > 0) || !std::isfinite(value->get<double>())) {
      Fail(Quoted(key) + " is " + Shown(*value) + ", not a positive number");
    }
    return value->get<double>();
  }
  bool Flag(const char* key, bool missing) const {
    const Json* value = Find(key);
    if (value == nullptr) return missing;
    if (!value->is_boolean()) Fail(Quoted(key) + " is " + Shown(*value) + ", not true or false");
    return value->get<bool>();
  }
  std::string Text(const char* key, const std::string& missing) const {
    const Json* value = Find(key);
    if (value == nullptr) return missing;
    if (!value->is_string()) Fail(Quoted(key) + " is " + Shown(*value) + ", not a string");
    return value->get<std::string>();
  }
  static std::string Shown(const Json& value) { return Quoted(value.dump(-1, ' ', true)); }

 private:
  std::string file_;
  const Json& object_;
};

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

// The first value of `key` anywhere inside `value`, whose depth ParseJson has
// bounded. torchao nests its settings by version: {"default": {"_data": ...}},
// {"_data": {"fqn_to_config": {"_default": ...}}} and others.
const Json* FindNested(const Json& value, const std::string& key) {
  if (value.is_object()) {
    if (const auto found = value.find(key); found != value.end() && !found->is_null()) return &*found;
  }
  if (!value.is_structured()) return nullptr;
  for (const Json& inner : value) {
    if (const Json* found = FindNested(inner, key)) return found;
  }
  return nullptr;
}

std::int64_t GroupSize(const Fields& fields, const Json& value) {
  if (!value.is_number_integer() || (value != -1 && (value < 8 || value > 65536))) {
    fields.Fail("group_size is " + Fields::Shown(value) + ", not -1 nor a whole number from 8 to 65536");
  }
  return value.get<std::int64_t>();
}

void ReadTorchao(const Fields& fields, QuantizationConfig* config) {
  const Json* type = fields.Find("quant_type");
  if (type == nullptr) fields.Fail("quantization_config of torchao without quant_type");
  const std::string text = Lower(type->dump(-1, ' ', true));
  if (text.find("int4_weight_only") == std::string::npos && text.find("int4weightonlyconfig") == std::string::npos) {
    fields.Fail("torchao quant_type " + Fields::Shown(*type) + " is not Int4WeightOnlyConfig");
  }
  const Json* group_size = FindNested(*type, "group_size");
  if (group_size == nullptr) {
    if (const Json* kwargs = fields.Find("quant_type_kwargs")) group_size = FindNested(*kwargs, "group_size");
  }
  if (group_size != nullptr) config->group_size = GroupSize(fields, *group_size);
  // Int4WeightOnlyConfig of version 1, and "int4_weight_only", know one layout:
  // TensorCoreTiledLayout, the same bytes as tile_packed_to_4d.
  config->packing = "tile_packed_to_4d";
  if (const Json* packing = FindNested(*type, "int4_packing_format")) {
    const Json& name = packing->is_object() && packing->contains("_data") ? (*packing)["_data"] : *packing;
    config->packing = name.is_string() ? Lower(name.get<std::string>()) : "";
    if (config->packing != "tile_packed_to_4d" && config->packing != "plain") {
      fields.Fail("torchao int4_packing_format " + Fields::Shown(*packing) +
                  " is not read, only tile_packed_to_4d and plain");
    }
  }
  config->symmetric = false;
}

void ReadGptq(const Fields& fields, QuantizationConfig* config) {
  const std::string format = Lower(fields.Text("checkpoint_format", fields.Text("format", "gptq")));
  if (format != "gptq" && format != "gptq_v2") {
    fields.Fail("GPTQ checkpoint_format " + Quoted(format) + " is not read, only gptq and gptq_v2");
  }
  if (fields.Flag("is_marlin_format", false))
    fields.Fail("weights in Marlin's layout are not read; take the GPTQ file");
  if (const std::string type = fields.Text("pack_dtype", "int32"); type != "int32") {
    fields.Fail("pack_dtype " + Quoted(type) + " is not read, only int32");
  }
  if (const Json* dynamic = fields.Find("dynamic")) config->group_size_by_layer |= !dynamic->empty();
  config->gptq_v1_zeros = format == "gptq";
  config->desc_act = fields.Flag("desc_act", false);
  config->symmetric = fields.Flag("sym", true);
}

void ReadAwq(const Fields& fields, QuantizationConfig* config) {
  // GPTQModel calls AutoAWQ's "version" "format" or "checkpoint_format".
  for (const char* key : {"version", "format", "checkpoint_format"}) {
    if (const std::string version = Lower(fields.Text(key, "gemm")); version != "gemm") {
      fields.Fail("AWQ version " + Quoted(version) + " is not read, only gemm");
    }
  }
  config->symmetric = !fields.Flag("zero_point", true);
}

// The settings of one "config_groups" entry: 4-bit integers of weights alone.
void ReadCompressedGroup(const Fields& fields, QuantizationConfig* config) {
  for (const char* key : {"input_activations", "output_activations"}) {
    if (fields.Find(key) != nullptr) fields.Fail(std::string(key) + " are quantized, which is not built, only W4A16");
  }
  if (const std::string format = fields.Text("format", "pack-quantized"); format != "pack-quantized") {
    fields.Fail("format " + Quoted(format) + " is not read, only pack-quantized");
  }
  const Json* settings = fields.Find("weights");
  if (settings == nullptr) fields.Fail("no \"weights\"");
  const Fields weights(fields.file() + ": weights", *settings);
  if (const std::int64_t bits = weights.Size("num_bits", 64); bits != 4) {
    weights.Fail("'num_bits' is " + std::to_string(bits) + ", only 4 is read");
  }
  if (const std::string type = weights.Text("type", "int"); type != "int") {
    weights.Fail("type " + Quoted(type) + " is not read, only int");
  }
  if (weights.Flag("dynamic", false)) weights.Fail("dynamic weights are not read");
  const std::string strategy = weights.Text("strategy", weights.Find("group_size") == nullptr ? "channel" : "group");
  if (strategy != "group" && strategy != "channel") {
    weights.Fail("strategy " + Quoted(strategy) + " is not read, only group and channel");
  }
  if (strategy == "group") {
    const Json* size = weights.Find("group_size");
    if (size == nullptr) weights.Fail("no 'group_size'");
    config->group_size = GroupSize(weights, *size);
  } else {
    config->group_size = -1;
  }
  config->symmetric |= weights.Flag("symmetric", true);
  // "weight" and "static" order the rows while quantizing; the file is as without.
  const Json* order = weights.Find("actorder");
  config->desc_act = order != nullptr && (*order == "group" || *order == "dynamic" || *order == Json(true));
}

// llm-compressor. Each layer's tensors say its group size and whether it has zero points;
// what is read here of the groups is that they are W4A16, whether any is symmetric, and the
// first one for messages.
void ReadCompressedTensors(const Fields& fields, QuantizationConfig* config) {
  const std::string format = fields.Text("format", "pack-quantized");
  if (format != "pack-quantized" && format != "mixed-precision") {
    fields.Fail("compressed-tensors format " + Quoted(format) + " is not read, only pack-quantized");
  }
  // Early versions said "frozen" of packed weights too; those that are not packed are seen by their tensors.
  if (const std::string status = fields.Text("quantization_status", "compressed");
      status != "compressed" && status != "frozen") {
    fields.Fail("quantization_status " + Quoted(status) + " is not read, only compressed");
  }
  if (fields.Find("kv_cache_scheme") != nullptr) fields.Fail("kv_cache_scheme is not built");
  for (const char* key : {"sparsity_config", "transform_config"}) {
    const Json* extra = fields.Find(key);
    if (extra == nullptr || extra->empty()) continue;
    if (extra->is_object() && extra->value("format", Json()) == "dense") continue;
    if (extra->is_object() && extra->size() == 1 && extra->value("config_groups", Json()).empty()) continue;
    fields.Fail(std::string(key) + " is not built");
  }
  const Json* groups = fields.Find("config_groups");
  if (groups == nullptr || !groups->is_object() || groups->empty()) fields.Fail("no config_groups");
  config->symmetric = false;
  for (auto group = groups->rbegin(); group != groups->rend(); ++group) {
    ReadCompressedGroup(Fields(fields.file() + ": " + Quoted(group.key()), *group), config);
  }
}

QuantizationConfig ReadQuantization(const Fields& fields, const std::string& default_method) {
  QuantizationConfig config;
  config.method = Lower(fields.Text("quant_method", default_method));
  if (config.method.empty()) {
    fields.Fail("no 'quant_method', of which awq, gptq, compressed-tensors and torchao are read");
  }
  if (config.method != "awq" && config.method != "gptq" && config.method != "torchao" &&
      config.method != "compressed-tensors") {
    fields.Fail("quant_method " + Quoted(config.method) +
                " is not read, only awq, gptq, compressed-tensors and torchao");
  }
  for (const char* key : {"bits", "w_bit"}) {
    const Json* bits = fields.Find(key);
    if (bits != nullptr && *bits != 4) fields.Fail(Quoted(key) + " is " + Fields::Shown(*bits) + ", only 4 is read");
  }
  config.group_size_by_layer = true;  // unless it is said
  for (const char* key : {"group_size", "q_group_size"}) {
    if (const Json* size = fields.Find(key)) {
      config.group_size = GroupSize(fields, *size);
      config.group_size_by_layer = false;
    }
  }
  if (const Json* names = fields.Find("modules_to_not_convert")) {
    if (!names->is_array()) fields.Fail("modules_to_not_convert is not a list");
    for (const Json& name : *names) {
      if (!name.is_string()) fields.Fail("modules_to_not_convert holds " + Fields::Shown(name) + ", not a name");
      config.modules_to_not_convert.push_back(name.get<std::string>());
    }
  }
  if (config.method == "torchao") ReadTorchao(fields, &config);
  if (config.method == "gptq") ReadGptq(fields, &config);
  if (config.method == "compressed-tensors") ReadCompressedTensors(fields, &config);
  if (config.method == "awq") ReadAwq(fields, &config);
  return config;
}

void CheckName(const Fields& fields) {
  const std::string type = fields.Text("model_type", "");
  const Json* names = fields.Find("architectures");
  const bool named = names != nullptr && names->is_array() &&
                     std::find(names->begin(), names->end(), Json("Qwen3ForCausalLM")) != names->end();
  if ((names != nullptr && !named) || (names == nullptr && type != "qwen3")) {
    fields.Fail("architecture " + (names == nullptr ? Quoted(type) : Fields::Shown(*names)) +
                " is not Qwen3ForCausalLM, the only one that is built");
  }
}

void CheckArchitecture(const Fields& fields) {
  CheckName(fields);
  if (const std::string act = fields.Text("hidden_act", "silu"); act != "silu") {
    fields.Fail("hidden_act " + Quoted(act) + " is not built, only silu");
  }
  if (fields.Flag("attention_bias", false)) fields.Fail("attention_bias is not built");
  if (fields.Flag("use_sliding_window", false)) fields.Fail("use_sliding_window is not built");
  if (const Json* types = fields.Find("layer_types")) {
    if (!types->is_array() || !std::all_of(types->begin(), types->end(), [](const Json& type_of_layer) {
          return type_of_layer == "full_attention";
        })) {
      fields.Fail("layer_types other than full_attention are not built");
    }
  }
}

void CheckWholeRotation(const Fields& fields) {
  if (fields.Find("partial_rotary_factor") != nullptr && fields.Positive("partial_rotary_factor") != 1) {
    fields.Fail("partial_rotary_factor is not built, only 1");
  }
}

// transformers 4: rope_theta and rope_scaling at the top; 5: rope_parameters.
double ReadRopeTheta(const Fields& fields) {
  std::optional<double> theta;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const Json* parameters = fields.Find(key);
    if (parameters == nullptr) continue;
    const Fields inner(fields.file() + ": " + key, *parameters);
    const std::string type = inner.Text("rope_type", inner.Text("type", "default"));
    if (type != "default") inner.Fail("rope_type " + Quoted(type) + " is not built, only default");
    CheckWholeRotation(inner);
    for (const auto& [name, value] : parameters->items()) {
      if (value.is_object()) inner.Fail(Quoted(name) + " of its own is not built, only one rotation for all layers");
    }
    if (inner.Find("rope_theta") != nullptr) theta = inner.Positive("rope_theta");
  }
  CheckWholeRotation(fields);
  if (theta) return *theta;
  if (fields.Find("rope_theta") == nullptr) fields.Fail("no 'rope_theta', neither at the top nor in rope_parameters");
  return fields.Positive("rope_theta");
}

std::filesystem::path ConfigOf(const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::is_directory(folder, error)) {
    throw CheckpointError(folder.string() + ": no such folder; a model is a folder with config.json and its weights");
  }
  const auto path = folder / "config.json";
  if (!std::filesystem::exists(path, error)) {
    throw CheckpointError(folder.string() +
                          ": config.json is missing; a model folder holds config.json, tokenizer.json and the weights");
  }
  return path;
}

constexpr std::int64_t kMostTokens = std::int64_t{1} << 24, kMostPositions = std::int64_t{1} << 31;
constexpr std::int64_t kWidest = std::int64_t{1} << 20, kWidestMlp = std::int64_t{1} << 22;

}  // namespace

ModelSizes ReadModelSizes(const std::filesystem::path& folder) {
  const auto path = ConfigOf(folder);
  const Json json = ReadJsonFile(path);
  const Fields fields(path.string(), json);
  CheckName(fields);
  return {fields.Size("vocab_size", kMostTokens), fields.Size("hidden_size", kWidest),
          fields.Size("intermediate_size", kWidestMlp), fields.Size("max_position_embeddings", kMostPositions)};
}

ModelConfig ReadModelConfig(const std::filesystem::path& folder) {
  const auto path = ConfigOf(folder);
  const Json json = ReadJsonFile(path);
  const Fields fields(path.string(), json);
  CheckArchitecture(fields);

  std::error_code error;
  ModelConfig config;
  config.vocab_size = fields.Size("vocab_size", kMostTokens);
  config.hidden_size = fields.Size("hidden_size", kWidest);
  config.intermediate_size = fields.Size("intermediate_size", kWidestMlp);
  config.num_hidden_layers = fields.Size("num_hidden_layers", 4096);
  config.num_attention_heads = fields.Size("num_attention_heads", 4096);
  config.num_key_value_heads = fields.Find("num_key_value_heads") == nullptr ? config.num_attention_heads
                                                                             : fields.Size("num_key_value_heads", 4096);
  // 128 is the default of transformers' Qwen3Config, not hidden_size / heads.
  config.head_dim = fields.Find("head_dim") == nullptr ? 128 : fields.Size("head_dim", 4096);
  config.max_position_embeddings = fields.Size("max_position_embeddings", kMostPositions);
  if (fields.Find("rms_norm_eps") != nullptr) config.rms_norm_eps = fields.Positive("rms_norm_eps");
  config.rope_theta = ReadRopeTheta(fields);
  config.tie_word_embeddings = fields.Flag("tie_word_embeddings", false);
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    fields.Fail("num_attention_heads " + std::to_string(config.num_attention_heads) +
                " is not a multiple of num_key_value_heads " + std::to_string(config.num_key_value_heads));
  }
  if (config.head_dim % 2 != 0)
    fields.Fail("head_dim " + std::to_string(config.head_dim) + " is odd, RoPE needs pairs");

  config.torch_dtype = fields.Text("dtype", fields.Text("torch_dtype", ""));
  if (config.torch_dtype.starts_with("torch.")) config.torch_dtype.erase(0, 6);
  if (!config.torch_dtype.empty() && config.torch_dtype != "float16" && config.torch_dtype != "bfloat16" &&
      config.torch_dtype != "float32") {
    fields.Fail("dtype " + Quoted(config.torch_dtype) + " is not float16, bfloat16 or float32");
  }
  if (const Json* eos = fields.Find("eos_token_id")) {
    const Json& first = eos->is_array() && !eos->empty() ? eos->front() : *eos;
    if (!first.is_number_integer() && !(first.is_array() && first.empty()))
      fields.Fail("eos_token_id is " + Fields::Shown(*eos) + ", not a token id");
    if (first.is_number_integer()) config.eos_token_id = first.get<std::int64_t>();
  }

  if (const Json* quantization = fields.Find("quantization_config")) {
    config.quantization = ReadQuantization(Fields(path.string() + ": quantization_config", *quantization), "");
  } else if (const auto gptq = folder / "quantize_config.json"; std::filesystem::exists(gptq, error)) {
    const Json beside = ReadJsonFile(gptq);
    // AutoGPTQ wrote it beside AWQ weights too, and "version" is AWQ's.
    const Fields fields_beside(gptq.string(), beside);
    config.quantization = ReadQuantization(fields_beside, fields_beside.Find("version") != nullptr ? "awq" : "gptq");
  } else if (const auto awq = folder / "quant_config.json"; std::filesystem::exists(awq, error)) {
    const Json beside = ReadJsonFile(awq);
    config.quantization = ReadQuantization(Fields(awq.string(), beside), "awq");
  }
  return config;
}

}  // namespace suites
