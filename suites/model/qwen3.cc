#include "suites/model/qwen3.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "suites/checkpoint/safetensors.h"
#include "suites/model/engine_common.h"
#include "suites/model/projection.h"
#include "suites/model/row_ops.h"

namespace suites {
namespace {

using internal::AttentionArgs;
using internal::Precision;
using internal::Projection;
using internal::RowOps;

using Clock = std::chrono::steady_clock;
double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// fn(row) for every row; rows of little work stay on the calling thread.
template <class Fn>
void ForEachRow(std::int64_t rows, std::int64_t elements_a_row, const Fn& fn) {
  const std::int64_t grain = std::max<std::int64_t>(1, (std::int64_t{1} << 15) / elements_a_row);
  at::parallel_for(0, rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) fn(row);
  });
}

char* RowOf(const at::Tensor& tensor, std::int64_t row) {
  return static_cast<char*>(tensor.data_ptr()) +
         row * tensor.stride(0) * static_cast<std::int64_t>(tensor.element_size());
}

struct Layer {
  at::Tensor input_norm, post_norm, q_norm, k_norm;
  Projection qkv, o, gate_up, down;
};

struct KeyValueCache {
  at::Tensor keys, values;  // layouts as in AttentionArgs
};

// What the passes of one generation share.
struct Pass {
  int step = 0;
  std::int64_t past = 0;
  std::int64_t capacity = 0;
  std::vector<KeyValueCache>* caches = nullptr;
};

class Engine final : public Qwen3Engine {
 public:
  Engine(const Checkpoint& checkpoint, const Qwen3Options& options);

  Generation Generate(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options) override;
  bool SetOpSink(OpSink sink) override {
    op_sink_ = std::move(sink);
    return true;
  }
  std::int64_t vocab_size() const override { return config_.vocab_size; }
  std::int64_t max_positions() const override { return max_positions_; }

  const kernels::Int4Matmul* MatmulOf(int layer, const std::string& op) const override;
  void SetMatmulInputSink(InputSink sink) override { input_sink_ = std::move(sink); }
  void SetReplaySink(ReplaySink sink) override { replay_sink_ = std::move(sink); }
  const kernels::KernelIdentity* kernel() const override {
    for (const Layer& layer : layers_) {
      for (const Projection* projection : {&layer.qkv, &layer.o, &layer.gate_up, &layer.down}) {
        if (const auto* identity = projection->kernel()) return identity;
      }
    }
    return nullptr;
  }

 private:
  at::Tensor Empty(std::int64_t rows, std::int64_t columns) const {
    return at::empty({rows, columns}, at::TensorOptions().dtype(internal::ScalarTypeOf(precision_)));
  }
  void Emit(const Pass& pass, int layer, const char* op, const at::Tensor& tensor) const;
  // Offers an operation without an INT4 matmul for replay: `run` yields its output.
  template <class Run>
  void Offer(const Pass& pass, int layer, const char* op, const Run& run) const {
    if (!replay_sink_) return;
    replay_sink_({pass.step, layer, op}, [&] { return std::vector<at::Tensor>{run()}; }, nullptr, {});
  }

  at::Tensor Forward(std::span<const std::int64_t> ids, const Pass& pass);
  at::Tensor Embed(std::span<const std::int64_t> ids) const;
  at::Tensor Norm(const at::Tensor& x, const at::Tensor& weight) const;
  at::Tensor Project(const Projection& projection, const at::Tensor& x, const Pass& pass, int layer) const;
  void NormAndRotate(const Layer& layer, const at::Tensor& qkv, KeyValueCache& cache, const Pass& pass) const;
  at::Tensor Attend(const at::Tensor& qkv, const KeyValueCache& cache, const Pass& pass) const;
  at::Tensor SiluMul(const at::Tensor& gate_up) const;
  void AddTo(const at::Tensor& hidden, const at::Tensor& y) const;
  // The logits of each row of `hidden`, into `logits` [rows, vocab].
  void Head(const at::Tensor& hidden, const Pass& pass, void* logits) const;
  TokenChoice Sample(const void* logits, int step, const GenerationOptions& options) const;

