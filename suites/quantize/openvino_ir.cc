#include "suites/quantize/openvino_ir.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <openvino/core/model.hpp>
#include <openvino/op/add.hpp>
#include <openvino/op/assign.hpp>
#include <openvino/op/broadcast.hpp>
#include <openvino/op/concat.hpp>
#include <openvino/op/constant.hpp>
#include <openvino/op/convert.hpp>
#include <openvino/op/cos.hpp>
#include <openvino/op/divide.hpp>
#include <openvino/op/gather.hpp>
#include <openvino/op/less_eq.hpp>
#include <openvino/op/logical_and.hpp>
#include <openvino/op/matmul.hpp>
#include <openvino/op/multiply.hpp>
#include <openvino/op/parameter.hpp>
#include <openvino/op/power.hpp>
#include <openvino/op/range.hpp>
#include <openvino/op/read_value.hpp>
#include <openvino/op/reduce_mean.hpp>
#include <openvino/op/reshape.hpp>
#include <openvino/op/result.hpp>
#include <openvino/op/scaled_dot_product_attention.hpp>
#include <openvino/op/select.hpp>
#include <openvino/op/shape_of.hpp>
#include <openvino/op/sin.hpp>
#include <openvino/op/slice.hpp>
#include <openvino/op/sqrt.hpp>
#include <openvino/op/subtract.hpp>
#include <openvino/op/swish.hpp>
#include <openvino/op/transpose.hpp>
#include <openvino/op/unsqueeze.hpp>
#include <openvino/op/util/variable.hpp>
#include <openvino/pass/serialize.hpp>
#include <utility>
#include <vector>

#include "suites/checkpoint/safetensors.h"

namespace suites::quantize {
namespace {

namespace fs = std::filesystem;
using Output = ov::Output<ov::Node>;

// The weights in a mapped file without a name, so that they need not fit into
// memory. All of it is reserved first: a write into a mapping cannot report that
// the disk is full.
class WeightFile {
 public:
  WeightFile(const fs::path& folder, std::uint64_t size) : size_(size) {
    const std::string name = (folder / "weights.tmp").string();
    const int file = open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) throw CheckpointError(name + ": cannot be made: " + std::strerror(errno));
    unlink(name.c_str());
    const int error = posix_fallocate(file, 0, static_cast<off_t>(size));
    void* data = error == 0 ? mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
    const int map_error = errno;
    close(file);
    if (error != 0) throw CheckpointError(name + ": " + std::strerror(error));
    if (data == MAP_FAILED) throw CheckpointError(name + ": cannot be mapped: " + std::strerror(map_error));
    data_ = static_cast<std::byte*>(data);
  }
  ~WeightFile() { munmap(data_, size_); }
  WeightFile(const WeightFile&) = delete;
  WeightFile& operator=(const WeightFile&) = delete;

  const std::byte* Append(const std::vector<std::byte>& bytes) {
    std::byte* at = data_ + used_;
    std::memcpy(at, bytes.data(), bytes.size());
    used_ += Aligned(bytes.size());
    return at;
  }
  static std::uint64_t Aligned(std::uint64_t bytes) { return (bytes + 63) / 64 * 64; }

 private:
  std::byte* data_ = nullptr;
  std::uint64_t size_;
  std::uint64_t used_ = 0;
};

ov::element::Type ElementOf(const std::string& dtype) {
  if (dtype == "U4") return ov::element::u4;
  return dtype == "F16" ? ov::element::f16 : ov::element::f32;
}

// theta^(-2i / head_dim) for i < head_dim / 2, each correctly rounded to float
// but for ties: powers of the root theta^(2 / head_dim), found by Newton's
// method. The library's pow() differs in the last bit from CPU to CPU.
std::vector<float> InverseFrequencies(double theta, std::int64_t head_dim) {
  const std::int64_t half = head_dim / 2;
  const auto power = [](double base, std::int64_t exponent) {
    double result = 1;
    for (std::int64_t i = 0; i < exponent; ++i) result *= base;
    return result;
  };
  // From above, x falls towards the root of x^half = theta until rounding stops it.
  double root = theta < 1 ? 1 : theta;
  while (true) {
    const double below = power(root, half - 1);
    const double next = std::isinf(below) ? root / 2 : root - (root - theta / below) / static_cast<double>(half);
    if (!(next < root)) break;
    root = next;
  }
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < half; ++i) frequencies.push_back(static_cast<float>(1 / power(root, i)));
  return frequencies;
}

