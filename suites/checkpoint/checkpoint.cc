#include "suites/checkpoint/checkpoint.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "suites/checkpoint/finite.h"
#include "suites/checkpoint/head_weights.h"
#include "suites/checkpoint/json_file.h"
#include "suites/checkpoint/load_watch.h"
#include "suites/checkpoint/qwen3_tensors.h"
#include "suites/checkpoint/safetensors.h"
#include "suites/checkpoint/tensor_view.h"
#include "suites/checkpoint/torch_pickle.h"

namespace suites {
namespace {

using Shape = std::vector<std::int64_t>;

std::int64_t RoundUp(std::int64_t value, std::int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Safetensors come first, as for transformers.
TensorTable OpenTensors(const std::filesystem::path& folder) {
  std::error_code error;
  const auto exists = [&](const char* name) { return std::filesystem::exists(folder / name, error); };
  if (exists("model.safetensors") || exists("model.safetensors.index.json")) return SafetensorsReader::Open(folder);
  if (exists("pytorch_model.bin") || exists("pytorch_model.bin.index.json")) return OpenTorchPickle(folder);
  // AutoGPTQ named the file after its settings: gptq_model-4bit-128g.safetensors.
  std::vector<std::filesystem::path> others;
  for (const auto& file : std::filesystem::directory_iterator(folder, error)) {
    if (file.path().extension() == ".safetensors") others.push_back(file.path());
  }
  if (others.size() == 1) return SafetensorsReader::Open(others.front());
  throw CheckpointError(folder.string() +
                        ": no weights; model.safetensors, pytorch_model.bin or an index of their "
                        "shards (model.safetensors.index.json, pytorch_model.bin.index.json) is needed");
}

class FolderCheckpoint : public Checkpoint {
 public:
  FolderCheckpoint(const std::filesystem::path& folder, ModelConfig config)
      : folder_(folder), config_(std::move(config)), file_(OpenTensors(folder)), expected_(TensorsOf(config_)) {
    for (const auto& [name, shape] : expected_.dense) DenseEntry(name, shape);
    for (const auto& [module, shape] : expected_.linear) CheckLinear(module, shape);
    if (config_.tie_word_embeddings) CheckTiedHead();
    const auto quantized = [&](const auto& linear) { return IsQuantized(linear.first); };
    if (!config_.quantization.method.empty() &&
        std::none_of(expected_.linear.begin(), expected_.linear.end(), quantized)) {
      throw CheckpointError(file_.path().string() + ": config.json says " + config_.quantization.method +
                            ", but no layer is stored quantized");
    }
  }

  const ModelConfig& config() const override { return config_; }
  const std::filesystem::path& folder() const override { return folder_; }

  at::Tensor Dense(const std::string& name) const override {
    if (name == "lm_head.weight" && config_.tie_word_embeddings) return Dense("model.embed_tokens.weight");
    at::Tensor tensor = TensorView(name, DenseEntry(name, DenseShape(name)));
    watch_.HandedOut(name, {&tensor, 1});
    CheckFinite(name, tensor);
    return tensor;
  }

  bool IsQuantized(const std::string& module) const override {
    return expected_.linear.contains(module) &&
           (file_.Contains(module + ".qweight") || file_.Contains(module + ".weight_packed") ||
            file_.Contains(module + "._weight_qdata"));
  }

  kernels::QuantizedLinear Quantized(const std::string& module) const override {
    const auto shape = expected_.linear.find(module);
    if (shape == expected_.linear.end()) Fail(module, "is not a linear layer of this model");
    if (!IsQuantized(module)) Fail(module, "is not stored quantized");
    kernels::QuantizedLinear linear = Entry(module, shape->second);
    if (linear.g_idx.defined()) CheckGroupIndex(linear);
    watch_.HandedOut(module, PartsOf(linear));  // as stored: what follows may be copies
    for (at::Tensor* tensor : {&linear.qweight, &linear.qzeros, &linear.scales}) {
      if (tensor->defined()) *tensor = tensor->contiguous();
    }
    CheckScales(linear);
    const bool words = linear.format == kernels::Format::kAwq || linear.format == kernels::Format::kGptq;
    if (words) linear.scales = InHalfIfExact(linear.scales);
    return linear;
  }

  at::Tensor Head(at::ScalarType dtype) const override {
    if (!HeadHasEightBits()) return Checkpoint::Head(dtype);
    const EightBitLinear head = EightBitHead();
    const std::array<at::Tensor, 4> parts = {head.qweight, head.qzeros, head.scales, head.g_idx};
    watch_.HandedOut("lm_head", parts);
    kernels::QuantizedLinear groups;
    groups.name = "lm_head";
    groups.k = head.k;
    groups.group_size = head.k / head.scales.size(0);
    groups.g_idx = head.g_idx;
    if (groups.g_idx.defined()) CheckGroupIndex(groups);
    CheckFinite("lm_head scales", head.scales);
    return DenseHead(head, dtype);
  }

  void SetProgress(LoadProgress progress) override {
    std::uint64_t total = 0;
    for (const auto& [name, shape] : expected_.dense) total += DenseEntry(name, shape).data.size();
    for (const auto& [module, shape] : expected_.linear) {
      if (module == "lm_head" && HeadHasEightBits()) {
        for (const char* part : {".qweight", ".qzeros", ".scales", ".g_idx"}) {
          if (file_.Contains(module + part)) total += file_.Get(module + part).data.size();
        }
      } else if (IsQuantized(module)) {
        for (const at::Tensor& part : PartsOf(Entry(module, shape))) total += part.defined() ? part.nbytes() : 0;
      } else {
        total += DenseEntry(module + ".weight", {shape.n, shape.k}).data.size();
      }
    }
    watch_.SetProgress(std::move(progress), total);
  }

 private:
  static std::array<at::Tensor, 4> PartsOf(const kernels::QuantizedLinear& linear) {
    return {linear.qweight, linear.qzeros, linear.scales, linear.g_idx};
  }

  [[noreturn]] void Fail(const std::string& name, const std::string& reason) const {
    throw CheckpointError(file_.path().string() + ": " + Quoted(name) + ": " + reason);
  }

  Shape DenseShape(const std::string& name) const {
    if (const auto dense = expected_.dense.find(name); dense != expected_.dense.end()) return dense->second;
    constexpr std::string_view kWeight = ".weight";
    if (name.ends_with(kWeight)) {
      const auto linear = expected_.linear.find(name.substr(0, name.size() - kWeight.size()));
      if (linear != expected_.linear.end()) return {linear->second.n, linear->second.k};
    }
    Fail(name, "is not a tensor of this model");
  }

  // The stored tensor, its shape and dtype checked.
  const StoredTensor& Get(const std::string& name, const Shape& shape,
                          std::initializer_list<const char*> dtypes) const {
    const StoredTensor& stored = file_.Get(name);
    if (stored.shape != shape) {
      Fail(name, "has shape " + ShapeText(stored.shape) + ", " + ShapeText(shape) + " follows from config.json");
    }
    const auto equal = [&](const char* dtype) { return stored.dtype == dtype; };
    if (std::none_of(dtypes.begin(), dtypes.end(), equal)) {
      std::string list;
      for (const char* dtype : dtypes) list += (list.empty() ? "" : " or ") + std::string(dtype);
      Fail(name, "has dtype " + stored.dtype + " instead of " + list);
    }
    return stored;
  }

  const StoredTensor& DenseEntry(const std::string& name, const Shape& shape) const {
    return Get(name, shape, {"F16", "BF16", "F32"});
  }

  void CheckLinear(const std::string& module, const LinearShape& shape) const {
    if (!IsQuantized(module)) {
      // Simulated or 8-bit quantization: the weight alone would be another model's.
      for (const char* part : {".scales", ".qzeros", ".weight_scale", ".weight_zero_point", ".weight_scale_inv"}) {
        if (file_.Contains(module + part)) {
          Fail(module + part, "belongs to a quantized layer, but the layer has no 4-bit weights that are read");
        }
      }
      DenseEntry(module + ".weight", {shape.n, shape.k});
    } else if (config_.quantization.method.empty()) {
      Fail(module, "is stored quantized, but config.json has no quantization_config");
    } else if (module == "lm_head" && HeadHasEightBits()) {
      EightBitHead();
    } else {
      Entry(module, shape);
    }
    if (file_.Contains(module + ".bias")) CheckBias(module + ".bias", shape);
  }

  // Where both are there and differ, versions of transformers disagree which one is meant.
  void CheckTiedHead() const {
    for (const char* part : {".qweight", ".weight_packed", "._weight_qdata"}) {
      if (file_.Contains(std::string("lm_head") + part)) {
        Fail(std::string("lm_head") + part, "is there, but config.json ties lm_head to the embedding");
      }
    }
    if (!file_.Contains("lm_head.weight")) return;
    const StoredTensor& head = file_.Get("lm_head.weight");
    const StoredTensor& embedding = file_.Get("model.embed_tokens.weight");
    if (head.dtype == embedding.dtype && head.shape == embedding.shape &&
        std::equal(head.data.begin(), head.data.end(), embedding.data.begin(), embedding.data.end())) {
      return;
    }
    Fail("lm_head.weight", "is not the embedding, to which config.json ties it");
  }

  // Qwen3 has no biases; AutoGPTQ wrote one of zeros to every layer.
  void CheckBias(const std::string& name, const LinearShape& shape) const {
    const StoredTensor& bias = DenseEntry(name, {shape.n});
    const auto zero = [](std::byte b) { return b == std::byte{0}; };
    if (!std::all_of(bias.data.begin(), bias.data.end(), zero)) Fail(name, "is not zero; Qwen3 has no biases");
  }

  // Group size of scales with `groups` rows over `padded_k` rows of K.
  std::int64_t GroupSize(const std::string& module, const std::string& scales, std::int64_t k) const {
    const StoredTensor& stored = file_.Get(module + scales);
    const std::int64_t groups = stored.shape.empty() ? 0 : stored.shape[0];
    if (groups < 1 || k % groups != 0) {
      Fail(module + scales,
           "has shape " + ShapeText(stored.shape) + ", whose groups do not divide K = " + std::to_string(k));
    }
    return k / groups;
  }

  // Bits of a GPTQ layer's codes by the shape of its words; 0 where it is of no such shape.
  int GptqBits(const std::string& module, const LinearShape& shape) const {
    if (config_.quantization.method != "gptq" || !file_.Contains(module + ".qweight")) return 0;
    const Shape& words = file_.Get(module + ".qweight").shape;
    if (words.size() != 2 || words[1] != shape.n) return 0;
    for (const int bits : {2, 3, 4, 8}) {
      if (words[0] * 32 == shape.k * bits) return bits;
    }
    return 0;
  }
  bool HeadHasEightBits() const {
    const auto head = expected_.linear.find("lm_head");
    return head != expected_.linear.end() && GptqBits("lm_head", head->second) == 8;
  }
  // Also its check: views cost nothing.
  EightBitLinear EightBitHead() const {
    const auto [k, n] = expected_.linear.at("lm_head");
    const std::int64_t groups = k / GroupSize("lm_head", ".scales", k);
    if (k % 4 != 0 || n % 4 != 0) {
      Fail("lm_head", "K = " + std::to_string(k) + ", N = " + std::to_string(n) +
                          " are not multiples of 4, the values of 8 bits in a word");
    }
    const auto view = [&](const std::string& name, const Shape& wanted, std::initializer_list<const char*> dtypes) {
      return TensorView(name, Get(name, wanted, dtypes));
    };
    EightBitLinear head;
    head.k = k;
    head.n = n;
    head.qweight = view("lm_head.qweight", {k / 4, n}, {"I32"});
    head.qzeros = view("lm_head.qzeros", {groups, n / 4}, {"I32"});
    head.scales = view("lm_head.scales", {groups, n}, {"F16", "BF16", "F32"});
    if (file_.Contains("lm_head.g_idx")) head.g_idx = view("lm_head.g_idx", {k}, {"I32"});
    head.gptq_v1_zeros = config_.quantization.gptq_v1_zeros;
    return head;
  }

  // Also the check of a layer: views cost nothing.
  kernels::QuantizedLinear Entry(const std::string& module, const LinearShape& shape) const {
    const QuantizationConfig& quantization = config_.quantization;
    if (quantization.method == "torchao") return Torchao(module, shape);
    if (quantization.method == "compressed-tensors") return CompressedTensors(module, shape);
    const bool awq = quantization.method == "awq";
    const auto [k, n] = shape;
    if (const int bits = GptqBits(module, shape); bits != 0 && bits != 4) {
      Fail(module, "has " + std::to_string(bits) +
                       " bits, as a rule of \"dynamic\" in config.json may say; layers of 4 are built");
    }
    std::int64_t group = quantization.group_size == -1 ? k : quantization.group_size;
    if (quantization.group_size_by_layer) group = GroupSize(module, ".scales", k);
    if (k % group != 0 || k % 8 != 0 || n % 8 != 0) {
      Fail(module, "K = " + std::to_string(k) + ", N = " + std::to_string(n) + " do not go with group_size " +
                       std::to_string(group) + " of config.json and 8 values a word");
    }
    const auto view = [&](const char* suffix, const Shape& wanted, std::initializer_list<const char*> dtypes) {
      return TensorView(module + suffix, Get(module + suffix, wanted, dtypes));
    };
    kernels::QuantizedLinear linear;
    linear.name = module;
    linear.format = awq ? kernels::Format::kAwq : kernels::Format::kGptq;
    linear.k = k;
    linear.n = n;
    linear.group_size = group;
    linear.qweight = view(".qweight", awq ? Shape{k, n / 8} : Shape{k / 8, n}, {"I32"});
    linear.qzeros = view(".qzeros", {k / group, n / 8}, {"I32"});
    linear.scales = view(".scales", {k / group, n}, {"F16", "BF16", "F32"});
    linear.gptq_v1_zeros = quantization.gptq_v1_zeros;
    if (!awq && file_.Contains(module + ".g_idx")) linear.g_idx = view(".g_idx", {k}, {"I32"});
    if (!awq && quantization.desc_act && !linear.g_idx.defined()) Fail(module, "desc_act without g_idx");
    return linear;
  }

  // pack-quantized: weight_packed I32 [N, K/8], bits 4i of word c are input 8c + i, plus 8;
  // weight_scale [N, K/G]; weight_zero_point I32 [N/8, K/G], bits 4i of word r are output
  // 8r + i, plus 8 (absent: 0); weight_g_idx I32 [K] under actorder "group". The words of
  // GPTQ are the same ones transposed, with zero points as they are: nothing is rounded.
  // Also the check of a layer: transposed views cost nothing, Quantized() copies.
  kernels::QuantizedLinear CompressedTensors(const std::string& module, const LinearShape& shape) const {
    const auto [k, n] = shape;
    const auto transposed = [&](const char* suffix, const Shape& wanted, std::initializer_list<const char*> dtypes) {
      return TensorView(module + suffix, Get(module + suffix, wanted, dtypes)).t();
    };
    if (n % 8 != 0 || k % 8 != 0) {
      Fail(module, "K = " + std::to_string(k) + ", N = " + std::to_string(n) +
                       " are not multiples of 8, which is not built for compressed-tensors");
    }
    CheckWeightShape(module, shape);
    const StoredTensor& scales = file_.Get(module + ".weight_scale");
    const std::int64_t groups = scales.shape.size() == 2 ? scales.shape[1] : 0;
    if (groups < 1 || k % groups != 0) {
      Fail(module + ".weight_scale",
           "has shape " + ShapeText(scales.shape) + ", whose groups do not divide K = " + std::to_string(k));
    }
    kernels::QuantizedLinear linear;
    linear.name = module;
    linear.format = kernels::Format::kGptq;
    linear.k = k;
    linear.n = n;
    linear.group_size = k / groups;
    linear.gptq_v1_zeros = false;
    linear.qweight = transposed(".weight_packed", {n, k / 8}, {"I32"});
    linear.scales = transposed(".weight_scale", {n, groups}, {"F16", "BF16", "F32"});
    if (!file_.Contains(module + ".weight_zero_point")) {
      if (!config_.quantization.symmetric) Fail(module, "has no weight_zero_point, but config.json says asymmetric");
      linear.qzeros = at::full({groups, n / 8}, std::int32_t{-0x77777778}, at::kInt);  // 0x88888888
    } else if (file_.Get(module + ".weight_zero_point").dtype == "I8") {
      linear.qzeros = PackedZeroPoints(module + ".weight_zero_point", n, groups);
    } else {
      linear.qzeros = transposed(".weight_zero_point", {n / 8, groups}, {"I32"});
    }
    if (file_.Contains(module + ".weight_g_idx")) {
      linear.g_idx = TensorView(module + ".weight_g_idx", Get(module + ".weight_g_idx", {k}, {"I32"}));
      // Its maker fills it with -1 until an order is known; the groups are then as without it.
      const std::span<const std::int32_t> index(linear.g_idx.const_data_ptr<std::int32_t>(),
                                                static_cast<std::size_t>(k));
      if (std::find(index.begin(), index.end(), -1) != index.end()) linear.g_idx = at::Tensor();
    }
    return linear;
  }

  // Until version 0.8 of compressed-tensors: I8 [N, K/G], a value each. As the words of GPTQ.
  at::Tensor PackedZeroPoints(const std::string& name, std::int64_t n, std::int64_t groups) const {
    const at::Tensor stored = TensorView(name, Get(name, {n, groups}, {"I8"}));
    const auto* const values = stored.const_data_ptr<std::int8_t>();
    at::Tensor words = at::zeros({groups, n / 8}, at::kInt);
    auto* const word = words.mutable_data_ptr<std::int32_t>();
    for (std::int64_t column = 0; column < n; ++column) {
      for (std::int64_t group = 0; group < groups; ++group) {
        const int value = values[column * groups + group];
        if (value < -8 || value > 7) Fail(name, "holds " + std::to_string(value) + ", which 4 bits do not");
        std::int32_t& to = word[group * (n / 8) + column / 8];
        to = static_cast<std::int32_t>(static_cast<std::uint32_t>(to) | static_cast<std::uint32_t>(value + 8)
                                                                            << (4 * (column % 8)));
      }
    }
    return words;
  }

  void CheckWeightShape(const std::string& module, const LinearShape& shape) const {
    const std::string name = module + ".weight_shape";
    const at::Tensor stored = TensorView(name, Get(name, {2}, {"I64", "I32"})).to(at::kLong);
    const auto* sizes = stored.const_data_ptr<std::int64_t>();
    if (sizes[0] != shape.n || sizes[1] != shape.k) {
      Fail(name, "says " + ShapeText(Shape{sizes[0], sizes[1]}) + ", " + ShapeText(Shape{shape.n, shape.k}) +
                     " follows from config.json");
    }
  }

  // Where weights are not numbers no logit is one, and every run would agree with every other.
  void CheckFinite(const std::string& name, const at::Tensor& tensor) const {
    if (const auto at = FirstNotFinite(tensor)) {
      Fail(name, "element " + std::to_string(*at) + " is NaN or infinite; the file is damaged or badly converted");
    }
  }

  void CheckScales(const kernels::QuantizedLinear& linear) const {
    if (linear.format != kernels::Format::kTorchaoTilePacked) {
      CheckFinite(linear.name + " scales", linear.scales);
      if (linear.format == kernels::Format::kTorchaoPlain) CheckFinite(linear.name + " zero points", linear.qzeros);
      return;
    }
    // The padding may hold anything.
    CheckFinite(
        linear.name + "._weight_scale_and_zero",
        linear.scales.narrow(0, 0, (linear.k + linear.group_size - 1) / linear.group_size).narrow(1, 0, linear.n));
  }

  kernels::QuantizedLinear Torchao(const std::string& module, const LinearShape& shape) const {
    CheckTorchaoMetadata(module, shape);
    const auto [k, n] = shape;
    const auto view = [&](const char* suffix, const Shape& wanted, std::initializer_list<const char*> dtypes) {
      return TensorView(module + suffix, Get(module + suffix, wanted, dtypes));
    };
    if (file_.Contains(module + "._weight_act_pre_scale")) {
      Fail(module, "has an activation pre-scale, which is not built");
    }
    kernels::QuantizedLinear linear;
    linear.name = module;
    linear.k = k;
    linear.n = n;
    if (file_.Contains(module + "._weight_scale_and_zero")) {
      const std::int64_t padded_k = RoundUp(k, 1024);
      const std::int64_t padded_n = RoundUp(n, 8);
      linear.format = kernels::Format::kTorchaoTilePacked;
      linear.group_size = GroupSize(module, "._weight_scale_and_zero", padded_k);
      linear.qweight = view("._weight_qdata", {padded_n / 8, padded_k / 128, 32, 4}, {"I32"});
      linear.scales = view("._weight_scale_and_zero", {padded_k / linear.group_size, padded_n, 2}, {"BF16"});
    } else {
      if (k % 2 != 0) Fail(module, "K = " + std::to_string(k) + " is odd, two values share a byte");
      linear.format = kernels::Format::kTorchaoPlain;
      linear.group_size = GroupSize(module, "._weight_scale", k);
      linear.qweight = view("._weight_qdata", {n, k / 2}, {"I8"});
      linear.scales = view("._weight_scale", {k / linear.group_size, n}, {"BF16"});
      linear.qzeros = view("._weight_zero_point", {k / linear.group_size, n}, {"BF16"});
    }
    return linear;
  }

  // What the writer says of the layer: its type and its true shape, which the
  // padded tensors do not show.
  void CheckTorchaoMetadata(const std::string& module, const LinearShape& shape) const {
    const auto entry = file_.metadata().find(module + ".weight");
    if (entry == file_.metadata().end()) return;
    const nlohmann::json json = ParseJson(entry->second, file_.path().string() + ": __metadata__ of " + Quoted(module));
    const auto type = json.is_object() ? json.find("_type") : json.end();
    if (type != json.end() && *type != "Int4TilePackedTo4dTensor" && *type != "Int4Tensor") {
      Fail(module, "torchao type " + Quoted(type->dump(-1, ' ', true)) +
                       " is not read, only Int4TilePackedTo4dTensor and Int4Tensor");
    }
    const auto data = json.is_object() ? json.find("_data") : json.end();
    if (data == json.end() || !data->is_object() || !data->contains("shape")) return;
    if ((*data)["shape"] != nlohmann::json(Shape{shape.n, shape.k})) {
      Fail(module, "has shape " + Quoted((*data)["shape"].dump(-1, ' ', true)) + " in __metadata__, " +
                       ShapeText(Shape{shape.n, shape.k}) + " follows from config.json");
    }
  }

  // A group that does not exist would make a kernel read outside the scales.
  void CheckGroupIndex(const kernels::QuantizedLinear& linear) const {
    const std::int64_t groups = linear.k / linear.group_size;
    const auto* index = linear.g_idx.const_data_ptr<std::int32_t>();
    for (std::int64_t i = 0; i < linear.k; ++i) {
      if (index[i] < 0 || index[i] >= groups) {
        Fail(linear.name + ".g_idx", "row " + std::to_string(i) + " is in group " + std::to_string(index[i]) +
                                         ", of which there are " + std::to_string(groups));
      }
    }
  }

  std::filesystem::path folder_;
  ModelConfig config_;
  TensorTable file_;
  Qwen3Tensors expected_;
  mutable LoadWatch watch_;
};

}  // namespace

at::Tensor Checkpoint::Head(at::ScalarType dtype) const {
  return IsQuantized("lm_head") ? DenseHead(Quantized("lm_head"), dtype) : Dense("lm_head.weight");
}

std::unique_ptr<Checkpoint> OpenCheckpoint(const std::filesystem::path& folder) {
  return std::make_unique<FolderCheckpoint>(folder, ReadModelConfig(folder));
}

}  // namespace suites