  ModelConfig config_;
  Precision precision_;
  const RowOps& ops_;
  std::int64_t max_positions_;
  std::int64_t prefill_chunk_;
  kernels::KernelRequest kernel_;
  std::vector<Layer> layers_;
  at::Tensor embedding_, final_norm_, head_;
  internal::RopeTable rope_;
  OpSink op_sink_;
  InputSink input_sink_;
  ReplaySink replay_sink_;
};

Engine::Engine(const Checkpoint& checkpoint, const Qwen3Options& options)
    : config_(checkpoint.config()),
      precision_(internal::ParsePrecision(options.compute)),
      ops_(internal::RowOpsFor(precision_)),
      max_positions_(std::min(config_.max_position_embeddings, options.max_model_len)),
      prefill_chunk_(options.prefill_chunk),
      kernel_(options.kernel),
      rope_(config_, precision_) {
  internal::ProjectionOptions projection{.precision = precision_};
  if (internal::UsesInt4Kernels(checkpoint, options, precision_)) projection.kernel = &kernel_;

  const at::ScalarType dtype = internal::ScalarTypeOf(precision_);
  auto dense = [&](const std::string& name) { return checkpoint.Dense(name).to(dtype).contiguous(); };
  embedding_ = dense("model.embed_tokens.weight");
  final_norm_ = dense("model.norm.weight");
  head_ = config_.tie_word_embeddings ? embedding_ : checkpoint.Head(dtype).to(dtype).contiguous();
  layers_.reserve(static_cast<std::size_t>(config_.num_hidden_layers));
  for (std::int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    auto project = [&](const std::string& op, const std::vector<std::string>& names) {
      return Projection(checkpoint, op, prefix, names, projection);
    };
    layers_.push_back({dense(prefix + "input_layernorm.weight"), dense(prefix + "post_attention_layernorm.weight"),
                       dense(prefix + "self_attn.q_norm.weight"), dense(prefix + "self_attn.k_norm.weight"),
                       project("qkv_proj", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}),
                       project("o_proj", {"self_attn.o_proj"}),
                       project("gate_up_proj", {"mlp.gate_proj", "mlp.up_proj"}),
                       project("down_proj", {"mlp.down_proj"})});
  }
}

const kernels::Int4Matmul* Engine::MatmulOf(int layer, const std::string& op) const {
  if (layer < 0 || layer >= static_cast<int>(layers_.size())) return nullptr;
  const Layer& the_layer = layers_[static_cast<std::size_t>(layer)];
  for (const Projection* projection : {&the_layer.qkv, &the_layer.o, &the_layer.gate_up, &the_layer.down}) {
    if (const auto* matmul = projection->MatmulOf(op)) return matmul;
  }
  return nullptr;
}

void Engine::Emit(const Pass& pass, int layer, const char* op, const at::Tensor& tensor) const {
  if (!op_sink_) return;
  OpOutput output;
  output.step = pass.step;
  output.layer = layer;
  output.op = op;
  output.bits.data = tensor.const_data_ptr();
  output.bits.bytes = tensor.nbytes();
  output.bits.dtype = internal::DTypeOf(precision_);
  output.bits.shape = tensor.sizes().vec();
  op_sink_(output);
}

at::Tensor Engine::Embed(std::span<const std::int64_t> ids) const {
  RECORD_FUNCTION("qwen3::embedding", c10::ArrayRef<const c10::IValue>{});
  at::Tensor hidden = Empty(static_cast<std::int64_t>(ids.size()), config_.hidden_size);
  const auto row_bytes = static_cast<std::size_t>(config_.hidden_size) * hidden.element_size();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    std::memcpy(RowOf(hidden, static_cast<std::int64_t>(i)), RowOf(embedding_, ids[i]), row_bytes);
  }
  return hidden;
}

at::Tensor Engine::Norm(const at::Tensor& x, const at::Tensor& weight) const {
  RECORD_FUNCTION("qwen3::rms_norm", c10::ArrayRef<const c10::IValue>{});
  at::Tensor y = at::empty(x.sizes(), x.options());
  ForEachRow(x.size(0), x.size(1), [&](std::int64_t row) {
    ops_.rms_norm(RowOf(x, row), weight.const_data_ptr(), RowOf(y, row), x.size(1),
                  static_cast<float>(config_.rms_norm_eps));
  });
  return y;
}