// Builds the graph. Every node gets a name, so that the XML does not depend on
// the library's counter. Its forms (norm, rotation, attention over a state,
// decompression) are those that the plugins know and fuse.
class GraphBuilder {
 public:
  using Constants = std::map<std::string, std::shared_ptr<ov::op::v0::Constant>>;
  GraphBuilder(const ModelConfig& config, const Constants& constants) : config_(config), constants_(constants) {}

  std::shared_ptr<ov::Model> Build() {
    using namespace ov::op;
    input_ids_ = Input("input_ids", ov::element::i64, {-1, -1});
    attention_mask_ = Input("attention_mask", ov::element::i64, {-1, -1});
    position_ids_ = Input("position_ids", ov::element::i64, {-1, -1});
    beam_idx_ = Input("beam_idx", ov::element::i32, {-1});
    const std::string embed = "model.embed_tokens";
    Output hidden = Add<v8::Gather>(embed, Dequantized(embed + ".weight", embed + "/convert"), input_ids_,
                                    Integers(embed + "/axis", {}, {0}));
    Rotation();
    mask_ = Mask();
    for (std::int64_t i = 0; i < config_.num_hidden_layers; ++i) {
      const std::string layer = "model.layers." + std::to_string(i);
      const Output attended = Attention(layer, i, Norm(layer + ".input_layernorm", hidden, 3));
      hidden = Add<v1::Add>(layer + "/attention_residual", hidden, attended);
      const Output mlp = Mlp(layer + ".mlp", Norm(layer + ".post_attention_layernorm", hidden, 3));
      hidden = Add<v1::Add>(layer + "/mlp_residual", hidden, mlp);
    }
    hidden = Norm("model.norm", hidden, 3);
    const std::string head = config_.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
    const Output logits = Add<v0::MatMul>("lm_head", hidden, Dequantized(head, "lm_head/convert"), false, true);
    logits.get_tensor().set_names({"logits"});
    const auto result = std::make_shared<v0::Result>(logits);
    result->set_friendly_name("logits/result");
    return std::make_shared<ov::Model>(ov::ResultVector{result}, sinks_, parameters_, "qwen3");
  }

 private:
  template <typename Op, typename... Args>
  Output Add(const std::string& name, Args&&... args) {
    const auto node = std::make_shared<Op>(std::forward<Args>(args)...);
    node->set_friendly_name(name);
    return node->output(0);
  }

  Output Input(const std::string& name, ov::element::Type type, ov::PartialShape shape) {
    const auto parameter = std::make_shared<ov::op::v0::Parameter>(type, shape);
    parameter->set_friendly_name(name);
    parameter->output(0).get_tensor().set_names({name});
    parameters_.push_back(parameter);
    return parameter->output(0);
  }

  Output Integers(const std::string& name, ov::Shape shape, const std::vector<std::int64_t>& values) {
    return Add<ov::op::v0::Constant>(name, ov::element::i64, shape, values);
  }
  Output Floats(const std::string& name, ov::Shape shape, const std::vector<float>& values) {
    return Add<ov::op::v0::Constant>(name, ov::element::f32, shape, values);
  }
  // A one-dimensional weight with leading axes of 1.
  Output Vector(const std::string& name, std::size_t rank) {
    const auto& constant = constants_.at(name);
    ov::Shape shape(rank, 1);
    shape.back() = constant->get_shape()[0];
    return Add<ov::op::v0::Constant>(name, *constant, shape);
  }

  // A matrix as f32: float16 converted, or u4 as (q - z) s.
  Output Dequantized(const std::string& name, const std::string& convert_name) {
    using namespace ov::op;
    const auto& weight = constants_.at(name);
    if (weight->get_element_type() != ov::element::u4) {
      return Add<v0::Convert>(convert_name, weight, ov::element::f32);
    }
    const ov::Shape shape = weight->get_shape();
    const Output codes = Add<v0::Convert>(name + "/f16", weight, ov::element::f16);
    const Output zeros =
        Add<v0::Convert>(name + "/zero_point/f16", constants_.at(name + "/zero_point"), ov::element::f16);
    const Output centred = Add<v1::Subtract>(name + "/subtract", codes, zeros);
    const Output scaled = Add<v1::Multiply>(name + "/multiply", centred, constants_.at(name + "/scale"));
    const Output flat = Add<v1::Reshape>(
        name + "/reshape", scaled,
        Integers(name + "/shape", {2},
                 {static_cast<std::int64_t>(shape[0]), static_cast<std::int64_t>(shape[1] * shape[2])}),
        false);
    return Add<v0::Convert>(convert_name, flat, ov::element::f32);
  }

