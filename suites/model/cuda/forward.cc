// The operations of one pass through the layers.
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/record_function.h>

#include <cmath>

#include "suites/model/cuda/engine.h"
#include "suites/model/projection.h"

namespace suites::internal {

#define QWEN3_SCOPE(name) RECORD_FUNCTION("qwen3::" name, c10::ArrayRef<const c10::IValue>{})

at::TensorOptions CudaEngine::OptionsOf(at::ScalarType type) const {
  return at::TensorOptions().dtype(type).device(device_);
}

at::Tensor CudaEngine::Empty(std::int64_t rows, std::int64_t columns) const {
  return at::empty({rows, columns}, OptionsOf(ScalarTypeOf(precision_)));
}

const DecodeState* CudaEngine::state() const { return static_cast<const DecodeState*>(state_.const_data_ptr()); }

void CudaEngine::Observe(const Pass& pass, const Site& site, const at::Tensor& output) {
  if (recording_ != nullptr) {
    recording_->sites.push_back({0, site.layer, site.op});
    recording_->pieces.push_back({output.const_data_ptr(), output.nbytes()});
    recording_->kept.push_back(output);
  } else if (tracing_ != nullptr) {
    tracing_->queue.Enqueue(output.const_data_ptr(), output.nbytes(), pass.stream);
    tracing_->sites.push_back({pass.step, site.layer, site.op});
  }
  if (op_sink_) {
    OpOutput seen;
    seen.step = pass.step;
    seen.layer = site.layer;
    seen.op = site.op;
    seen.bits.data = output.const_data_ptr();
    seen.bits.bytes = output.nbytes();
    seen.bits.dtype = output.scalar_type() == at::kLong ? gtest_determinism::DType::kInt64 : DTypeOf(precision_);
    seen.bits.shape = output.sizes().vec();
    seen.bits.space = &gtest_determinism::CudaMemory(device_.index());
    CheckCudaCall(cudaStreamSynchronize(pass.stream), site.op);
    op_sink_(seen);
  }
}

CudaEngine::Tensors CudaEngine::Operation(const Pass& pass, std::initializer_list<Site> sites,
                                          const std::function<Tensors()>& run, const kernels::Int4Matmul* matmul,
                                          const at::Tensor& x) {
  if (replay_sink_) {
    std::size_t i = 0;
    for (const Site& site : sites) {
      replay_sink_(
          {pass.step, site.layer, site.op}, [&] { return Tensors{run()[i]}; }, matmul, x);
      ++i;
    }
  }
  Tensors outputs = run();
  std::size_t i = 0;
  for (const Site& site : sites) {
    const at::Tensor& output = outputs[i++];
    if (fault_ && fault_->layer == site.layer && fault_->op == site.op && (fault_->step > 0) == pass.decode) {
      LaunchFlip(static_cast<std::uint8_t*>(output.mutable_data_ptr()) + fault_->byte, fault_->mask, state(),
                 fault_->step, pass.stream);
    }
    Observe(pass, site, output);
  }
  return outputs;
}

at::Tensor CudaEngine::Embed(const Pass& pass) {
  return Operation(pass, {{-1, "embedding"}}, [&] {
    QWEN3_SCOPE("embedding");
    at::Tensor y = Empty(pass.rows, config_.hidden_size);
    LaunchEmbedding(precision_, embedding_.const_data_ptr(), pass.ids, pass.decode ? state() : nullptr,
                    y.mutable_data_ptr(), pass.rows, config_.hidden_size, pass.stream);
    return Tensors{y};
  })[0];
}

CudaEngine::Tensors CudaEngine::EmbedNorm(const Pass& pass) {
  return Operation(pass, {{-1, "embedding"}, {0, "input_norm"}}, [&] {
    QWEN3_SCOPE("embedding_rms_norm");
    at::Tensor row = Empty(1, config_.hidden_size);
    at::Tensor normal = Empty(1, config_.hidden_size);
    LaunchEmbeddingRmsNorm(precision_, embedding_.const_data_ptr(), pass.ids, state(),
                           layers_.front().input_norm.const_data_ptr(), static_cast<float>(config_.rms_norm_eps),
                           row.mutable_data_ptr(), normal.mutable_data_ptr(), config_.hidden_size, pass.stream);
    return Tensors{row, normal};
  });
}

at::Tensor CudaEngine::Norm(const Pass& pass, const Site& site, const at::Tensor& x, const at::Tensor& weight) {
  return Operation(pass, {site}, [&] {
    QWEN3_SCOPE("rms_norm");
    at::Tensor y = at::empty(x.sizes(), x.options());
    LaunchAddRmsNorm(precision_, x.const_data_ptr(), nullptr, weight.const_data_ptr(),
                     static_cast<float>(config_.rms_norm_eps), nullptr, y.mutable_data_ptr(), x.size(0), x.size(1),
                     pass.stream);
    return Tensors{y};
  })[0];
}

CudaEngine::Tensors CudaEngine::AddNorm(const Pass& pass, int layer, const Site& norm, const at::Tensor& hidden,
                                        const at::Tensor& y, const at::Tensor& weight) {
  return Operation(pass, {{layer, "residual"}, norm}, [&] {
    QWEN3_SCOPE("add_rms_norm");
    at::Tensor sum = at::empty(hidden.sizes(), hidden.options());
    at::Tensor normal = at::empty(hidden.sizes(), hidden.options());
    LaunchAddRmsNorm(precision_, hidden.const_data_ptr(), y.const_data_ptr(), weight.const_data_ptr(),
                     static_cast<float>(config_.rms_norm_eps), sum.mutable_data_ptr(), normal.mutable_data_ptr(),
                     hidden.size(0), hidden.size(1), pass.stream);
    return Tensors{sum, normal};
  });
}

at::Tensor CudaEngine::Add(const Pass& pass, int layer, const at::Tensor& hidden, const at::Tensor& y) {
  return Operation(pass, {{layer, "residual"}}, [&] {
    QWEN3_SCOPE("add");
    at::Tensor sum = at::empty(hidden.sizes(), hidden.options());
    LaunchAddRmsNorm(precision_, hidden.const_data_ptr(), y.const_data_ptr(), nullptr, 0.0f, sum.mutable_data_ptr(),
                     nullptr, hidden.size(0), hidden.size(1), pass.stream);
    return Tensors{sum};
  })[0];
}

at::Tensor CudaEngine::Project(const Pass& pass, int layer, const CudaProjection& projection, const at::Tensor& x) {
  std::vector<at::Tensor> columns;
  for (const CudaProjection::Part& part : projection.parts()) {
    if (part.int4 != nullptr && input_sink_) {
      CheckCudaCall(cudaStreamSynchronize(pass.stream), part.op.c_str());
      input_sink_(pass.step, layer, part.op, x);
    }
    const kernels::Int4Matmul* matmul = part.int4.get();
    columns.push_back(Operation(
        pass, {{layer, part.op.c_str()}}, [&] { return Tensors{Multiply(part, x)}; }, matmul,
        matmul != nullptr ? x : at::Tensor())[0]);
  }
  if (columns.size() == 1) return columns[0];
  return Operation(pass, {{layer, projection.op().c_str()}}, [&] {
    QWEN3_SCOPE("concatenate");
    return Tensors{at::cat(columns, 1)};
  })[0];
}

RopeArgs CudaEngine::RopeOf(const Pass& pass, const Layer& layer, const at::Tensor& qkv, at::Tensor& out) const {
  RopeArgs args;
  args.qkv = qkv.const_data_ptr();
  args.out = out.mutable_data_ptr();
  args.keys = layer.keys.mutable_data_ptr();
  args.values = layer.values.mutable_data_ptr();
  args.q_norm = layer.q_norm.const_data_ptr();
  args.k_norm = layer.k_norm.const_data_ptr();
  args.cosine = cosine_.const_data_ptr<float>();
  args.sine = sine_.const_data_ptr<float>();
  args.state = pass.decode ? state() : nullptr;
  args.first = pass.past;
  args.rows = pass.rows;
  args.capacity = max_positions_;
  args.q_heads = static_cast<int>(config_.num_attention_heads);
  args.kv_heads = static_cast<int>(config_.num_key_value_heads);
  args.head_dim = static_cast<int>(config_.head_dim);
  args.padded_head_dim = padded_head_dim_;
  args.eps = static_cast<float>(config_.rms_norm_eps);
  return args;
}

at::Tensor CudaEngine::Attend(const Pass& pass, int index, const Layer& layer, const at::Tensor& qkv) {
  const bool fused = pass.decode && attention_ == AttentionBackend::kDefault;
  const std::int64_t heads = config_.num_attention_heads;
  const std::int64_t dim = config_.head_dim;
  const double scale = 1.0 / std::sqrt(static_cast<double>(dim));
  Tensors outputs;
  if (fused) {
    outputs = Operation(pass, {{index, "rope"}, {index, "attention"}}, [&] {
      QWEN3_SCOPE("qk_norm_rope_attention");
      at::Tensor rotated = at::empty(qkv.sizes(), qkv.options());
      at::Tensor out = Empty(1, heads * dim);
      const RopeArgs rope = RopeOf(pass, layer, qkv, rotated);
      DecodeAttentionArgs args;
      args.query = rope.out;
      args.keys = rope.keys;
      args.values = rope.values;
      args.out = out.mutable_data_ptr();
      args.workspace = static_cast<float*>(attention_workspace_.mutable_data_ptr());
      args.arrived = static_cast<std::uint32_t*>(arrived_.mutable_data_ptr());
      args.state = rope.state;
      args.capacity = max_positions_;
      args.max_length = pass.max_length;
      args.q_heads = rope.q_heads;
      args.kv_heads = rope.kv_heads;
      args.head_dim = rope.head_dim;
      args.padded_head_dim = padded_head_dim_;
      args.scale = static_cast<float>(scale);
      LaunchRopeAttention(precision_, rope, args, pass.stream);
      return Tensors{rotated, out};
    });
  } else {
    outputs = Operation(pass, {{index, "rope"}}, [&] {
      QWEN3_SCOPE("qk_norm_rope");
      at::Tensor rotated = at::empty(qkv.sizes(), qkv.options());
      LaunchRope(precision_, RopeOf(pass, layer, qkv, rotated), pass.stream);
      return Tensors{rotated};
    });
  }
  const auto by_backend = [&](AttentionBackend backend) {
    QWEN3_SCOPE("attention");
    // Never more of the cache than has been written.
    const std::int64_t positions = pass.past + pass.rows;
    if (backend == AttentionBackend::kDefault && attends_prompts_) {
      at::Tensor out = Empty(pass.rows, heads * dim);
      PrefillAttentionArgs args;
      args.query = outputs[0].const_data_ptr();
      args.keys = layer.keys.const_data_ptr();
      args.values = layer.values.const_data_ptr();
      args.out = out.mutable_data_ptr();
      args.query_stride = outputs[0].size(1);
      args.rows = pass.rows;
      args.past = pass.past;
      args.capacity = max_positions_;
      args.q_heads = static_cast<int>(heads);
      args.kv_heads = static_cast<int>(config_.num_key_value_heads);
      args.scale = static_cast<float>(scale);
      LaunchPrefillAttention(precision_, args, pass.stream);
      return Tensors{out};
    }
    const at::Tensor query = outputs[0].narrow(1, 0, heads * dim).view({pass.rows, heads, dim});
    const at::Tensor keys = layer.keys.narrow(1, 0, positions).narrow(2, 0, dim);
    const at::Tensor values = layer.values.narrow(1, 0, positions).narrow(2, 0, dim);
    return Tensors{AttendByBackend(backend, query, keys, values, scale)};
  };
  if (replay_sink_) {
    for (const auto& [op, backend] : replayed_backends_) {
      const AttentionBackend which = backend;
      replay_sink_({pass.step, index, op}, [&] { return by_backend(which); }, nullptr, {});
    }
  }
  if (fused) return outputs[1];
  return Operation(pass, {{index, "attention"}}, [&] { return by_backend(attention_); })[0];
}

at::Tensor CudaEngine::SiluMul(const Pass& pass, int index, const at::Tensor& gate_up) {
  return Operation(pass, {{index, "silu_mul"}}, [&] {
    QWEN3_SCOPE("silu_mul");
    at::Tensor y = Empty(gate_up.size(0), config_.intermediate_size);
    LaunchSiluMul(precision_, gate_up.const_data_ptr(), y.mutable_data_ptr(), gate_up.size(0),
                  config_.intermediate_size, pass.stream);
    return Tensors{y};
  })[0];
}

at::Tensor CudaEngine::Forward(const Pass& pass) {
  at::Tensor hidden, x;
  if (pass.decode) {
    const Tensors both = EmbedNorm(pass);
    hidden = both[0];
    x = both[1];
  } else {
    hidden = Embed(pass);
    x = Norm(pass, {0, "input_norm"}, hidden, layers_.front().input_norm);
  }
  const int count = static_cast<int>(layers_.size());
  for (int i = 0; i < count; ++i) {
    const Layer& layer = layers_[static_cast<std::size_t>(i)];
    x = Attend(pass, i, layer, Project(pass, i, layer.qkv, x));
    x = Project(pass, i, layer.o, x);
    Tensors both = AddNorm(pass, i, {i, "post_norm"}, hidden, x, layer.post_norm);
    x = SiluMul(pass, i, Project(pass, i, layer.gate_up, both[1]));
    x = Project(pass, i, layer.down, x);
    const bool is_last = i + 1 == count;
    // The head wants one row of a prompt, and norms that alone.
    if (is_last && !pass.decode) return Add(pass, i, both[0], x);
    both = is_last ? AddNorm(pass, i, {-1, "final_norm"}, both[0], x, final_norm_)
                   : AddNorm(pass, i, {i + 1, "input_norm"}, both[0], x,
                             layers_[static_cast<std::size_t>(i) + 1].input_norm);
    hidden = both[0];
    x = both[1];
  }
  return x;
}

at::Tensor CudaEngine::Head(const Pass& pass, const at::Tensor& hidden) {
  const at::Tensor x = pass.decode ? hidden : Norm(pass, {-1, "final_norm"}, hidden, final_norm_);
  if (replay_sink_ && !replayed_backends_.empty()) {
    replay_sink_({pass.step, -1, "lm_head.cublas"}, [&] { return Tensors{at::mm(x, head_.t())}; }, nullptr, {});
  }
  return Operation(pass, {{-1, "lm_head"}}, [&] { return Tensors{DenseLinearOnDevice(x, head_)}; })[0];
}

void CudaEngine::Sample(const Pass& pass, const at::Tensor& logits) {
  const auto launch = [&](const at::Tensor& state, const at::Tensor& tokens, const at::Tensor& token) {
    QWEN3_SCOPE("sampling");
    SampleArgs args;
    args.logits = logits.const_data_ptr();
    args.vocab = config_.vocab_size;
    args.forced = forced_.const_data_ptr<std::int64_t>();
    args.tokens = tokens.mutable_data_ptr<std::int64_t>();
    args.token = token.mutable_data_ptr<std::int64_t>();
    args.state = static_cast<DecodeState*>(state.mutable_data_ptr());
    args.partial = static_cast<std::uint64_t*>(partial_.mutable_data_ptr());
    args.arrived = static_cast<std::uint32_t*>(arrived_.mutable_data_ptr());
    LaunchSample(precision_, args, pass.stream);
    return token;
  };
  if (replay_sink_) {
    // A state of its own; the logits are kept in the row where they will be.
    const auto alone = [&] { return Tensors{launch(state_.clone(), tokens_.clone(), at::empty_like(token_))}; };
    replay_sink_({pass.step, -1, "sampling"}, alone, nullptr, {});
  }
  launch(state_, tokens_, token_);
  Observe(pass, {-1, "sampling"}, token_);
}

}  // namespace suites::internal