at::Tensor Engine::Project(const Projection& projection, const at::Tensor& x, const Pass& pass, int layer) const {
  Projection::InputCallback on_input;
  if (input_sink_ || replay_sink_) {
    on_input = [&](const std::string& op, const at::Tensor& input) {
      if (input_sink_) input_sink_(pass.step, layer, op, input);
      if (!replay_sink_) return;
      const kernels::Int4Matmul* matmul = projection.MatmulOf(op);
      const auto run = [&] { return std::vector<at::Tensor>{matmul->Forward(input)}; };
      replay_sink_({pass.step, layer, op}, run, matmul, input);
    };
  }
  if (projection.kernel() == nullptr) {
    Offer(pass, layer, projection.op().c_str(), [&] { return projection.Forward(x, {}); });
  }
  at::Tensor y = projection.Forward(x, on_input);
  Emit(pass, layer, projection.op().c_str(), y);
  return y;
}

void Engine::NormAndRotate(const Layer& layer, const at::Tensor& qkv, KeyValueCache& cache, const Pass& pass) const {
  RECORD_FUNCTION("qwen3::qk_norm_rope", c10::ArrayRef<const c10::IValue>{});
  const std::int64_t d = config_.head_dim;
  const std::int64_t q_heads = config_.num_attention_heads;
  const std::int64_t kv_heads = config_.num_key_value_heads;
  const std::int64_t padded = cache.values.size(2);
  const auto element = static_cast<std::int64_t>(qkv.element_size());
  ForEachRow(qkv.size(0), qkv.size(1), [&](std::int64_t row) {
    const std::int64_t position = pass.past + row;
    char* heads = RowOf(qkv, row);
    for (std::int64_t head = 0; head < q_heads + kv_heads; ++head) {
      char* x = heads + head * d * element;
      const at::Tensor& weight = head < q_heads ? layer.q_norm : layer.k_norm;
      ops_.rms_norm(x, weight.const_data_ptr(), x, d, static_cast<float>(config_.rms_norm_eps));
      ops_.rope(x, rope_.cosine().data() + position * rope_.half(), rope_.sine().data() + position * rope_.half(),
                rope_.half());
    }
    for (std::int64_t head = 0; head < kv_heads; ++head) {
      ops_.store_key_value(heads + (q_heads + head) * d * element, heads + (q_heads + kv_heads + head) * d * element,
                           RowOf(cache.keys, head), RowOf(cache.values, head), position, d, padded);
    }
  });
}

at::Tensor Engine::Attend(const at::Tensor& qkv, const KeyValueCache& cache, const Pass& pass) const {
  RECORD_FUNCTION("qwen3::attention", c10::ArrayRef<const c10::IValue>{});
  const std::int64_t rows = qkv.size(0);
  at::Tensor out = Empty(rows, config_.num_attention_heads * config_.head_dim);
  AttentionArgs args;
  args.query = qkv.const_data_ptr();
  args.query_stride = qkv.size(1);
  args.keys = cache.keys.const_data_ptr();
  args.values = cache.values.const_data_ptr();
  args.capacity = pass.capacity;
  args.head_dim = config_.head_dim;
  args.padded_head_dim = cache.values.size(2);
  args.group = config_.num_attention_heads / config_.num_key_value_heads;
  args.past = pass.past;
  args.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim)));
  args.out = out.mutable_data_ptr();
  args.out_stride = out.size(1);

  const std::int64_t lines = rows * args.group;
  const std::int64_t tiles = (lines + internal::kAttentionLines - 1) / internal::kAttentionLines;
  const std::int64_t tile_work = std::min(lines, internal::kAttentionLines) * (pass.past + rows) * config_.head_dim;
  const std::int64_t grain = std::max<std::int64_t>(1, (std::int64_t{1} << 18) / tile_work);
  at::parallel_for(0, tiles * config_.num_key_value_heads, grain, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scratch(static_cast<std::size_t>(AttentionScratch(args)));
    for (std::int64_t task = begin; task < end; ++task) {
      // A thread stays with a head, whose keys and values then stay in its cache.
      // Late rows cost more than early ones: an early and a late tile by turns,
      // so that every thread's range costs the same.
      const std::int64_t turn = task % tiles;
      const std::int64_t tile = turn % 2 == 0 ? turn / 2 : tiles - 1 - turn / 2;
      const std::int64_t first = tile * internal::kAttentionLines;
      ops_.attention(args, task / tiles, first, std::min(internal::kAttentionLines, lines - first), scratch.data());
    }
  });
  return out;
}