  Output Linear(const std::string& module, const Output& x) {
    return Add<ov::op::v0::MatMul>(module, x, Dequantized(module + ".weight", module + "/convert"), false, true);
  }

  // x / sqrt(mean(x^2) + eps) * weight, over the last axis.
  Output Norm(const std::string& name, const Output& x, std::size_t rank) {
    using namespace ov::op;
    const ov::Shape one(rank, 1);
    const Output square = Add<v1::Power>(name + "/square", x, Floats(name + "/two", one, {2}));
    const Output mean = Add<v1::ReduceMean>(name + "/mean", square, Integers(name + "/axis", {1}, {-1}), true);
    const Output shifted =
        Add<v1::Add>(name + "/add_eps", mean, Floats(name + "/eps", one, {static_cast<float>(config_.rms_norm_eps)}));
    const Output inverse =
        Add<v1::Divide>(name + "/rsqrt", Floats(name + "/one", one, {1}), Add<v0::Sqrt>(name + "/sqrt", shifted));
    const Output normalized = Add<v1::Multiply>(name + "/normalize", x, inverse);
    return Add<v1::Multiply>(name, Vector(name + ".weight", rank), normalized);
  }

  // cos and sin of position * frequency, [B, 1, S, head_dim].
  void Rotation() {
    using namespace ov::op;
    const std::string name = "model.rotary_emb";
    const std::vector<float> frequencies = InverseFrequencies(config_.rope_theta, config_.head_dim);
    const Output positions = Add<v0::Convert>(
        name + "/positions", Add<v0::Unsqueeze>(name + "/unsqueeze", position_ids_, Integers(name + "/axis", {}, {1})),
        ov::element::f32);
    const Output angles = Add<v0::MatMul>(
        name + "/matmul", Floats(name + "/inv_freq", {1, frequencies.size(), 1}, frequencies), positions, false, false);
    const Output turned = Add<v1::Transpose>(name + "/transpose", angles, Integers(name + "/order", {3}, {0, 2, 1}));
    const Output both = Add<v0::Concat>(name + "/concat", ov::OutputVector{turned, turned}, -1);
    const Output head_axis = Integers(name + "/head_axis", {}, {1});
    cos_ = Add<v0::Unsqueeze>(name + "/cos", Add<v0::Cos>(name + "/cos/value", both), head_axis);
    sin_ = Add<v0::Unsqueeze>(name + "/sin", Add<v0::Sin>(name + "/sin/value", both), head_axis);
  }

  // x cos + (-x2, x1) sin, where x1 and x2 are the halves of a head.
  Output Rotate(const std::string& name, const Output& x) {
    using namespace ov::op;
    const std::int64_t half = config_.head_dim / 2;
    constexpr std::int64_t kEnd = 0x7fffffffffffffff;
    const auto slice = [&](const std::string& part, std::int64_t from, std::int64_t to) {
      const std::string at = name + part;
      return Add<v8::Slice>(at, x, Integers(at + "/from", {1}, {from}), Integers(at + "/to", {1}, {to}),
                            Integers(at + "/step", {1}, {1}), Integers(at + "/axis", {1}, {3}));
    };
    const Output negated =
        Add<v1::Multiply>(name + "/negate", slice("/upper", half, kEnd), Floats(name + "/minus_one", {}, {-1}));
    const Output turned = Add<v0::Concat>(name + "/concat", ov::OutputVector{negated, slice("/lower", 0, half)}, -1);
    return Add<v1::Add>(name, Add<v1::Multiply>(name + "/x_cos", x, cos_),
                        Add<v1::Multiply>(name + "/x_sin", turned, sin_));
  }