at::Tensor Engine::SiluMul(const at::Tensor& gate_up) const {
  RECORD_FUNCTION("qwen3::silu_mul", c10::ArrayRef<const c10::IValue>{});
  const std::int64_t n = config_.intermediate_size;
  at::Tensor y = Empty(gate_up.size(0), n);
  const auto up_offset = n * static_cast<std::int64_t>(gate_up.element_size());
  ForEachRow(gate_up.size(0), 2 * n, [&](std::int64_t row) {
    const char* gate = RowOf(gate_up, row);
    ops_.silu_mul(gate, gate + up_offset, RowOf(y, row), n);
  });
  return y;
}

void Engine::AddTo(const at::Tensor& hidden, const at::Tensor& y) const {
  RECORD_FUNCTION("qwen3::add", c10::ArrayRef<const c10::IValue>{});
  ForEachRow(hidden.size(0), hidden.size(1), [&](std::int64_t row) {
    ops_.add(RowOf(hidden, row), RowOf(y, row), RowOf(hidden, row), hidden.size(1));
  });
}

at::Tensor Engine::Forward(std::span<const std::int64_t> ids, const Pass& pass) {
  Offer(pass, -1, "embedding", [&] { return Embed(ids); });
  at::Tensor hidden = Embed(ids);
  Emit(pass, -1, "embedding", hidden);
  for (int i = 0; i < static_cast<int>(layers_.size()); ++i) {
    const Layer& layer = layers_[static_cast<std::size_t>(i)];
    KeyValueCache& cache = (*pass.caches)[static_cast<std::size_t>(i)];
    const auto norm = [&](const char* op, const at::Tensor& weight) {
      Offer(pass, i, op, [&] { return Norm(hidden, weight); });
      at::Tensor normal = Norm(hidden, weight);
      Emit(pass, i, op, normal);
      return normal;
    };
    const auto add = [&](const at::Tensor& y) {
      Offer(pass, i, "residual", [&] {
        at::Tensor sum = hidden.clone();
        AddTo(sum, y);
        return sum;
      });
      AddTo(hidden, y);
      Emit(pass, i, "residual", hidden);
    };
    at::Tensor x = norm("input_norm", layer.input_norm);
    const at::Tensor qkv = Project(layer.qkv, x, pass, i);
    Offer(pass, i, "rope", [&] {
      at::Tensor rotated = qkv.clone();
      NormAndRotate(layer, rotated, cache, pass);  // the cache gets what it will get
      return rotated;
    });
    NormAndRotate(layer, qkv, cache, pass);
    Emit(pass, i, "rope", qkv);
    Offer(pass, i, "attention", [&] { return Attend(qkv, cache, pass); });
    x = Attend(qkv, cache, pass);
    Emit(pass, i, "attention", x);
    add(Project(layer.o, x, pass, i));
    x = norm("post_norm", layer.post_norm);
    const at::Tensor gate_up = Project(layer.gate_up, x, pass, i);
    Offer(pass, i, "silu_mul", [&] { return SiluMul(gate_up); });
    x = SiluMul(gate_up);
    Emit(pass, i, "silu_mul", x);
    add(Project(layer.down, x, pass, i));
  }
  return hidden;
}

void Engine::Head(const at::Tensor& hidden, const Pass& pass, void* logits) const {
  Offer(pass, -1, "final_norm", [&] { return Norm(hidden, final_norm_); });
  const at::Tensor x = Norm(hidden, final_norm_);
  Emit(pass, -1, "final_norm", x);
  Offer(pass, -1, "lm_head", [&] { return internal::DenseLinear(x, head_, precision_); });
  internal::DenseLinearInto(x, head_, precision_, logits);
  if (op_sink_) {
    OpOutput output;
    output.step = pass.step;
    output.op = "lm_head";
    output.bits.data = logits;
    output.bits.dtype = internal::DTypeOf(precision_);
    output.bits.shape = {hidden.size(0), config_.vocab_size};
    output.bits.bytes = static_cast<std::size_t>(hidden.size(0) * config_.vocab_size) * SizeOf(output.bits.dtype);
    op_sink_(output);
  }
}

TokenChoice Engine::Sample(const void* logits, int step, const GenerationOptions& options) const {
  const auto index = static_cast<std::size_t>(step);
  const std::int64_t forced = index < options.forced_ids.size() ? options.forced_ids[index] : std::int64_t{-1};
  const auto choose = [&] {
    RECORD_FUNCTION("qwen3::sampling", c10::ArrayRef<const c10::IValue>{});
    std::vector<float> widened(static_cast<std::size_t>(config_.vocab_size));
    ops_.to_float(logits, widened.data(), config_.vocab_size);
    return ChooseToken(widened, forced);
  };
  Pass pass;
  pass.step = step;
  Offer(pass, -1, "sampling", [&] { return at::full({1}, choose().id, at::TensorOptions().dtype(at::kLong)); });
  TokenChoice choice = choose();
  if (op_sink_) {
    OpOutput output;
    output.step = step;
    output.op = "sampling";
    output.bits.data = &choice.id;
    output.bits.bytes = sizeof choice.id;
    output.bits.dtype = gtest_determinism::DType::kInt64;
    output.bits.shape = {1};
    op_sink_(output);
  }
  return choice;
}

Generation Engine::Generate(const std::vector<std::int64_t>& prompt_ids, const GenerationOptions& options) {
  internal::CheckRequest(prompt_ids, options, config_.vocab_size, max_positions_);
  const auto prompt = static_cast<std::int64_t>(prompt_ids.size());
  const std::int64_t total = prompt + options.max_tokens;
  rope_.Extend(total);

  Pass pass;
  pass.capacity = (total + 15) / 16 * 16;
  const std::int64_t padded = (config_.head_dim + 15) / 16 * 16;
  const auto tensor_options = at::TensorOptions().dtype(internal::ScalarTypeOf(precision_));
  // Fresh for each generation, so that nothing is left over from the last.
  std::vector<KeyValueCache> caches(layers_.size());
  for (KeyValueCache& cache : caches) {
    cache.keys = at::empty({config_.num_key_value_heads, pass.capacity / 16, config_.head_dim, 16}, tensor_options);
    cache.values = at::empty({config_.num_key_value_heads, pass.capacity, padded}, tensor_options);
  }
  pass.caches = &caches;

  Generation generation;
  const gtest_determinism::DType dtype = internal::DTypeOf(precision_);
  generation.step_logits = LogitRows::Allocate(dtype, options.max_tokens, config_.vocab_size);
  if (options.all_prompt_logits) generation.prompt_logits = LogitRows::Allocate(dtype, prompt, config_.vocab_size);
  std::vector<std::byte> logits(generation.step_logits.row_bytes());

  const Clock::time_point start = Clock::now();
  at::Tensor hidden;
  const std::int64_t chunk = internal::PrefillRows(config_, prefill_chunk_, precision_);
  for (std::int64_t first = 0; first < prompt; first += chunk) {
    const std::int64_t rows = std::min(chunk, prompt - first);
    pass.past = first;
    hidden =
        Forward(std::span(prompt_ids).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows)), pass);
    if (options.all_prompt_logits) Head(hidden, pass, generation.prompt_logits.RowAddress(first));
  }
  if (options.all_prompt_logits) {
    std::memcpy(logits.data(), generation.prompt_logits.RowAddress(prompt - 1), logits.size());
  } else {
    Head(hidden.narrow(0, hidden.size(0) - 1, 1), pass, logits.data());
  }
  generation.prefill_seconds = SecondsSince(start);

  const Clock::time_point decode_start = Clock::now();
  for (int s = 0; s < options.max_tokens; ++s) {
    if (s > 0) {
      pass.step = s;
      pass.past = prompt + s - 1;
      Head(Forward(std::span(generation.tokens).last(1), pass), pass, logits.data());
    }
    TokenChoice choice = Sample(logits.data(), s, options);
    std::memcpy(generation.step_logits.RowAddress(s), logits.data(), logits.size());
    generation.tokens.push_back(choice.id);
    generation.logprobs.push_back(choice.logprob);
    generation.top10.push_back(std::move(choice.top10));
  }
  generation.decode_seconds = SecondsSince(decode_start);
  return generation;
}

}  // namespace

std::unique_ptr<Qwen3Engine> internal::MakeCpuEngine(const Checkpoint& checkpoint, const Qwen3Options& options) {
  return std::make_unique<Engine>(checkpoint, options);
}

}  // namespace suites