  // 0 where a position may look, -65504 (the lowest float16) elsewhere; [B, 1, S, past + S].
  Output Mask() {
    using namespace ov::op;
    const std::string name = "model.mask";
    const Output zero = Integers(name + "/zero", {}, {0});
    const Output one = Integers(name + "/one", {}, {1});
    const auto length = [&](const std::string& of, const Output& input) {
      return Add<v8::Gather>(of, Add<v3::ShapeOf>(of + "/shape", input, ov::element::i64), one, zero);
    };
    const Output all = length(name + "/all_length", attention_mask_);
    const Output past = Add<v1::Subtract>(name + "/past_length", all, length(name + "/new_length", input_ids_));
    const Output keys =
        Add<v0::Unsqueeze>(name + "/keys/row", Add<v4::Range>(name + "/keys", zero, all, one, ov::element::i64),
                           Integers(name + "/row_axes", {3}, {0, 1, 2}));
    const Output queries = Add<v0::Unsqueeze>(name + "/queries/column",
                                              Add<v4::Range>(name + "/queries", past, all, one, ov::element::i64),
                                              Integers(name + "/column_axes", {3}, {0, 1, 3}));
    const Output causal = Add<v1::LessEqual>(name + "/causal", keys, queries);
    const Output present = Add<v0::Unsqueeze>(
        name + "/present", Add<v0::Convert>(name + "/boolean", attention_mask_, ov::element::boolean),
        Integers(name + "/present_axes", {2}, {1, 2}));
    return Add<v1::Select>(name, Add<v1::LogicalAnd>(name + "/visible", causal, present),
                           Floats(name + "/look", {}, {0}), Floats(name + "/hide", {}, {-65504}));
  }

  // [B, S, heads * head_dim] to [B, heads, S, head_dim], with a norm over each head where it has one.
  Output Heads(const std::string& module, const Output& x, std::int64_t heads, const std::string& norm) {
    using namespace ov::op;
    Output split = Add<v1::Reshape>(module + "/heads", x,
                                    Integers(module + "/heads/shape", {4}, {0, 0, heads, config_.head_dim}), true);
    if (!norm.empty()) split = Norm(norm, split, 4);
    return Add<v1::Transpose>(module + "/transpose", split, Integers(module + "/order", {4}, {0, 2, 1, 3}));
  }

  // Keys or values of all positions, repeated for the query heads that share
  // them; the state takes them before they are repeated.
  Output Cached(const std::string& id, const Output& fresh) {
    using namespace ov::op;
    const std::int64_t heads = config_.num_key_value_heads, size = config_.head_dim;
    const auto variable = std::make_shared<util::Variable>(
        util::VariableInfo{ov::PartialShape{-1, heads, -1, size}, ov::element::f32, id});
    const Output zero = Integers(id + "/zero", {}, {0});
    const Output batch = Add<v8::Gather>(id + "/batch", Add<v3::ShapeOf>(id + "/shape", input_ids_, ov::element::i64),
                                         Integers(id + "/batch_index", {1}, {0}), zero);
    const Output empty_shape =
        Add<v0::Concat>(id + "/empty_shape",
                        ov::OutputVector{batch, Integers(id + "/heads", {1}, {heads}), Integers(id + "/none", {1}, {0}),
                                         Integers(id + "/size", {1}, {size})},
                        0);
    const Output empty = Add<v3::Broadcast>(id + "/empty", Floats(id + "/nothing", {}, {0}), empty_shape);
    const Output past = Add<v6::ReadValue>(id + "/read", empty, variable);
    const Output chosen = Add<v8::Gather>(id + "/beam", past, beam_idx_, zero);
    const Output all = Add<v0::Concat>(id, ov::OutputVector{chosen, fresh}, -2);
    const auto assign = std::make_shared<v6::Assign>(all, variable);
    assign->set_friendly_name(id + "/assign");
    sinks_.push_back(assign);
    const std::int64_t shared = config_.num_attention_heads / heads;
    if (shared == 1) return all;
    const Output spread = Add<v0::Unsqueeze>(id + "/spread", all, Integers(id + "/spread_axis", {}, {2}));
    const Output repeated = Add<v3::Broadcast>(
        id + "/repeat", spread, Integers(id + "/repeats", {5}, {1, 1, shared, 1, 1}), BroadcastType::BIDIRECTIONAL);
    return Add<v1::Reshape>(id + "/repeated", repeated,
                            Integers(id + "/repeated/shape", {4}, {0, config_.num_attention_heads, -1, size}), true);
  }

  Output Attention(const std::string& layer, std::int64_t index, const Output& x) {
    using namespace ov::op;
    const std::string module = layer + ".self_attn";
    const std::string state = "past_key_values." + std::to_string(index);
    const std::int64_t kv_heads = config_.num_key_value_heads;
    const Output query = Rotate(module + "/rotated_query", Heads(module + ".q_proj", Linear(module + ".q_proj", x),
                                                                 config_.num_attention_heads, module + ".q_norm"));
    const Output key = Rotate(module + "/rotated_key",
                              Heads(module + ".k_proj", Linear(module + ".k_proj", x), kv_heads, module + ".k_norm"));
    const Output value = Heads(module + ".v_proj", Linear(module + ".v_proj", x), kv_heads, "");
    const Output keys = Cached(state + ".key", key);
    const Output values = Cached(state + ".value", value);
    const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(config_.head_dim)));
    const Output attended = Add<v13::ScaledDotProductAttention>(module + "/attention", query, keys, values, mask_,
                                                                Floats(module + "/scale", {}, {scale}), false);
    const Output joined = Add<v1::Reshape>(
        module + "/joined",
        Add<v1::Transpose>(module + "/transpose", attended, Integers(module + "/order", {4}, {0, 2, 1, 3})),
        Integers(module + "/joined/shape", {3}, {0, 0, config_.num_attention_heads * config_.head_dim}), true);
    return Linear(module + ".o_proj", joined);
  }

  Output Mlp(const std::string& module, const Output& x) {
    using namespace ov::op;
    const Output gate = Add<v4::Swish>(module + "/silu", Linear(module + ".gate_proj", x));
    return Linear(module + ".down_proj", Add<v1::Multiply>(module + "/gated", gate, Linear(module + ".up_proj", x)));
  }

  const ModelConfig& config_;
  const Constants& constants_;
  ov::ParameterVector parameters_;
  ov::SinkVector sinks_;
  Output input_ids_, attention_mask_, position_ids_, beam_idx_, cos_, sin_, mask_;
};

GraphBuilder::Constants EncodeConstants(const WeightSource& source, const fs::path& folder,
                                        const QuantizeOptions& options) {
  const std::vector<TensorInfo> tensors = TensorsOf(source.config());
  std::uint64_t size = 0;
  for (const TensorInfo& tensor : tensors) {
    for (const TensorHeader& header : HeadersFor(options.format, tensor, options.group_size)) {
      size += WeightFile::Aligned(BytesOf(header));
    }
  }
  const auto file = std::make_shared<WeightFile>(folder, size);
  GraphBuilder::Constants constants;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (options.progress) options.progress(i, tensors.size(), tensors[i].name);
    const auto headers = HeadersFor(options.format, tensors[i], options.group_size);
    const auto data = Encode(options.format, source, tensors[i], options.group_size, options.threads);
    for (std::size_t part = 0; part < headers.size(); ++part) {
      const ov::Shape shape(headers[part].shape.begin(), headers[part].shape.end());
      const auto constant =
          std::make_shared<ov::op::v0::Constant>(ElementOf(headers[part].dtype), shape, file->Append(data[part]), file);
      constant->set_friendly_name(headers[part].name);
      constants[headers[part].name] = constant;
    }
  }
  return constants;
}

std::ofstream OpenFile(const fs::path& path) {
  std::ofstream file(path, std::ios::binary);
  if (!file) throw CheckpointError(path.string() + ": cannot be made: " + std::strerror(errno));
  return file;
}

}  // namespace

void WriteOpenVinoIr(const WeightSource& source, const fs::path& folder, const QuantizeOptions& options) {
  const GraphBuilder::Constants constants = EncodeConstants(source, folder, options);
  const fs::path xml_path = folder / "openvino_model.xml", bin_path = folder / "openvino_model.bin";
  try {
    const std::shared_ptr<ov::Model> model = GraphBuilder(source.config(), constants).Build();
    model->set_rt_info("int4_asym", "gtest_determinism", "weight_compression", "mode");
    model->set_rt_info(std::to_string(options.group_size), "gtest_determinism", "weight_compression", "group_size");
    // Streams of our own, because the pass that opens files itself does not say
    // when the disk is full.
    std::ofstream xml = OpenFile(xml_path), bin = OpenFile(bin_path);
    ov::pass::Serialize(xml, bin).run_on_model(model);
    errno = 0;
    xml.close();
    bin.close();
    if (!xml || !bin) {
      throw CheckpointError((xml ? bin_path : xml_path).string() +
                            ": cannot be written: " + (errno != 0 ? std::strerror(errno) : "is the disk full?"));
    }
  } catch (const ov::Exception& error) {
    throw CheckpointError(xml_path.string() + ": OpenVINO: " + error.what());
  }
}

}  // namespace suites::quantize
